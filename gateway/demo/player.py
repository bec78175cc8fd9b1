"""`pli demo --auto`: four letters through real SMTP and HTTP, each to another end, then every proof verified.

The play runs in a thread of its own and sees the gateway from outside only; it moves the clock file through the window.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.check import Findings, check
from gateway.demo.people import Browser, Mailbox, Recipient, SmtpClient, Surprise, link_in, parsed
from gateway.demo.stage import DEDICATED, LETTERS, Stage, sample_message
from gateway.proof.verifier import run_verify

ENDS = {
    "accepted": "accepts@example.net",
    "refused": "refuses@example.net",
    "unclaimed": "ignores@example.net",
    "undeliverable": "nobody@bounce.example.net",
}
_ZONE = ZoneInfo("Europe/Paris")
_REPLY = re.compile(r"deposit=([0-9a-f]+) letters=([0-9a-f]+)")
_TEXT = "Dear recipient,\n\nthis is a sample letter of the demo.\n\nKind regards\n"


@dataclass
class Row:
    """A letter's line in the table."""

    end: str
    recipient: str
    gesture: str
    letter: str = ""
    events: list[str] = field(default_factory=list)
    proofs: int = 0
    verified: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return (
            not self.failures
            and self.proofs > 0
            and self.verified == self.proofs
            and self.events[-1:] == [_LAST[self.end]]
        )


_LAST = {"accepted": "handed-over", "refused": "refused", "unclaimed": "unclaimed", "undeliverable": "undeliverable"}


async def play(stage: Stage, say: Callable[[str], None]) -> tuple[list[Row], Findings]:
    """Play, unpack and verify everything; returns the table and what the check of the store found."""
    rows = await asyncio.to_thread(_Play(stage, say).all)
    await _until_quiet(stage)
    say("verifying every proof")
    await asyncio.to_thread(_unpack_and_verify, stage, rows)
    stage.move_clock(timedelta(0))
    findings = await check(stage.gateway.office)
    return rows, findings


@dataclass
class _Play:
    stage: Stage
    say: Callable[[str], None]
    letters: dict[str, bytes] = field(default_factory=dict)

    def all(self) -> list[Row]:
        rows = self._deposit_all()
        for row in rows:
            # Each sees its own letter notified before time moves, so that all windows begin on the same day.
            if row.end != "undeliverable":
                self._sender_mail(row, "notified")
        self._sender_mail(rows[3], "undeliverable")
        self._advance(timedelta(days=1))
        self._accept(rows[0])
        self._refuse(rows[1])
        self._ignore(rows[2])
        return rows

    def _deposit_all(self) -> list[Row]:
        encoded = {end: f"{address.replace('@', '=')}@{LETTERS}" for end, address in ENDS.items()}
        lines = f"To: Refusing Recipient <{ENDS['refused']}>\nLanguage: fr\n\n{_TEXT}"
        unclaimed = ENDS["unclaimed"]
        plans = (
            ("accepted", "address inside the address", [encoded["accepted"]], encoded["accepted"], _TEXT, 0),
            ("refused", "lines at the top", [DEDICATED], DEDICATED, lines, 1),
            ("unclaimed", "dedicated address as copy", [unclaimed, DEDICATED], unclaimed, _TEXT, 0),
            (
                "undeliverable",
                "address inside the address",
                [encoded["undeliverable"]],
                encoded["undeliverable"],
                _TEXT,
                1,
            ),
        )
        rows = []
        for end, gesture, to, header, text, who in plans:
            sender, ports = self.stage.senders[who], self.stage.gateway.ports
            port = ports["submissions"] if who == 0 else ports["submission"]
            client = SmtpClient("127.0.0.1", port, str(self.stage.ca), sender.address, sender.app_password, who == 0)
            message = sample_message(sender, header, f"Sample letter: {end}", text)
            reply = _REPLY.search(client.send(to, message))
            if reply is None:
                raise Surprise("the reply to the message names no letter")
            folder = self.stage.out / end
            folder.mkdir(parents=True)
            (folder / "letter.eml").write_bytes(message)
            self.say(f"deposited    {reply[2]}  for {ENDS[end]}")
            rows.append(Row(end, ENDS[end], gesture, reply[2]))
        return rows

    def _accept(self, row: Row) -> None:
        recipient, link = self._recipient(row)
        recipient.decide(link, "accept")
        page = recipient.browser.get(f"{link}/letter").decode()
        letter = recipient.browser.get(f"{link}/letter.eml")
        if letter != (self.stage.out / row.end / "letter.eml").read_bytes():
            row.failures.append("the letter handed over is not the deposit, byte for byte")
        recipient.browser.post(f"{link}/original", {"nonce": _nonce(page)})
        receipt = recipient.browser.get(f"{link}/receipt.pdf")
        (self.stage.out / row.end / "receipt.pdf").write_bytes(receipt)
        self._sender_mail(row, "handed-over")
        self.say(f"accepted     {row.letter}  and handed over")

    def _refuse(self, row: Row) -> None:
        recipient, link = self._recipient(row)
        recipient.decide(link, "refuse")
        self._sender_mail(row, "refused")
        self.say(f"refused      {row.letter}")

    def _ignore(self, row: Row) -> None:
        profile = self.stage.gateway.office.profile
        day = datetime.now(UTC) + timedelta(days=-20)
        first = day.astimezone(_ZONE).date()
        for number, days in enumerate(sorted(profile.reminders), 1):
            self.stage.go_to(
                datetime.combine(first + timedelta(days=days), time(profile.reminder_hour, 0, 2), _ZONE).astimezone(UTC)
            )
            self._mailbox(row.recipient).wait("reminded", number)
            self.say(f"reminded     {row.letter}  for the {number}. time, D+{days}")
        close = first + timedelta(days=profile.window_days + 1)
        self.stage.go_to(datetime.combine(close, time(0, 0, 2), _ZONE).astimezone(UTC))
        self._sender_mail(row, "unclaimed")
        self.say(f"unclaimed    {row.letter}  at D+{profile.window_days + 1} 00:00")

    def _recipient(self, row: Row) -> tuple[Recipient, str]:
        mailbox = self._mailbox(row.recipient)
        return Recipient(Browser(self.stage.url), mailbox), link_in(mailbox.wait("notice"))

    def _sender_mail(self, row: Row, event: str) -> bytes:
        number = next(i for i, end in enumerate(ENDS) if end == row.end) % 2
        return self._mailbox(self.stage.senders[number].address).wait(event, Pli_Letter=row.letter)

    def _mailbox(self, address: str) -> Mailbox:
        return Mailbox(Browser(self.stage.url), address)

    def _advance(self, by: timedelta) -> None:
        self.stage.move_clock(timedelta(days=-20) + by)


def _nonce(page: str) -> str:
    found = re.search(r'name="nonce"\s+value="([^"]+)"', page)
    if found is None:
        raise Surprise("the letter page has no form")
    return found[1]


async def _until_quiet(stage: Stage, patience: float = 20.0) -> None:
    """Wait until no mail is on its way, twice in a row."""
    quiet = 0
    for _ in range(int(patience / 0.2)):
        await asyncio.sleep(0.2)
        quiet = quiet + 1 if stage.gateway.queue.idle else 0
        if quiet >= 5:
            return


def _unpack_and_verify(stage: Stage, rows: list[Row]) -> None:
    for row in rows:
        folder = stage.out / row.end
        mails = sorted(
            (mail for mail in stage.mailbox.messages() if _is_about(stage, mail.id, row)),
            key=lambda mail: (mail.at, mail.id),
        )
        for number, mail in enumerate(mails, 1):
            raw = stage.mailbox.raw(mail.id)
            if raw is not None:
                row.events.append(str(mail.event))
                _unpack(folder, f"{number:02}-{mail.event}", raw, row)
        # Apart from the proofs: a notice proves nothing, and `pli verify` says so of every mail that it finds.
        _keep_recipients_mails(stage, row, stage.out / "recipients" / row.end)
        _verify(folder, stage.ca, row)


def _is_about(stage: Stage, mail_id: str, row: Row) -> bool:
    raw = stage.mailbox.raw(mail_id)
    return raw is not None and parsed(raw)["Pli-Letter"] == row.letter


def _unpack(folder: Path, name: str, raw: bytes, row: Row) -> None:
    (folder / f"{name}.eml").write_bytes(raw)
    parts = folder / name
    for part in parsed(raw).iter_attachments():
        content, filename = part.get_payload(decode=True), part.get_filename()
        if isinstance(content, bytes) and filename in ("proof.pdf", "evidence.json"):
            parts.mkdir(exist_ok=True)
            (parts / filename).write_bytes(content)


def _keep_recipients_mails(stage: Stage, row: Row, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, mail in enumerate(stage.mailbox.messages(to=row.recipient), 1):
        raw = stage.mailbox.raw(mail.id)
        if raw is not None:
            (folder / f"{number:02}-{mail.event or 'mail'}.eml").write_bytes(raw)


def _verify(folder: Path, ca: Path, row: Row) -> None:
    """Every proof by itself, every status mail, and the folder as a chain: with `pli verify`, as a stranger would."""
    for proof in sorted(folder.glob("*/proof.pdf")):
        row.proofs += 1
        text, code = run_verify(proof.parent, folder / "letter.eml", ca, False)
        row.verified += code == 0
        if code:
            row.failures.append(f"{proof.parent.name}: pli verify exits with {code}: {text}")
    for path in [*sorted(folder.glob("*.eml")), folder]:
        if path.name != "letter.eml":
            text, code = run_verify(path, None, ca, False)
            # A status mail without a proof holds a bare record: only a later proof in the folder vouches for it.
            bare = path.suffix == ".eml" and not (folder / path.stem / "proof.pdf").exists()
            if code != (3 if bare else 0):
                row.failures.append(f"{path.name}: pli verify exits with {code}: {text}")


def table(rows: list[Row], findings: Findings) -> str:
    lines = [f"{'end':<14} {'recipient':<26} {'proofs':<8} {'verified':<9} events"]
    lines += [
        f"{row.end:<14} {row.recipient:<26} {row.proofs:<8} {row.verified:<9} {' '.join(row.events)}" for row in rows
    ]
    lines += [f"  {row.end}: {failure}" for row in rows for failure in row.failures]
    clean = "clean" if not findings.wrong else "; ".join(findings.wrong)
    lines.append(f"store          {findings.letters} letters, {findings.records} records: {clean}")
    return "\n".join(lines)


def result(rows: list[Row], findings: Findings, seconds: float) -> str:
    """out/result.json: the table again, for programs."""
    good = all(row.good for row in rows) and not findings.wrong
    letters = [{**asdict(row), "good": row.good} for row in rows]
    return json.dumps(
        {"good": good, "seconds": round(seconds, 1), "letters": letters, "check": asdict(findings)}, indent=2
    )
