"""One SMTP connection to one host for one mail: from the greeting to the reply to the final dot, everything written down.

aiosmtplib carries the lines; the order, the parameters and the judgement of each reply are ours (RFC 5321, 3207, 3461, 6531).
Not here: other hosts, and the weaker ways after TLS failed (attempt.py).
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import aiosmtplib
from aiosmtplib import SMTPResponse

from gateway.clock import Clock
from gateway.core.evidence import instant
from gateway.dispatch.route import Host
from gateway.dispatch.scrub import scrub, secrets_in

_CONNECT, _COMMAND, _DATA, _QUIT = 60.0, 180.0, 600.0, 5.0
"""Seconds; the one after the final dot as RFC 5321 4.5.3.2.6 wants it."""
_MOST_REPLIES, _MOST_EXTENSIONS = 20, 40
_XTEXT = frozenset(range(33, 127)) - set(b"+=")


class Verdict(StrEnum):
    TAKEN = "taken"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"  # the peer vanished after the final dot: it may have the mail


class TlsTrouble(Exception):
    """The connection is of no use any more; the text says what failed. The next way is tried on a new one."""


class _End(Exception):
    """The dialogue is over before its natural end."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail for one recipient. Addresses have the form of core/mailbox.py; the message is signed, its lines end in CRLF."""

    mail_from: str
    rcpt_to: str
    message: bytes
    local_hostname: str


@dataclass
class Dialogue:
    """context: TLS to ask for where offered; None: plaintext. anchored: whether there is anything to verify certificates with.

    After `hold` or `give_up` the verdict and facts stand.
    """

    host: Host
    envelope: Envelope
    context: ssl.SSLContext | None
    clock: Clock
    anchored: bool = False
    verdict: Verdict = Verdict.TEMPORARY
    reason: str = ""
    ended: datetime = field(init=False)
    _address: str = ""
    _extensions: list[str] = field(default_factory=list)
    _replies: list[dict[str, Any]] = field(default_factory=list)
    _tls: dict[str, Any] | None = None
    _dotted: bool = False
    _decided: bool = False
    _secrets: tuple[str, ...] = ()
    _client: aiosmtplib.SMTP = field(init=False)

    def __post_init__(self) -> None:
        self._secrets = secrets_in(self.envelope.message)
        self.ended = self.clock.now()
        self._address = self.host.address
        self._client = aiosmtplib.SMTP(
            hostname=self.host.address,
            port=self.host.port,
            local_hostname=self.envelope.local_hostname,
            timeout=_COMMAND,
            start_tls=False,
            validate_certs=False,
        )

    async def hold(self) -> None:
        """Raises TlsTrouble alone; every other failure is a verdict."""
        try:
            await self._connect()
            await self._hello()
            if self.context is not None and self._client.supports_extension("starttls"):
                await self._start_tls(self.context)
            await self._address_it()
            await self._hand_over()
        except _End as end:
            self._decide(end.verdict, end.reason)
        except aiosmtplib.SMTPResponseException as error:  # a reply that is none, or a greeting other than 220
            self._note("", SMTPResponse(error.code, error.message))
            self.give_up(f"{error.code} {error.message}")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            self.give_up(str(error) or type(error).__name__)
        else:
            await self._part()
        finally:
            self._client.close()

    def give_up(self, reason: str) -> None:
        """The connection failed: nothing was decided, unless everything had been sent."""
        if self._decided:
            return  # it failed in saying goodbye
        self._decide(Verdict.UNKNOWN if self._dotted else Verdict.TEMPORARY, reason)

    def facts(self) -> dict[str, Any]:
        return {
            "host": self.host.name,
            "address": self._address,
            "port": self.host.port,
            "via": self.host.via,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "tls": self._tls,
            "extensions": self._extensions,
            "replies": self._replies,
            "ended_at": instant(self.ended),
        }

    # -- steps --------------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        greeting = await self._client.connect(timeout=_CONNECT)
        peer = self._client.get_transport_info("peername")
        if isinstance(peer, tuple) and peer:
            self._address = str(peer[0])
        self._note("", greeting)

    async def _hello(self) -> None:
        try:
            self._note("EHLO", await self._client.ehlo())
        except aiosmtplib.SMTPHeloError as error:
            self._note("EHLO", SMTPResponse(error.code, error.message))
            if error.code // 100 != 5:
                raise _End(Verdict.TEMPORARY, f"{error.code} {error.message}") from None
            hello = await self._command("HELO", f"HELO {self.envelope.local_hostname}")  # RFC 5321 3.2
            if hello.code // 100 != 2:
                raise _End(Verdict.TEMPORARY, _line(hello)) from None
        self._extensions = sorted(name[:40] for name in self._client.esmtp_extensions)[:_MOST_EXTENSIONS]

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        try:
            reply = await self._client.starttls(server_hostname=self.host.name, tls_context=context, timeout=_CONNECT)
        except aiosmtplib.SMTPResponseException as error:
            # Offered and then refused (454): the connection is still good in plaintext (RFC 3207 4.1).
            self._note("STARTTLS", SMTPResponse(error.code, error.message))
            return
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise TlsTrouble(scrub(f"STARTTLS: {type(error).__name__}: {error}", 200)) from error
        self._note("STARTTLS", reply)
        self._tls = self._tls_facts(context)
        await self._hello()

    def _tls_facts(self, context: ssl.SSLContext) -> dict[str, Any]:
        tls = self._client.get_transport_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        return {
            "version": tls.version(),
            "cipher": tls.cipher()[0],
            "certificate_sha256": sha256(certificate).hexdigest() if certificate else None,
            "verified": context.verify_mode is ssl.CERT_REQUIRED if self.anchored else None,
        }

    async def _address_it(self) -> None:
        """MAIL and RCPT, with the parameters that this server knows."""
        envelope, has = self.envelope, self._client.supports_extension
        mail, rcpt = [f"MAIL FROM:<{envelope.mail_from}>"], [f"RCPT TO:<{envelope.rcpt_to}>"]
        if has("size"):
            mail.append(f"SIZE={len(envelope.message)}")  # RFC 1870 6
        if not envelope.message.isascii():
            if not has("8bitmime"):  # encoding it anew would break its signature
                raise _End(Verdict.PERMANENT, "554 5.6.3 The server takes no 8-bit mail (8BITMIME)")  # RFC 6152 3
            mail.append("BODY=8BITMIME")
        if not envelope.rcpt_to.isascii():
            if not has("smtputf8"):
                raise _End(Verdict.PERMANENT, "553 5.6.7 The server takes no international addresses (SMTPUTF8)")
            mail.append("SMTPUTF8")  # RFC 6531 3.4
        if has("dsn"):  # RFC 3461 4.1 to 4.4
            mail.append("RET=HDRS")
            if envelope.mail_from:
                mail.append(f"ENVID={_xtext(envelope.mail_from.partition('@')[0])}")
            rcpt.append("NOTIFY=FAILURE,DELAY")
            if envelope.rcpt_to.isascii():
                rcpt.append(f"ORCPT=rfc822;{_xtext(envelope.rcpt_to)}")
        self._demand(await self._command("MAIL", " ".join(mail)))
        self._demand(await self._command("RCPT", " ".join(rcpt)))

    async def _hand_over(self) -> None:
        reply = await self._command("DATA", "DATA")
        if reply.code != 354:
            self._demand(reply)
            raise _End(Verdict.TEMPORARY, _line(reply))
        protocol = self._client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        message = self.envelope.message.replace(b"\r\n.", b"\r\n..")  # RFC 5321 4.5.2
        message = b"." + message if message.startswith(b".") else message
        protocol.write(message + b".\r\n")
        self._dotted = True
        reply = await protocol.read_response(timeout=_DATA)
        self._note(".", reply)
        verdict = {2: Verdict.TAKEN, 4: Verdict.TEMPORARY, 5: Verdict.PERMANENT}.get(reply.code // 100, Verdict.UNKNOWN)
        self._decide(verdict, _line(reply))

    async def _part(self) -> None:
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await self._client.quit(timeout=_QUIT)

    # -- replies ------------------------------------------------------------------------------------------------------

    async def _command(self, name: str, line: str) -> SMTPResponse:
        reply = await self._client.execute_command(line.encode("utf-8"), timeout=_COMMAND)
        self._note(name, reply)
        return reply

    def _demand(self, reply: SMTPResponse) -> None:
        """Go on after a 2xx only."""
        kind = reply.code // 100
        if kind == 2:
            return
        permanent = kind == 5 and not (
            reply.code == 530 and self._tls is None
        )  # "STARTTLS first" may pass with its cause
        raise _End(Verdict.PERMANENT if permanent else Verdict.TEMPORARY, _line(reply))

    def _note(self, command: str, reply: SMTPResponse) -> None:
        if len(self._replies) < _MOST_REPLIES:
            self._replies.append(
                {"command": command, "code": reply.code, "text": scrub(reply.message, 500, self._secrets)}
            )

    def _decide(self, verdict: Verdict, reason: str) -> None:
        self.verdict, self.reason = verdict, scrub(reason, 500, self._secrets)
        self.ended, self._decided = self.clock.now(), True


def _line(reply: SMTPResponse) -> str:
    return f"{reply.code} {reply.message}"


def _xtext(text: str) -> str:
    """RFC 3461 4."""
    return "".join(chr(byte) if byte in _XTEXT else f"+{byte:02X}" for byte in text.encode("utf-8"))
