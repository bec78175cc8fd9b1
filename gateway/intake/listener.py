"""The SMTP listeners: where peers come in, how many may, and how a stopping gateway sees them off.

Connections are counted before their TLS handshake, and one loop accepts for all ports. Not here: what is said (session.py).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections import Counter
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.core.errors import Unusable
from gateway.intake.desk import Desk
from gateway.intake.returns import Returns
from gateway.intake.session import Session
from gateway.intake.submission import Submission
from gateway.intake.tls import Certificate
from gateway.intake.wire import Terms
from gateway.ports import bound, mend
from gateway.sections import HostPort, Smtp

_BACKLOG = 1024
_HANDSHAKE = 30.0
_SHUTDOWN = 5.0
_COURTESY = 20
"""How many refused peers at a time get the trouble of a reply; the others are closed without a word."""
_GRACE = 20.0
_FEW_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_log = structlog.get_logger("intake")


class Listeners:
    """submissions (implicit TLS), submission (STARTTLS) and mx, as far as [smtp] names them. ports: those really bound."""

    def __init__(self, settings: Smtp, desk: Desk, clock: Clock, *, hostname: str, shared: bool = False) -> None:
        """shared: other processes of ours listen on the same ports."""
        self.ports: dict[str, int] = {}
        self._shared = shared
        self._settings, self._desk, self._clock, self._hostname = settings, desk, clock, hostname
        self._certificate: Certificate | None = None
        self._sockets: list[socket.socket] = []
        self._terms: dict[str, Terms] = {}
        self._sessions: set[Session] = set()
        self._tasks: dict[asyncio.Task[None], Session] = {}
        self._keeping: set[asyncio.Task[Any]] = set()
        self._peers: Counter[str] = Counter()
        self._open = self._refused = 0

    async def start(self) -> None:
        """Raises Unusable, naming the setting, where a port or the certificate cannot be used; then nothing listens."""
        files = self._settings.tls_cert, self._settings.tls_key
        if files[0] is not None and files[1] is not None:
            self._certificate = Certificate.load(files[0], files[1], self._clock.now())
        wanted: list[tuple[str, HostPort | None]] = [
            ("submissions", self._settings.submissions),
            ("submission", self._settings.submission),
            ("mx", self._settings.mx),
        ]
        try:
            for name, at in wanted:
                if at is not None:
                    await self._listen(name, at)
        except BaseException:
            self._stop_listening()
            raise
        for found in self._sockets:
            _log.info("listening", at=str(found.getsockname()))

    async def stop(self, grace: float = _GRACE) -> None:
        """Take no more connections, end idle ones with 421, let mails on their way finish for *grace* seconds, then close.

        What is being stored by then is stored to its end.
        """
        self._stop_listening()
        for task, session in tuple(self._tasks.items()):
            if session in self._sessions:
                session.farewell()
            else:
                task.cancel()  # still in its handshake
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=grace)
        for session in tuple(self._sessions):
            session.abort()
        if self._keeping:
            await asyncio.wait(tuple(self._keeping))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._sockets.clear()

    async def _listen(self, name: str, at: HostPort) -> None:
        if name != "mx" and self._certificate is None:
            raise Unusable(f"[smtp] tls_cert: must be given while {name} listens")
        certificate = self._certificate
        context = None if certificate is None else lambda: certificate.current(self._clock.now())
        self._terms[name] = Terms(name, self._hostname, self._desk, self._settings, context, self._keeping)
        loop, port = asyncio.get_running_loop(), at.port
        try:
            found = await loop.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in dict.fromkeys(found):
                listening = bound(family, str(address[0]), port, shared=self._shared)
                self._sockets.append(listening)
                listening.listen(_BACKLOG)
                listening.setblocking(False)
                port = int(listening.getsockname()[1])  # a name may have two addresses; both get one port
                loop.add_reader(listening, self._accept, name, listening)
        except OSError as error:
            raise Unusable(f"[smtp] {name}: {at} {mend(error)}") from error
        self.ports[name] = port

    def _accept(self, name: str, listening: socket.socket) -> None:
        for _ in range(100):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _FEW_FILES:
                    self._rest(name, listening)
                    _log.error("cannot accept connections", reason=error.strerror)
                    return
                raise
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            self._admit(name, connection, _plain_address(address[0]))

    def _rest(self, name: str, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)

        def resume() -> None:
            if listening in self._sockets:
                loop.add_reader(listening, self._accept, name, listening)

        loop.call_later(1, resume)

    def _admit(self, name: str, connection: socket.socket, peer: str) -> None:
        """Open a session, or refuse one beyond the limits, in words while those cost little."""
        refusal = self._limit_reached(peer)
        if refusal and self._refused >= _COURTESY:
            connection.close()
            return
        self._count(peer, 1, bool(refusal))
        loop = asyncio.get_running_loop()
        kind = Returns if name == "mx" else Submission
        session = kind(self._terms[name], peer, loop, refusal)
        task = loop.create_task(self._serve(name, session, connection))
        self._tasks[task] = session
        task.add_done_callback(self._done)

    def _limit_reached(self, peer: str) -> str:
        if self._open >= self._settings.max_connections:
            return "421 4.7.0 Too many connections, please try again later"
        if self._peers[_neighbourhood(peer)] >= self._settings.max_per_peer:
            return "421 4.7.0 Too many connections from your address"
        return ""

    def _count(self, peer: str, change: int, refused: bool) -> None:
        if refused:
            self._refused += change
            return
        self._open += change
        group = _neighbourhood(peer)
        self._peers[group] += change
        if not self._peers[group]:
            del self._peers[group]

    async def _serve(self, name: str, session: Session, connection: socket.socket) -> None:
        loop, terms = asyncio.get_running_loop(), self._terms[name]
        options: dict[str, Any] = {}
        if name == "submissions" and terms.context is not None:
            options = {"ssl": terms.context(), "ssl_handshake_timeout": _HANDSHAKE, "ssl_shutdown_timeout": _SHUTDOWN}
        try:
            await loop.connect_accepted_socket(lambda: session, connection, **options)
        except (OSError, TimeoutError) as error:
            connection.close()
            _log.info("no connection", peer=session.peer, listener=name, reason=str(error))
            return
        self._sessions.add(session)
        await asyncio.shield(session.work)  # whoever cancels us must not cancel what is being stored
        await session.closed.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        session = self._tasks.pop(task)
        self._sessions.discard(session)
        self._count(session.peer, -1, session.refused)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("session error", peer=session.peer, exc_info=error)
        session.release()


def _plain_address(address: str) -> str:
    """An IPv4 peer of an IPv6 socket by his own address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


def _neighbourhood(peer: str) -> str:
    """What counts as one peer: an IPv4 address, or an IPv6 network of the size that one customer gets."""
    found = ipaddress.ip_address(peer)
    return peer if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
