"""An SMTP session: the verbs that both kinds of listener share, and AUTH (RFC 5321 4.1, RFC 4954, RFC 3207).

Not here: lines and replies on the wire (wire.py), reading arguments (syntax.py), what becomes of mail (submission.py,
returns.py).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from gateway.core.errors import BadPassword, PliError, TooBig, TooManyRecipients
from gateway.intake.data import Sink, receive
from gateway.intake.desk import Account, Envelope, Origin, Recipient
from gateway.intake.inbox import Gone, LineTooLong
from gateway.intake.syntax import (
    BadSyntax,
    MailParameters,
    read_mail_parameters,
    read_path,
    read_plain,
    read_rcpt_parameters,
    read_word,
    unbase64,
)
from gateway.intake.wire import Terms, Wire

_LINE = 12288  # RFC 4954 4
_T = TypeVar("_T")
_log = structlog.get_logger("intake")


@dataclass
class Transaction:
    """A mail from MAIL on. tried: whether any RCPT came, taken or not."""

    mail_from: str
    parameters: MailParameters
    recipients: list[Recipient] = field(default_factory=list)
    tried: bool = False

    def envelope(self) -> Envelope:
        p = self.parameters
        return Envelope(self.mail_from, tuple(self.recipients), p.envid, p.ret, p.smtputf8)


class Session(Wire):
    """One conversation. Subclasses say who may send what to whom, and take the message."""

    offers_auth = False

    def __init__(self, terms: Terms, peer: str, loop: asyncio.AbstractEventLoop, refusal: str = "") -> None:
        super().__init__(terms, peer, loop, refusal)
        self.account: Account | None = None
        self._helo, self._extended = "", False
        self._mechanism: str | None = None
        self._tries = 0
        self._mail: Transaction | None = None

    @property
    def max_bytes(self) -> int:
        return self.terms.limits.max_bytes

    @property
    def origin(self) -> Origin:
        return Origin(self.peer, self._helo, self.terms.listener, self.tls, self._mechanism)

    # What subclasses decide; each may raise any PliError

    def may_mail(self) -> None:
        """Before MAIL is read. May raise BadSyntax with the reply."""

    async def admit_sender(self, address: str) -> None:
        raise NotImplementedError

    async def admit_recipient(self, mail: Transaction, recipient: Recipient) -> None:
        raise NotImplementedError

    async def take_message(self, mail: Transaction) -> tuple[str, ...]:
        """From the 354 to the reply's lines."""
        raise NotImplementedError

    # Greeting

    async def smtp_HELO(self, hostname: str) -> None:
        self._greet(hostname, extended=False)

    async def smtp_EHLO(self, hostname: str) -> None:
        self._greet(hostname, extended=True)

    def _greet(self, name: str, *, extended: bool) -> None:
        """Any name will do: clients give what their machine calls itself, curl a file name. It is evidence, not a check."""
        if not name:
            raise BadSyntax("501 5.5.4 Say who you are: EHLO name")
        if self.idled():
            self._helo = "".join(c if c.isprintable() else "?" for c in name)
            self._extended, self._mail = extended, None
            lines = [self.hostname, *(self._extensions() if extended else ())]
            self.reply(*(f"250 {line}" for line in lines))

    def _extensions(self) -> list[str]:
        found = ["PIPELINING", f"SIZE {self.max_bytes}", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
        if self.tls is None and self.terms.context is not None:
            found.append("STARTTLS")
        if self.tls is not None and self.offers_auth:
            found.append("AUTH PLAIN LOGIN")  # no other: clients take the strongest name offered and never fall back
        return found

    # Small verbs

    async def smtp_NOOP(self, arg: str) -> None:
        if self.idled():
            self.reply("250 2.0.0 OK")

    async def smtp_RSET(self, arg: str) -> None:
        if arg:
            raise BadSyntax("501 5.5.4 RSET takes no argument")
        self._mail = None
        if self.idled():
            self.reply("250 2.0.0 OK")

    async def smtp_VRFY(self, arg: str) -> None:
        if not arg:
            raise BadSyntax("501 5.5.4 VRFY address")
        if self.idled():
            self.reply("252 2.0.0 Not told here; send the mail and you will know")  # RFC 5321 7.3

    async def smtp_EXPN(self, arg: str) -> None:
        self.mistake("502 5.5.1 EXPN is not offered")

    async def smtp_HELP(self, arg: str | None) -> None:
        if self.idled():
            self.reply("214 2.0.0 Pli, a registered e-mail gateway; see RFC 5321 for the verbs")

    async def smtp_QUIT(self, arg: str) -> None:
        self.leave("221 2.0.0 Goodbye")

    async def smtp_STARTTLS(self, arg: str) -> None:
        if arg:
            raise BadSyntax("501 5.5.4 STARTTLS takes no argument")
        if self.tls is not None:
            raise BadSyntax("503 5.5.1 TLS is on already")
        if self.terms.context is None:
            raise BadSyntax("502 5.5.1 TLS is not offered here")
        self._helo, self._extended, self._mail = "", False, None  # RFC 3207 4.2
        await self.start_tls(self.terms.context())

    # AUTH

    async def smtp_AUTH(self, arg: str | None) -> None:
        mechanism, _, initial = (arg or "").partition(" ")
        self._check_auth(mechanism.upper())
        if self._tries >= self.terms.limits.auth_tries:
            _log.warning("too many failed logins", peer=self.peer)
            self.leave("421 4.7.0 Too many failed logins, goodbye")
            return
        read = self._plain if mechanism.upper() == "PLAIN" else self._login
        try:
            user, password = await read(initial.strip())
            self.account = await self.terms.desk.authenticate(user, password)
        except BadPassword as error:
            self._tries += 1
            _log.warning("login refused", peer=self.peer, listener=self.terms.listener)
            self.reply(error.smtp_reply)
            return
        self._mechanism = mechanism.upper()
        self.reply("235 2.7.0 Welcome")

    def _check_auth(self, mechanism: str) -> None:
        if not self.offers_auth:
            raise BadSyntax("502 5.5.1 AUTH is not offered here")
        if not self._extended:
            raise BadSyntax("503 5.5.1 EHLO first")
        if self.tls is None:
            raise BadSyntax("538 5.7.11 Encryption required: STARTTLS first")
        if self.account is not None or self._mail is not None:
            raise BadSyntax("503 5.5.1 Not now")  # RFC 4954 4: once, and not within a mail
        if not mechanism:
            raise BadSyntax("501 5.5.4 AUTH PLAIN or AUTH LOGIN")
        if mechanism not in ("PLAIN", "LOGIN"):
            raise BadSyntax("504 5.5.4 PLAIN and LOGIN are offered")

    async def _plain(self, initial: str) -> tuple[str, str]:
        identity, user, password = read_plain(unbase64(initial) if initial else await self._ask(""))
        if identity not in ("", user):
            raise BadPassword("Logging in for somebody else is not possible; leave the authorization identity empty")
        return user, password

    async def _login(self, initial: str) -> tuple[str, str]:
        user = read_word(unbase64(initial) if initial else await self._ask("Username:"))
        return user, read_word(await self._ask("Password:"))

    async def _ask(self, challenge: str) -> bytes:
        self.reply("334 " + base64.b64encode(challenge.encode()).decode())
        try:
            line = await self.inbox.line(_LINE)
        except LineTooLong as error:
            raise BadSyntax("500 5.5.6 The line is too long") from error
        if line.strip() == b"*":
            raise BadSyntax("501 5.7.0 Authentication cancelled")
        return unbase64(line.strip().decode("ascii", "replace"))

    # Mail

    async def smtp_MAIL(self, arg: str | None) -> None:
        if not self._helo:
            raise BadSyntax("503 5.5.1 EHLO first")
        if self._mail is not None:
            raise BadSyntax("503 5.5.1 One mail at a time: RSET first")
        self.may_mail()
        if not self.idled():
            return
        path = read_path("FROM", arg or "")
        parameters = read_mail_parameters(path.parameters)
        if parameters.size is not None and parameters.size > self.max_bytes:
            raise TooBig(f"The message is larger than this gateway takes ({self.max_bytes} bytes).")  # RFC 1870 6.1
        if not path.address.isascii() and not parameters.smtputf8:
            raise BadSyntax("553 5.6.7 This address needs SMTPUTF8")  # RFC 6531 3.4
        await self.admit_sender(path.address)
        self._mail = Transaction(path.address, parameters)
        self.reply("250 2.1.0 OK")

    async def smtp_RCPT(self, arg: str | None) -> None:
        mail = self._mail
        if mail is None:
            raise BadSyntax("503 5.5.1 MAIL first")
        path = read_path("TO", arg or "")
        if not path.address:
            raise BadSyntax("553 5.1.3 A recipient's address is needed")
        notify, orcpt = read_rcpt_parameters(path.parameters)
        mail.tried = True
        if not path.address.isascii() and not mail.parameters.smtputf8:
            raise BadSyntax("553 5.6.7 This address needs SMTPUTF8 in MAIL")
        if len(mail.recipients) >= self.terms.limits.max_recipients:
            raise TooManyRecipients
        recipient = Recipient(path.address, notify, orcpt)
        try:
            await self.admit_recipient(mail, recipient)
        except PliError as error:
            if self.account is None:
                self.mistake(error.smtp_reply)  # a stranger who tries addresses
                return
            raise
        mail.recipients.append(recipient)
        self.reply("250 2.1.5 OK")

    async def smtp_DATA(self, arg: str) -> None:
        mail = self._mail
        if arg:
            raise BadSyntax("501 5.5.4 DATA takes no argument")
        if mail is None or not mail.recipients:
            # RFC 5321 3.3; a client that pipelines comes here after every recipient was refused
            raise BadSyntax(
                "554 5.5.1 No valid recipients" if mail is not None and mail.tried else "503 5.5.1 MAIL and RCPT first"
            )
        lines = await self.take_message(mail)
        self.reply(*lines)
        self.moved()

    async def content(self, sink: Sink, limit: int) -> None:
        """Ask for the message and read it into *sink*; the transaction is over with it, however it ends."""
        self.reply("354 End with <CR><LF>.<CR><LF>")
        self.in_content = True
        try:
            await receive(self.inbox, sink, limit)
        except (PliError, Gone):
            raise
        except Exception as error:
            # Where the content ends is not known any more: nothing that follows may be read as commands.
            self.refuse(error)
            self.leave("421 4.3.0 Something went wrong on our side, please try again later")
            raise Gone from error
        finally:
            self._mail = None
            self.in_content = False

    async def kept(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await *work* that goes on to its end though the peer goes away: nobody cancels a session (listener.py)."""
        self.terms.keeping.add(self.work)
        try:
            return await work
        finally:
            self.terms.keeping.discard(self.work)
