"""One connection of each process beside its pool, for what belongs to a session on PostgreSQL: advisory locks and notifications.

A lock ends with the session that holds it, so a process that dies passes it on. Notifications only wake: whoever listens also
looks by himself now and then, and nothing depends on one arriving. Not here: work, which is claimed from tables (outbox.py).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from storage.postgres import CONNECT_SECONDS, DRIVER, Address, as_failure

_CHANNEL = "pli"
_SPACE = 0x706C69
"""Ours among the advisory locks of a database ("pli")."""
_LOOK_SECONDS = 15
"""How often the connection is tried while nothing happens, so that a silent loss is noticed."""
_PAUSE_SECONDS = 0.02
"""Between notifications: many commits in a moment are one piece of news."""


class Wire:
    """See the module. `close` ends it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()
        self._held: set[str] = set()
        self._news = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def singleton(self, name: str) -> AsyncIterator[bool]:
        """True inside where nobody else, in this process or another, is inside under *name*. Raises Failure."""
        if name in self._held:
            yield False
            return
        self._held.add(name)
        try:
            connection = await self._try(name)
            try:
                yield connection is not None
            finally:
                if connection is not None:
                    await self._unlock(connection, name)
        finally:
            self._held.discard(name)

    async def _try(self, name: str) -> Any:
        """The connection that holds the lock now; None where another session does."""
        try:
            async with self._one_at_a_time:
                connection = await self._connected()
                mine = await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _SPACE, _number(name))
        except DRIVER as error:
            raise as_failure(error) from error
        return connection if mine else None

    async def _unlock(self, connection: Any, name: str) -> None:
        # A connection that is gone has taken its locks along.
        with suppress(*DRIVER):
            async with self._one_at_a_time:
                await connection.execute("SELECT pg_advisory_unlock($1, $2)", _SPACE, _number(name))

    def notify(self) -> None:
        """Wake the other processes, soon. Returns at once and never fails."""
        self._news.set()
        self._begin()

    def listen(self, callback: Callable[[], None]) -> None:
        """Call *callback* whenever another process notified, or may have while the connection was gone."""
        self._callbacks.append(callback)
        self._begin()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            listening = self._connection is not None and not self._connection.is_closed()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_SECONDS if listening else 0)
            news = self._news.is_set()
            self._news.clear()
            try:
                async with self._one_at_a_time:
                    connection = await self._connected()
                    await connection.execute(*(_TELL if news else _LOOK))
                await asyncio.sleep(_PAUSE_SECONDS)
            except DRIVER:
                if news:
                    self._news.set()
                await asyncio.sleep(1)

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(**self._address.arguments, command_timeout=CONNECT_SECONDS)
            await self._connection.add_listener(_CHANNEL, self._heard)
            self._connection.add_termination_listener(self._lost)
            self._tell()  # what was said before is not told again
        return self._connection

    def _heard(self, connection: Any, sender: int, _channel: str, _payload: object) -> None:
        if sender != connection.get_server_pid():
            self._tell()

    def _lost(self, _connection: Any) -> None:
        self._news.set()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()

    async def close(self) -> None:
        if self._task is not None:
            # Python 3.11's wait_for forgets a cancellation that comes with what it waits for.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=0.5)
            self._task = None
        if self._connection is not None:
            self._connection.remove_termination_listener(self._lost)
            with suppress(*DRIVER):
                await self._connection.close(timeout=5)
            self._connection = None


# A notification needs no sync of its own, and must not wait for one: it commits under a lock that all who notify share.
_TELL = (f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{_CHANNEL}', '')",)
_LOOK = ("SELECT 1",)


@asynccontextmanager
async def waiting_for(address: Address, name: str) -> AsyncIterator[None]:
    """Inside, nobody else is under *name*; waits for whoever is. Raises what the driver raises."""
    settings = {**address.settings(0), "lock_timeout": "0"}
    connection = await asyncpg.connect(**{**address.arguments, "server_settings": settings})
    try:
        await connection.execute("SELECT pg_advisory_lock($1, $2)", _SPACE, _number(name))
        yield
    finally:
        with suppress(*DRIVER):
            await connection.close(timeout=5)


def _number(name: str) -> int:
    """A lock's number: 32 bits with a sign."""
    return int.from_bytes(zlib.crc32(name.encode()).to_bytes(4, "big"), "big", signed=True)
