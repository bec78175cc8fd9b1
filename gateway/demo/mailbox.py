"""The demo's mailbox: an SMTP server that takes the place of the internet and keeps every mail that reaches it, byte for byte.

Addresses under bounce.<domain> are refused; under late-bounce.<domain> a mail is taken and comes back later as a bounce, over
real SMTP. Not here: the page that shows the mails (web/), who reads them (people.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway.clock import Clock
from gateway.dispatch.attempt import attempt
from gateway.dispatch.route import Host

_log = structlog.get_logger("mailbox")
_DOMAIN = "mailbox.test"
_MOST_BYTES = 64 * 1024 * 1024
_LATE = 2.0
"""Seconds until a late bounce leaves: after the gateway has noted that the mail was taken."""


@dataclass(frozen=True, slots=True)
class Received:
    """One mail. at: when it came, by the demo's clock; event: DESIGN.md 7, or None for a mail that is none of the gateway's."""

    id: str
    to: str
    from_: str
    subject: str
    at: datetime
    event: str | None


class _Smtp(SMTP):
    line_length_limit = 65536  # a letter handed in with long lines comes out with them


class Mailbox:
    """mx: where bounces go (host, port). tls: offered by STARTTLS; None: not offered."""

    def __init__(
        self, directory: Path, *, clock: Clock, mx: Callable[[], tuple[str, int]], tls: ssl.SSLContext | None = None
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._mx = mx
        self._tls = tls
        self._received: list[Received] = []
        self._numbers = itertools.count(1)
        self._listeners: list[Callable[[Received], None]] = []
        self._server: asyncio.Server | None = None
        self._bounces: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Raises OSError where the port is taken."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, host, port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._bounces:
            task.cancel()
        await asyncio.gather(*self._bounces, return_exceptions=True)

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the mailbox has not been started")
        return int(self._server.sockets[0].getsockname()[1])

    def messages(self, to: str | None = None, since: datetime | None = None) -> list[Received]:
        """All mails, oldest first; *to* one address, arrived at *since* or later."""
        wanted = to.lower() if to else None
        return [
            mail
            for mail in self._received
            if (wanted is None or mail.to.lower() == wanted) and (since is None or mail.at >= since)
        ]

    def raw(self, id: str) -> bytes | None:
        """The bytes of a mail as they were received; None where there is no such mail."""
        if not re.fullmatch(r"[0-9]{1,9}", id):
            return None
        try:
            return (self._directory / f"{id}.eml").read_bytes()
        except OSError:
            return None

    def listen(self, callback: Callable[[Received], None]) -> None:
        """Call *callback* with each mail that arrives from now on."""
        self._listeners.append(callback)

    # -- what aiosmtpd calls ------------------------------------------------------------------------------------------

    def _session(self) -> SMTP:
        return _Smtp(
            self,
            data_size_limit=_MOST_BYTES,
            enable_SMTPUTF8=True,
            hostname=_DOMAIN,
            ident="demo mailbox",
            tls_context=self._tls,
            loop=asyncio.get_running_loop(),
        )

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if _host(address).startswith("bounce."):
            return "550 5.1.1 No mailbox of this name here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        kept = [await self._keep(str(to), content) for to in envelope.rcpt_tos]
        for mail in kept:
            if _host(mail.to).startswith("late-bounce.") and envelope.mail_from not in (None, "", "<>"):
                task = asyncio.get_running_loop().create_task(self._bounce(str(envelope.mail_from), mail))
                self._bounces.add(task)
                task.add_done_callback(self._bounces.discard)
        return f"250 2.0.0 Kept as {', '.join(mail.id for mail in kept)}"

    async def handle_exception(self, error: Exception) -> str:
        _log.error("mailbox", error=type(error).__name__, detail=str(error))
        return "451 4.3.0 The mailbox failed"

    async def _keep(self, to: str, content: bytes) -> Received:
        number = f"{next(self._numbers):06}"
        await asyncio.to_thread(_write, self._directory / f"{number}.eml", content)
        head = message_from_bytes(content, policy=policy.default)
        mail = Received(
            id=number,
            to=to,
            from_=parseaddr(_header(head, "from"))[1],
            subject=_header(head, "subject"),
            at=self._clock.now(),
            event=_event(head),
        )
        self._received.append(mail)
        for callback in self._listeners:
            callback(mail)
        return mail

    # -- the late bounce ----------------------------------------------------------------------------------------------

    async def _bounce(self, return_path: str, mail: Received) -> None:
        for pause in (_LATE, 5.0, 15.0):
            await asyncio.sleep(pause)
            host, port = self._mx()
            outcome = await attempt(
                [Host(host, host, port)],
                mail_from="",
                rcpt_to=return_path,
                message=bounce_message(return_path, mail.to, self._clock.now()),
                local_hostname=_DOMAIN,
                ca=None,
                clock=self._clock,
            )
            _log.info("late bounce", to=mail.to, verdict=outcome.verdict.value)
            if outcome.verdict in ("taken", "permanent"):
                return


def bounce_message(return_path: str, recipient: str, at: datetime) -> bytes:
    """A notification that a mail to *recipient* came back (RFC 3464)."""
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{_DOMAIN}>",
        f"To: <{return_path}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"Date: {format_datetime(at)}",
        f"Message-ID: <{os.urandom(12).hex()}@{_DOMAIN}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="=_report"',
        "",
        "--=_report",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"Your mail to {recipient} could not be delivered after all: the mailbox is disabled.",
        "",
        "--=_report",
        "Content-Type: message/delivery-status",
        "",
        f"Reporting-MTA: dns; {_DOMAIN}",
        "",
        f"Final-Recipient: rfc822; {recipient}",
        "Action: failed",
        "Status: 5.2.1",
        "Diagnostic-Code: smtp; 550 5.2.1 The mailbox is disabled",
        "",
        "--=_report--",
        "",
    ]
    return "\r\n".join(lines).encode()


def _host(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _header(head: Message[Any, Any], name: str) -> str:
    with contextlib.suppress(Exception):  # the email package on headers that it cannot read
        return str(head.get(name, ""))
    return ""


def _event(head: EmailMessage | Message[Any, Any]) -> str | None:
    """What a mail is, by its headers; recipients' mails carry few of them (DESIGN.md 7)."""
    if event := _header(head, "pli-event"):
        return event
    if not _header(head, "pli-notice"):
        return None
    names = {part.get_filename() for part in head.walk()}
    if "receipt.pdf" in names:
        return "receipt"
    if any(part.get_content_type() == "message/rfc822" for part in head.walk()):
        return "original"
    return "reminded" if _header(head, "references") else "notice"


def _write(path: Path, content: bytes) -> None:
    half = path.with_suffix(".new")
    half.write_bytes(content)
    half.replace(path)
