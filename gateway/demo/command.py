"""`pli demo` on its stage: plays by itself (--auto), or tells a person what to do and stays up."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click

from gateway.demo.mailbox import Received
from gateway.demo.people import SmtpClient
from gateway.demo.player import play, result, table
from gateway.demo.stage import DEDICATED, LETTERS, Sender, Stage, sample_message, stage
from gateway.ready import announce, until_told
from gateway.running import PortalMaker

_SAMPLE_TO = "recipient@example.net"


async def auto(make_portal: PortalMaker, folder: Path, base_port: int | None, database: str | None) -> int:
    began = time.monotonic()
    async with stage(folder, base_port, make_portal, database) as on:
        rows, findings = await play(on, click.echo)
        text = table(rows, findings)
        written = result(rows, findings, time.monotonic() - began)
        (on.out / "result.json").write_text(written + "\n", "utf-8")
    click.echo(
        f"\n{text}\n\n{on.out}: mails, proofs and the certificates to check them with ({time.monotonic() - began:.1f} s)"
    )
    return 0 if all(row.good for row in rows) and not findings.wrong else 1


async def by_hand(make_portal: PortalMaker, folder: Path, base_port: int, database: str | None) -> None:
    async with stage(folder, base_port, make_portal, database) as on:
        ready = on.gateway.ready(
            ca=str(on.ca),
            urls={"portal": on.url, "mailbox": f"{on.url}/mailbox/"},
            accounts=[{"address": s.address, "name": s.name, "app_password": s.app_password} for s in on.senders],
        )
        announce(on.gateway.office.settings, ready)
        on.mailbox.listen(_say)
        click.echo(_guide(on))
        await asyncio.to_thread(_send_sample, on, on.senders[0])
        await until_told(on.gateway.office.settings)
        click.echo("\nstopping")


def _send_sample(on: Stage, sender: Sender) -> None:
    to = f"{_SAMPLE_TO.replace('@', '=')}@{LETTERS}"
    text = "Dear recipient,\n\nthis is the sample letter of the demo.\n\nKind regards\nJane Doe\n"
    port = on.gateway.ports["submissions"]
    client = SmtpClient("127.0.0.1", port, str(on.ca), sender.address, sender.app_password)
    client.send([to], sample_message(sender, to, "A sample letter", text))


def _say(mail: Received) -> None:
    """A line of the live list."""
    click.echo(f"{mail.at:%Y-%m-%d %H:%M:%S}  {mail.event or 'mail':<14} to {mail.to:<28} {mail.subject}")


def _pli() -> str:
    """How this command is called from here."""
    beside = Path(sys.executable).with_name("pli")
    return str(beside) if beside.exists() else f"{sys.executable} -m gateway"


def _guide(on: Stage) -> str:
    ports, sender = on.gateway.ports, on.senders[0]
    encoded = f"jane.roe=example.net@{LETTERS}"
    return f"""
Pli is running on this machine alone; stop it with Ctrl-C.

  Every mail that it sent, to anybody:   {on.url}/mailbox/
  A sample letter is on its way to {_SAMPLE_TO}: open its notice there and accept or refuse.

Send a letter yourself, with swaks:

  swaks --server 127.0.0.1:{ports["submissions"]} --tls-on-connect \\
    --auth-user {sender.address} --auth-password {sender.app_password} \\
    --from {sender.address} --to {encoded} \\
    --header "Subject: My first letter" --body "Dear Jane, ..."

or with a mail client:

  outgoing server 127.0.0.1, port {ports["submissions"]} (TLS) or {ports["submission"]} (STARTTLS)
  user {sender.address}, password {sender.app_password}
  certificate authority to trust: {on.ca}
  to: {encoded}, or {DEDICATED} with a first line "To: Jane Roe <jane.roe@example.net>"

The clock began 20 days ago. To see what time does, write other offsets (seconds) to the clock file:

  echo -1100000 > {on.folder / "clock"}        a week later: the first reminder
  echo 0 > {on.folder / "clock"}               today: the window has closed, the proof of non-claim comes

Check a proof that you saved, or look into the store:

  {_pli()} verify proof.pdf --trust {on.ca}
  {_pli()} --config {on.folder / "pli.toml"} letter list

Starting the demo again begins anew: what is in {on.folder} goes, keys and certificates included.

Mails, as they arrive:
"""
