"""The web server: uvicorn inside our own event loop, with limits, and with an eye on what a peer really took.

It leaves signals alone, keeps no access log (paths hold tokens), and names no software. Not here: what is served (app.py).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import ssl
import termios
from collections.abc import Generator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.core.errors import Unusable
from web.portal.handover import TAKEN

_log = structlog.get_logger("web")
_MOST_HEAD = 32 * 1024  # octets of a request's head
_MOST_CONNECTIONS = 1000
_KEEP_ALIVE = 10  # seconds
_PATIENCE = 20.0  # seconds for a request to arrive whole, and for a peer to take anything at all
_STOPPING, _ENDING = 10, 3  # seconds for answers in flight, and for those that were cut off


class _Uvicorn(uvicorn.Server):
    """Does not touch signals: uvicorn would raise them again and end the process before SMTP has drained."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Server:
    """One listener. port: the one really bound, once started. shared: other processes of ours listen on it, too."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, cert: Path | None, key: Path | None, *, shared: bool = False
    ) -> None:
        self.host, self.port = host, port
        self._shared = shared
        self._app, self._cert, self._key = app, cert, key
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when connections are taken. Raises Unusable where the address is taken or the certificate unusable."""
        tls = self._tls()
        bound = self._bind()
        self.port = int(bound.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_STOPPING,
            h11_max_incomplete_event_size=_MOST_HEAD,
            ssl_context_factory=None if tls is None else (lambda *_: tls),
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([bound]), name="web")
        while not self._server.started:
            if self._task.done():
                bound.close()
                await self._task
                raise Unusable(f"[web] listen: nothing listens on {self.host}:{self.port}")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Stop listening, let answers in flight end for a while, and return."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            # What was cut off has its end recorded yet: the database is open until we return.
            if tasks := self._server.server_state.tasks:
                await asyncio.wait(tasks, timeout=_ENDING)
            self._server = self._task = None

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server(
                (self.host, self.port),
                family=family,
                backlog=512,
                reuse_port=self._shared,
                dualstack_ipv6=self.host == "::",
            )
        except OSError as error:
            where = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
            why = "is taken" if "in use" in str(error) else "cannot be listened on"
            raise Unusable(f"[web] listen: {where} {why} ({error.strerror or error}); choose another") from error

    def _tls(self) -> ssl.SSLContext | None:
        if self._cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise Unusable(f"[web] tls_cert, tls_key: {self._cert} cannot be used ({error})") from error
        return context


class _Connection(H11Protocol):
    """One connection: a peer that is too slow is let go, and what it took can be waited for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner = self.app
        self._waiting_since: float | None = None
        self._stuck: tuple[int, int] | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._closed = False

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TAKEN] = {"wait": self.taken}
            await inner(scope, receive, send)

        self.app = app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._tick = self.loop.call_later(_PATIENCE, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._incomplete():
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self.loop.time()

    async def taken(self) -> bool:
        """Wait until the peer's machine acknowledged all that was sent; False where it went away or takes nothing any more."""
        end, before = self.loop.time() + _PATIENCE, self._outstanding()
        quiet = 0
        while not self._closed:
            now = self._outstanding()
            quiet = quiet + 1 if now == 0 else 0
            if quiet == 2:  # twice, since what the TLS layer still holds reaches the kernel in between
                return True
            if now < before:
                end, before = self.loop.time() + _PATIENCE, now
            if self.loop.time() > end:
                self.transport.abort()
                return False
            await asyncio.sleep(0.002 if quiet else 0.005)
        return False

    def _outstanding(self) -> int:
        """Octets that the peer has not acknowledged (tcp(7), SIOCOUTQ), and those that we still hold."""
        held = self.transport.get_write_buffer_size()
        queued = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):  # a system or socket without it: then ours must do
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return int(held + queued[0])

    def _incomplete(self) -> bool:
        """We wait for the peer: no request has begun, or not all of it has come."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _look(self) -> None:
        waited = 0.0 if self._waiting_since is None else self.loop.time() - self._waiting_since
        held = self.transport.get_write_buffer_size()
        stuck = (id(self.cycle), held)
        if (self._incomplete() and waited >= _PATIENCE) or (held and stuck == self._stuck):
            self.transport.abort()
            return
        self._stuck = stuck
        self._tick = self.loop.call_later(_PATIENCE / 4 if self._incomplete() else _PATIENCE, self._look)
