"""Bad input at each door, and its clear answer (DESIGN.md 7; the table in docs/operate.md)."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.drive import PLI, ROOT, Demo, environment, free_ports, message, pli, site
from tests.needs import need
from tests.outside import swaks

pytestmark = pytest.mark.blackbox
Talk = Callable[[str], str]
TO = "jane.roe=example.net@letters.pli.test"


def _swaks(gateway: Demo, *words: str, password: str | None = None, sender: str | None = None) -> str:
    """The dialog of one swaks run over 465."""
    who = gateway.account()
    done = subprocess.run(
        [swaks(), "--server", f"127.0.0.1:{gateway.port('submissions')}", "--tls-on-connect",
         "--auth", "PLAIN", "--auth-user", who["address"], "--auth-password", password or who["app_password"],
         "--from", sender or who["address"], "--ehlo", "client.example.org", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout


def test_wrong_password(gateway: Demo) -> None:
    dialog = _swaks(gateway, "--to", TO, password="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    assert "535 5.7.8" in dialog
    assert "250 2.0.0 deposit" not in dialog


def test_mail_from_of_another_account(gateway: Demo) -> None:
    assert "553 5.7.1" in _swaks(gateway, "--to", TO, sender=gateway.account(1)["address"])


def test_from_header_of_another_account(gateway: Demo) -> None:
    assert "553 5.7.1" in _swaks(gateway, "--to", TO, "--header", f"From: {gateway.account(1)['address']}")


@pytest.mark.parametrize("to", ["jane.roe@letters.pli.test", "no=equals=@letters.pli.test", "nobody@pli.test"])
def test_unknown_recipient_form(gateway: Demo, to: str) -> None:
    assert re.search(r"550 5\.1\.[13]", _swaks(gateway, "--to", to))


def test_ordinary_recipient_without_the_dedicated_address(gateway: Demo) -> None:
    dialog = _swaks(gateway, "--to", "friend@example.net")
    assert "550 5.7.1" in dialog
    assert "letter@pli.test" in dialog


def test_no_recipients_in_the_text(gateway: Demo) -> None:
    assert "550 5.1.0" in _swaks(gateway, "--to", "letter@pli.test", "--body", "no lines here")


def test_bcc_line(gateway: Demo) -> None:
    assert "550 5.6.0" in _swaks(gateway, "--to", TO, "--add-header", "Bcc: hidden@example.net")


def test_unknown_tag_holds_the_letter_and_asks(gateway: Demo) -> None:
    who = gateway.account()
    dialog = _swaks(gateway, "--to", TO, "--header", "Subject: [fr] [urgnt] hello")
    # Words in brackets that are no option may be the sender's own; in an address there is no such doubt.
    assert "250 2.0.0" in dialog
    dialog = _swaks(gateway, "--to", "jane.roe=example.net+urgnt@letters.pli.test")
    held = re.search(r"250 2\.0\.0 held=([0-9a-f]+)", dialog)
    assert held is not None, dialog
    assert b"urgnt" in gateway.mailbox(who["address"]).wait("held")


def test_oversized(gateway: Demo) -> None:
    who = gateway.account()
    with Session(gateway) as talk:
        assert talk(f"MAIL FROM:<{who['address']}> SIZE=999999999").startswith("552 5.3.4")
    big = "".join("x" * 70 + "\r\n" for _ in range(400_000))
    with Session(gateway) as talk:
        for line in (f"MAIL FROM:<{who['address']}>", f"RCPT TO:<{TO}>", "DATA"):
            answer = talk(line)
        assert answer.startswith("354")
        raw = message(who, TO, "big", "start\n").decode()
        assert talk(raw + big + "\r\n.").startswith("552 5.3.4")
        assert talk("NOOP").startswith("250")


@pytest.mark.parametrize(
    ("name", "text"), [("bare LF", "one\ntwo"), ("bare CR", "one\rtwo"), ("NUL", "one\0two")], ids=lambda v: str(v)[:7]
)
def test_bare_cr_lf_and_nul(gateway: Demo, name: str, text: str) -> None:
    who = gateway.account()
    with Session(gateway) as talk:
        for line in (f"MAIL FROM:<{who['address']}>", f"RCPT TO:<{TO}>", "DATA"):
            talk(line)
        raw = message(who, TO, name, "hello\n").decode()
        assert talk(raw + text + "\r\n.").startswith("550 5.6.0")
        assert talk("NOOP").startswith("250")


def test_8_bit_junk_headers_are_kept_as_they_are(gateway: Demo) -> None:
    who, to = gateway.account(), "junk@example.net"
    encoded = f"{to.replace('@', '=')}@letters.pli.test"
    raw = message(who, encoded, "SUBJECT", "hello\n", "X-Junk: HERE").replace(
        b"SUBJECT", b"caf\xe9 \xff\xfe =?utf-8?q?=C3?="
    )
    raw = raw.replace(b"HERE", bytes(range(0x80, 0x100)))
    gateway.client().send([encoded], raw)
    recipient, link = gateway.recipient(to), gateway.link(to)
    recipient.decide(link, "accept")
    assert recipient.browser.get(f"{link}/letter.eml") == raw
    gateway.mailbox(who["address"]).wait("handed-over")


def test_a_refused_deposit_is_evidence_and_no_letter(gateway: Demo) -> None:
    """EN 319 522-1 A.2: the sender's "I handed it in" has an answer."""

    def found() -> dict[str, int]:
        done = pli("check", "--json", config=gateway.folder / "pli.toml")
        return dict(json.loads(done.stdout))

    before = found()
    assert "550 5.6.0" in _swaks(gateway, "--to", TO, "--add-header", "Bcc: hidden@example.net")
    after = found()
    assert (after["rejections"], after["letters"]) == (before["rejections"] + 1, before["letters"])
    assert after["clean"], after["wrong"]


def test_strangers_on_port_25(gateway: Demo) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port("mx")), 30) as plain:
        talk = _talk(plain)
        talk("EHLO stranger.example.org")
        assert talk("MAIL FROM:<spam@example.org>").startswith("250")
        assert talk(f"RCPT TO:<{TO}>").startswith("550 5.7.1")
        assert talk("RCPT TO:<victim@example.net>").startswith("550 5.7.1")


class Session:
    """A raw SMTP dialog over 465, logged in."""

    def __init__(self, gateway: Demo) -> None:
        self.gateway = gateway

    def __enter__(self) -> Talk:
        context = ssl.create_default_context(cafile=self.gateway.ca)
        plain = socket.create_connection(("127.0.0.1", self.gateway.port("submissions")), 30)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        talk, who = _talk(self.socket), self.gateway.account()
        talk("EHLO test.example.org")
        secret = base64.b64encode(f"\0{who['address']}\0{who['app_password']}".encode()).decode()
        assert talk(f"AUTH PLAIN {secret}").startswith("235")
        return talk

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _talk(plain: socket.socket) -> Talk:
    file = plain.makefile("rb")

    def answer() -> str:
        lines = []
        while True:
            line = file.readline().decode()
            lines.append(line)
            if len(line) < 4 or line[3] != "-":
                return lines[0] if len(lines) == 1 else lines[-1]

    answer()

    def talk(line: str) -> str:
        plain.sendall(line.encode("latin-1") + b"\r\n")
        return answer()

    return talk


# -- commands and configuration ------------------------------------------------------------------------------------------


def test_a_configuration_with_five_mistakes_names_all_five(tmp_path: Path) -> None:
    config = tmp_path / "pli.toml"
    config.write_text(
        f"""
[gateway]
domain = "nodots"
public_url = "https://pli.example.org"
data_dir = "{tmp_path}/data"
keys_dir = "{tmp_path}/data/keys"
profil = "fr"
[operator]
name = ""
[smtp]
submission = "127.0.0.1"
submissions = ""
max_bytes = "many"
"""
    )
    done = pli("run", config=config)
    assert done.returncode == 2
    for named in ("[gateway] domain", "[gateway] profil", "[operator] name", "[smtp] submission", "[smtp] max_bytes"):
        assert named in done.stderr, done.stderr
    assert "did you mean profile?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with (
        site(tmp_path / "s", free_ports(1)[0]) as where,
        socket.create_server(("127.0.0.1", where.ports["submission"])),
    ):
        done = pli("run", config=where.config)
        assert done.returncode == 2
        assert f"[smtp] submission: 127.0.0.1:{where.ports['submission']} is taken" in done.stderr
    with site(tmp_path / "w", free_ports(1)[0]) as where, socket.create_server(("127.0.0.1", where.ports["web"])):
        done = pli("run", config=where.config)
        assert done.returncode == 2
        assert f"[web] listen: 127.0.0.1:{where.ports['web']} is taken" in done.stderr


def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    with site(tmp_path / "s", free_ports(1)[0], database=f"sqlite:{tmp_path}/s/data/pli.db") as where:
        file = where.folder / "data" / "pli.db"
        file.write_bytes(b"this is no database" * 1000)
        done = pli("run", config=where.config)
        assert done.returncode == 2
        assert "[database] url" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_database_file_that_is_read_only(tmp_path: Path) -> None:
    with site(tmp_path / "s", free_ports(1)[0], database=f"sqlite:{tmp_path}/s/data/pli.db") as where:
        (where.folder / "data" / "pli.db").chmod(0o400)
        # Root writes to every file; without that right the file's mode counts for him, too.
        as_anybody = (
            [need("setpriv", "apt-get install util-linux"), "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
        )
        done = subprocess.run(
            [*as_anybody, *PLI, "--config", str(where.config), "run"],
            capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment(), check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "[database] url" in done.stderr
        assert "readonly" in done.stderr


def test_keys_that_are_missing_and_a_schema_that_is_missing(tmp_path: Path) -> None:
    with site(tmp_path / "s", free_ports(1)[0], database=f"sqlite:{tmp_path}/s/data/pli.db") as where:
        (where.folder / "keys").rename(where.folder / "elsewhere")
        done = pli("run", config=where.config)
        assert done.returncode == 2
        assert "pli keys init" in done.stderr
        (where.folder / "elsewhere").rename(where.folder / "keys")
        (where.folder / "data" / "pli.db").unlink()
        done = pli("run", config=where.config)
        assert done.returncode == 2
        assert "pli migrate" in done.stderr


def test_unreadable_input_of_verify(tmp_path: Path) -> None:
    assert pli("verify", str(tmp_path / "none.pdf")).returncode == 2
    (tmp_path / "x.pdf").write_bytes(b"not a pdf")
    done = pli("verify", str(tmp_path / "x.pdf"))
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
