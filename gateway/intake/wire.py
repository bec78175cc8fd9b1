"""One SMTP connection: command lines in, replies out, TLS, patience, and its end.

aiosmtpd is the base class: it starts a session for a connection and finds the method of a verb. Everything that a peer can
see or that can go wrong is decided here and in session.py. Not here: what the verbs do (session.py), who may connect
(listener.py).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import structlog
from aiosmtpd.smtp import SMTP

from gateway.core.errors import OurFault, PliError, StorageFull
from gateway.faults import is_full
from gateway.intake.desk import Desk
from gateway.intake.inbox import Gone, Inbox, LineTooLong
from gateway.intake.syntax import BadSyntax
from gateway.sections import Smtp

_LINE = 1024  # RFC 5321 4.5.3.1.4 asks for 512; names in EHLO and addresses in UTF-8 may be longer
_LINES = {b"AUTH": 12288, b"MAIL": 2048, b"RCPT": 2048}  # RFC 4954 4; RFC 3461 4, RFC 6531 3.4 with their parameters
_MISTAKES = 20
_IDLE = 100
_LINGER = 10.0
_HANDSHAKE = 30.0
_SHUTDOWN = 5.0
_OTHER_PROTOCOLS = frozenset({"GET", "POST", "PUT", "CONNECT", "OPTIONS", "HEAD", "SSH-2.0-"})
_log = structlog.get_logger("intake")


@dataclass(frozen=True)
class Terms:
    """What a listener tells its sessions. context: for STARTTLS; keeping: those that store a message just now."""

    listener: str
    hostname: str
    desk: Desk
    limits: Smtp
    context: Callable[[], ssl.SSLContext] | None
    keeping: set[asyncio.Task[Any]] = field(default_factory=set)


class _NoHandler:
    """The base class would ask it what it handles, and look through the names of whatever stands here."""

    def __dir__(self) -> Iterable[str]:
        return ()


_NO_HANDLER = _NoHandler()


class Wire(SMTP):
    """peer: address without port. refusal: a reply that takes the place of the greeting; the connection then closes."""

    _verbs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._verbs = tuple(name for name in dir(cls) if name.startswith("smtp_"))

    def __init__(self, terms: Terms, peer: str, loop: asyncio.AbstractEventLoop, refusal: str = "") -> None:
        super().__init__(_NO_HANDLER, hostname=terms.hostname, loop=loop, timeout=terms.limits.timeout)
        self.terms, self.peer = terms, peer
        self.inbox = Inbox(loop, self.flush)
        self.in_content = False
        self.closed = asyncio.Event()
        self.tls: str | None = None
        """Such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; None in the clear."""
        self._refusal = refusal
        self._out: list[bytes] = []
        self._socket = cast("asyncio.Transport", None)  # connection_made brings it
        self._mistakes, self._idle = _MISTAKES, _IDLE
        self._leaving, self._said_goodbye = "", False
        self._watch: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    @property
    def work(self) -> asyncio.Task[None]:
        """The session from greeting to end."""
        return cast("asyncio.Task[None]", self._handler_coroutine)

    @property
    def refused(self) -> bool:
        return bool(self._refusal)

    def __dir__(self) -> Iterable[str]:
        """The verbs alone: the base class looks for them among our names at each connection, two times through all."""
        return self._verbs

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is an asyncio.Transport in all but its class
        self._socket = self.inbox.transport = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        self.tls = _tls(self._socket)
        self._watch = self.loop.call_later(self._timeout_duration, self._look)

    def data_received(self, data: bytes) -> None:
        self.inbox.feed(data)

    def eof_received(self) -> bool | None:
        # The base class would cancel the session here. A peer may close its half and still wait for answers.
        self.inbox.feed_eof()
        return not self.tls  # asyncio warns of True under TLS, which knows no half-closed connections

    def connection_lost(self, error: Exception | None) -> None:
        self.inbox.feed_eof()
        # None: nobody awaits the base class's future, and an error in it would be logged as forgotten.
        super(SMTP, self).connection_lost(None)
        self.closed.set()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """The base class re-arms its timer at commands alone and would cut a long mail; `_look` is ours."""

    def _look(self) -> None:
        """Cut a peer that we have been waiting for since too long (RFC 5321 4.5.3.2); our own slowness is not his."""
        since, patience = self.inbox.waiting_since, self._timeout_duration
        late = 0.0 if since is None else self.loop.time() - since
        if late >= patience:
            _log.info("timeout", peer=self.peer, listener=self.terms.listener)
            self._cut("421 4.4.2 Silent for too long, goodbye")
        else:
            self._watch = self.loop.call_later(patience - late, self._look)

    # Ends

    def farewell(self) -> None:
        """The gateway stops: at once where the peer is idle, else after the mail that is on its way."""
        self._leaving = "421 4.3.2 The gateway is stopping, please try again later"  # RFC 5321 3.8
        if self.inbox.waiting_since is not None and not self.in_content:
            self._cut(self._leaving)

    def abort(self) -> None:
        self._socket.abort()

    def release(self) -> None:
        """Let go of everything, when all is over.

        The base class's tables of its own methods make each session a cycle: hundreds of closed ones, each with TLS buffers
        of 256 KB, would wait for the garbage collector.
        """
        if self._linger is not None:
            self._linger.cancel()
        vars(self).clear()

    def leave(self, reply: str) -> None:
        """Say this last thing, and close."""
        self.reply(reply)
        self._leaving = self._leaving or reply
        self._said_goodbye = True

    def _cut(self, reply: str) -> None:
        if not self._socket.is_closing():
            self._socket.write(reply.encode() + b"\r\n")
        self._said_goodbye = True
        self.inbox.feed_eof()
        self._linger = self.loop.call_later(_LINGER, self.abort)

    # Replies

    def reply(self, *lines: str) -> None:
        """One reply of one or more lines, each with its code; all leave in one write, at the latest before the next wait."""
        for line in lines[:-1]:
            self._out.append(f"{line[:3]}-{line[4:]}\r\n".encode())
        self._out.append(f"{lines[-1]}\r\n".encode())

    def mistake(self, reply: str) -> None:
        """A reply that a peer gets for what no working client says; only so often."""
        self._mistakes -= 1
        if self._mistakes <= 0:
            _log.info("too many errors", peer=self.peer, listener=self.terms.listener)
            self.leave("421 4.7.0 Too many errors, goodbye")
        else:
            self.reply(reply)

    def idled(self) -> bool:
        """Count a command that moves no mail; False when they were too many and the session ends."""
        self._idle -= 1
        if self._idle < 0:
            self.leave("421 4.7.0 Too many commands without a mail, goodbye")
        return self._idle >= 0

    def moved(self) -> None:
        """A mail was taken: counts begin anew."""
        self._mistakes, self._idle = _MISTAKES, _IDLE

    def refuse(self, error: Exception) -> None:
        """Answer an error: ours in the tree with its own words, anything else as our fault and without our insides."""
        if isinstance(error, BadSyntax):
            self.mistake(error.reply)
            return
        if not isinstance(error, PliError):
            _log.error("session error", peer=self.peer, listener=self.terms.listener, exc_info=error)
            error = (StorageFull if is_full(error) else OurFault)()
        if error.detail:
            _log.warning("not taken", peer=self.peer, reply=error.smtp_reply, detail=error.detail)
        self.reply(error.smtp_reply)

    def flush(self) -> Awaitable[None] | None:
        """Let the replies leave, in one write. Gives what to await where the peer does not read them."""
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            if not self._socket.is_closing():
                self._socket.write(data)
                if self._socket.get_write_buffer_size():
                    return self._drain()
        return None

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise Gone from error

    # The session

    async def _handle_client(self) -> None:
        try:
            if self._refusal:
                self.leave(self._refusal)
            else:
                self.reply(f"220 {self.hostname} ESMTP Pli")
            while not self._leaving:
                await self._command()
            if not self._said_goodbye:
                self.reply(self._leaving)
        except Gone:
            pass
        finally:
            if self._watch is not None:
                self._watch.cancel()
            self._close()

    def _close(self) -> None:
        if self._socket.is_closing():
            return
        if self._out:
            self._socket.write(b"".join(self._out))
        self._socket.close()
        if self._linger is None and self._socket.get_write_buffer_size():
            self._linger = self.loop.call_later(_LINGER, self.abort)  # a peer that does not read would keep it for ever

    async def _command(self) -> None:
        try:
            line = await self.inbox.line(_LINE, _limit)
        except LineTooLong:
            self.mistake("500 5.5.6 The line is too long")  # RFC 4954 6
            return
        word, _, argument = line.partition(b" ")
        verb = word.upper().decode("ascii", "replace").strip()
        method = self._smtp_methods.get(verb)
        if verb in _OTHER_PROTOCOLS:  # a browser that was sent here must not get its body read as commands
            self.leave("421 4.7.0 This is SMTP, goodbye")
        elif method is None:
            self.mistake("500 5.5.1 Unknown command" if verb else "500 5.5.2 Empty command")
        else:
            try:
                await method(_text(argument, careless=verb in ("EHLO", "HELO")))
            except Gone:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the peer gets a reply that he may try again
                self.refuse(error)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake after STARTTLS; what came in the clear before it is forgotten (RFC 3207 4.2)."""
        self.reply("220 2.0.0 Ready to start TLS")
        self._socket.write(b"".join(self._out))
        self._out.clear()
        self.inbox.clear()  # nothing is awaited between here and the change of protocol: no byte can slip in
        try:
            secured = await self.loop.start_tls(
                self._socket,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        except OSError as error:
            _log.info("TLS handshake failed", peer=self.peer, reason=str(error))
            self.abort()
            self.connection_lost(None)  # the TLS layer tells nobody of a connection that it never made
            raise Gone from error
        if secured is None:
            raise Gone
        self.transport = self._socket = self.inbox.transport = secured
        self.tls = _tls(secured)
        self._writer._transport = secured  # type: ignore[attr-defined]  # noqa: SLF001 - as the base class does it


def _tls(transport: asyncio.Transport) -> str | None:
    secured = transport.get_extra_info("ssl_object")
    return None if secured is None else f"{secured.version()} {secured.cipher()[0]}"


def _text(argument: bytes, *, careless: bool) -> str:
    """What follows a verb. careless: what is not UTF-8 is no reason to turn the peer away."""
    try:
        return argument.decode("utf-8", "replace" if careless else "strict").strip()
    except UnicodeDecodeError as error:
        raise BadSyntax("501 5.5.2 Commands are ASCII or UTF-8") from error


def _limit(line: bytes) -> int:
    return _LINES.get(line[:4].upper(), _LINE)
