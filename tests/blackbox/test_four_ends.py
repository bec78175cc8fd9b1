"""The four ends of a letter, from outside: swaks, curl and smtplib deposit, a browser decides, the mailbox receives, and programs
that others wrote judge every proof and every mail."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as hour
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.blackbox.drive import Demo, demo, message, pli
from tests.needs import need
from tests.outside import mailauth_verdicts, opendkim_verdict, pdfsig, swaks

pytestmark = pytest.mark.blackbox
ZONE = ZoneInfo("Europe/Paris")
PROOFS = {
    "accepted": ("deposited", "handed-over"),
    "refused": ("deposited", "refused"),
    "unclaimed": ("deposited", "unclaimed"),
    "undeliverable": ("deposited", "undeliverable"),
}


class Story:
    """A demo of its own, in which one letter came to each end. letters: id and bytes by end."""

    def __init__(self, where: Demo) -> None:
        self.where = where
        self.letters: dict[str, tuple[str, bytes]] = {}

    def play(self) -> None:
        self._accepted()
        self._refused()
        self._undeliverable()
        self._unclaimed()

    def _accepted(self) -> None:
        """Deposited by swaks over 465."""
        who, to = self.where.account(), "anna=example.net@letters.pli.test"
        raw = message(who, to, "Für Anna", "Liebe Anna,\n\n.leading dot\nGrüße\n")
        path = self.where.folder / "anna.eml"
        path.write_bytes(raw)
        done = subprocess.run(
            [swaks(), "--server", f"127.0.0.1:{self.where.port('submissions')}",
             "--tls-on-connect", "--tls-verify", "--tls-ca-path", self.where.ca, "--auth-user", who["address"],
             "--auth-password", who["app_password"], "--from", who["address"], "--to", to, "--data", f"@{path}"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        self.letters["accepted"] = self._known("deposited", "Für Anna"), b""
        link = self.where.link("anna@example.net")
        recipient = self.where.recipient("anna@example.net")
        recipient.decide(link, "accept")
        page = recipient.browser.get(f"{link}/letter").decode()
        assert "Grüße" in page
        assert "Jane Doe" in page
        kept = recipient.browser.get(f"{link}/letter.eml")
        self.letters["accepted"] = self.letters["accepted"][0], kept
        # swaks sends what it was given, but for the Date and its own line endings at the end.
        assert kept.rstrip() == raw.rstrip()
        assert recipient.browser.get(f"{link}/receipt.pdf").startswith(b"%PDF-")

    def _refused(self) -> None:
        """Deposited by curl over smtps, with the recipient in a line at the top."""
        who = self.where.account()
        raw = message(who, "letter@pli.test", "To refuse", "To: Bob <bob@example.net>\nLanguage: fr\n\nBonjour\n")
        path = self.where.folder / "bob.eml"
        path.write_bytes(raw)
        done = subprocess.run(
            [need("curl", "apt-get install curl"), "-sS", "--url", f"smtps://127.0.0.1:{self.where.port('submissions')}",
             "--cacert", self.where.ca, "--user", f"{who['address']}:{who['app_password']}", "--mail-from", who["address"],
             "--mail-rcpt", "letter@pli.test", "-T", str(path)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.letters["refused"] = self._known("deposited", "To refuse"), raw
        link = self.where.link("bob@example.net")
        page = self.where.recipient("bob@example.net").decide(link, "refuse")
        assert "refus" in page.lower()

    def _undeliverable(self) -> None:
        letter, raw = self.where.deposit("nobody@bounce.example.net", subject="Into the void")
        self.letters["undeliverable"] = letter, raw
        self._mail("undeliverable", letter)

    def _unclaimed(self) -> None:
        """Ignored: the clock goes through the reminders to the end of the window (CPCE R.53-3: D+15, closed at D+16)."""
        letter, raw = self.where.deposit("carl@example.net", subject="To ignore")
        self.letters["unclaimed"] = letter, raw
        self._mail("notified", letter)
        day = (datetime.now(UTC) - timedelta(days=20)).astimezone(ZONE).date()
        for number, days in enumerate((7, 12, 14), 1):
            self._go_to(datetime.combine(day + timedelta(days=days), hour(9, 0, 2), ZONE))
            self.where.mailbox("carl@example.net").wait("reminded", number)
        self._go_to(datetime.combine(day + timedelta(days=15), hour(23, 59, 50), ZONE))
        time.sleep(2.5)
        assert not self._mails("unclaimed", letter), "closed before the last day was over"
        self._go_to(datetime.combine(day + timedelta(days=16), hour(0, 0, 1), ZONE))
        self._mail("unclaimed", letter)

    def _go_to(self, at: datetime) -> None:
        self.where.move_clock((at - datetime.now(UTC)).total_seconds())

    def _mails(self, event: str, letter: str) -> list[bytes]:
        box = self.where.mailbox(self.where.account()["address"])
        raws = [box.raw(mail["id"]) for mail in box.mails() if mail["event"] == event]
        return [raw for raw in raws if f"Pli-Letter: {letter}".encode() in raw]

    def _mail(self, event: str, letter: str) -> bytes:
        return self.where.mailbox(self.where.account()["address"]).wait(event, Pli_Letter=letter)

    def _known(self, event: str, subject: str) -> str:
        """The id of the letter with this subject."""
        box, end = self.where.mailbox(self.where.account()["address"]), time.monotonic() + 20
        while time.monotonic() < end:
            for mail in box.mails():
                if mail["event"] == event and subject in mail["subject"]:
                    return str(_parsed(box.raw(mail["id"]))["Pli-Letter"])
            time.sleep(0.1)
        raise AssertionError(f"no {event} mail for {subject!r}")


def _parsed(raw: bytes) -> EmailMessage:
    found = message_from_bytes(raw, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def _part(raw: bytes, name: str) -> bytes:
    for part in _parsed(raw).iter_attachments():
        if part.get_filename() == name:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content
    raise AssertionError(f"no part {name}")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with demo(tmp_path_factory.mktemp("ends") / "d") as where:
        played = Story(where)
        played.play()
        yield played


@pytest.mark.parametrize("end", PROOFS)
def test_each_end_has_its_proofs_and_pdfsig_and_we_accept_them(story: Story, end: str, tmp_path: Path) -> None:
    letter, raw = story.letters[end]
    (tmp_path / "letter.eml").write_bytes(raw)
    for event in PROOFS[end]:
        mail = story._mail(event, letter)
        pdf, record = tmp_path / f"{event}.pdf", json.loads(_part(mail, "evidence.json"))
        pdf.write_bytes(_part(mail, "proof.pdf"))
        said = pdfsig(pdf, story.where.ca)
        for sentence in ("Signature is Valid", "Certificate is Trusted", "Total document signed"):
            assert sentence in said, said
        assert record["state"] == _parsed(mail)["Pli-State"]
        done = pli("verify", str(pdf), "--letter", str(tmp_path / "letter.eml"), "--trust", story.where.ca, "--json")
        assert done.returncode == 0, done.stdout
        assert pli("verify", str(pdf)).returncode == 3
        other = tmp_path / "other.eml"
        other.write_bytes(raw + b"x")
        assert pli("verify", str(pdf), "--letter", str(other), "--trust", story.where.ca).returncode == 1


def test_every_mail_to_the_sender_is_in_the_thread_of_his_letter(story: Story) -> None:
    box = story.where.mailbox(story.where.account()["address"])
    mails = [_parsed(box.raw(mail["id"])) for mail in box.mails()]
    assert len(mails) >= 12
    for mail in mails:
        assert mail["In-Reply-To"]
        assert mail["In-Reply-To"] in mail["References"]
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["Pli-Event"]
        assert mail["Pli-State"]


def test_both_signatures_of_every_mail_are_good_for_mailauth(story: Story) -> None:
    mails = _all_mails(story.where)
    assert len(mails) > 20
    for name, verdicts in mailauth_verdicts(mails, story.where.folder / "out" / "trust" / "dkim.txt").items():
        assert sorted((v["algorithm"], v["result"]) for v in verdicts) == [
            ("ed25519-sha256", "pass"),
            ("rsa-sha256", "pass"),
        ], (name, verdicts)


def test_the_rsa_signature_of_every_mail_is_good_for_opendkim(story: Story, tmp_path: Path) -> None:
    for name, raw in _all_mails(story.where).items():
        said = opendkim_verdict(raw, story.where.folder / "out" / "trust" / "dkim.txt", tmp_path)
        assert "2048-bit key) succeeded" in said, (name, said)


def test_the_store_is_clean_and_the_gateway_stops_when_told(story: Story) -> None:
    done = pli("check", "--json", config=story.where.folder / "pli.toml")
    found = json.loads(done.stdout)
    assert found["clean"], found["wrong"]
    assert found["letters"] == 5  # with the sample letter that the demo sends
    assert story.where.process.stop() == 0


def _all_mails(where: Demo) -> dict[str, bytes]:
    with urllib.request.urlopen(f"{where.url}/mailbox/api/messages", timeout=30) as answer:
        listed = json.loads(answer.read())
    mails = {}
    for mail in listed:
        with urllib.request.urlopen(f"{where.url}/mailbox/api/messages/{mail['id']}.eml", timeout=30) as answer:
            mails[f"{mail['event']}-{mail['id']}"] = bytes(answer.read())
    return mails


def test_the_demo_plays_by_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    done = pli("demo", "--auto", "--dir", str(tmp_path / "d"), env={"HOME": os.environ.get("HOME", "/")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    out = tmp_path / "d" / "out"
    result = json.loads((out / "result.json").read_text())
    assert result["good"]
    for end in PROOFS:
        assert list((out / end).glob("[0-9][0-9]-deposited.eml")), end
        assert (out / end / "letter.eml").is_file()
    assert {"ca.pem", "dkim.txt"} <= {path.name for path in (out / "trust").iterdir()}
