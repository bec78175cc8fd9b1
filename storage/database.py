"""The connection to the database, transactions on it, and bringing its schema up to date.

A URL is `sqlite:PATH` (one process, WAL, synchronous=FULL) or `postgres://...` (as many as wanted). Nothing but database work
happens inside a transaction: on SQLite one connection serves everybody. Not here: what PostgreSQL needs (postgres.py, wire.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tortoise import Tortoise
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.connection import get_connection
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.transactions import in_transaction

from storage import catalog, postgres, schema
from storage.failures import Conflict, Failure, Full, Unavailable
from storage.vault import Vault
from storage.wire import Wire, waiting_for

__all__ = ["Conflict", "Database", "Failure", "Full", "Unavailable", "connect", "migrate", "sqlite_path"]

_APP = "pli"
MIGRATIONS = "storage.migrations"

POOL = 10
"""Connections that a process may hold at the most, on PostgreSQL; one more is the wire's."""


@dataclass(frozen=True)
class Database:
    """An open database. `vault` opens and seals its columns."""

    url: str = field(repr=False)  # with its password
    vault: Vault
    _wire: Wire | None = None

    @property
    def is_sqlite(self) -> bool:
        return self._wire is None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with in_transaction():
            yield

    @asynccontextmanager
    async def singleton(self, name: str) -> AsyncIterator[bool]:
        """`async with database.singleton("lapse") as mine:` mine is True where nobody else is inside under this name.

        Among all processes on this database, and among the tasks of this one. A process that dies passes its turn on at once.
        The connection may be lost inside, and then somebody else may enter: what is done inside must bear that
        (compare-and-set). On SQLite, which means one process, always True. Raises Failure.
        """
        if self._wire is None:
            yield True
            return
        async with self._wire.singleton(name) as mine:
            yield mine

    def notify(self) -> None:
        """Wake the other processes on this database: there is work. Call after a commit; returns at once, never fails.

        A hint, which may be lost: whoever waits looks by himself now and then, too. It costs no sync, and calls in one moment
        are one notification.
        """
        if self._wire is not None:
            self._wire.notify()

    def listen(self, callback: Callable[[], None]) -> None:
        """Call *callback* (in this loop, such as `changed.set`) whenever another process notified, and after a lost connection.

        Never for our own `notify`. Until `close`; reconnects by itself. On SQLite nothing ever calls.
        """
        if self._wire is not None:
            self._wire.listen(callback)

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.close()
        # Without this aiosqlite's thread keeps the process alive (dependencies: F-T8).
        await Tortoise.close_connections()


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL, None for another engine."""
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite":
        return None
    return Path(rest.removeprefix("//").partition("?")[0])


_SPEED = {
    "cache_size": "-16384",
    "wal_autocheckpoint": "4000",
    "journal_size_limit": "33554432",
    "temp_store": "MEMORY",
}
"""16 MiB of pages in memory; the log is written back at 16 MiB and kept, not at 4 MiB and cut; savepoints make no files."""


def _connection(url: str, pool: int, *, migrating: bool) -> str | dict[str, Any]:
    path = sqlite_path(url)
    if path is None:
        return postgres.read_url(url).client(pool, migrating=migrating)
    pragmas = {"journal_mode": "WAL", "synchronous": "FULL", "busy_timeout": "5000"}
    if migrating:
        # With foreign_keys=ON a table rebuild deletes the rows of child tables (F-T1). The ORM's own client: its scripts end
        # the transaction they are in, which ours takes for lost.
        options = "&".join(f"{key}={value}" for key, value in {**pragmas, "foreign_keys": "OFF"}.items())
        return f"sqlite://{path}?{options}"
    return {"engine": "storage.sqlite", "credentials": {"file_path": str(path), **pragmas, **_SPEED}}


def _config(url: str, *, pool: int = 2, migrating: bool = False, package: str = MIGRATIONS) -> dict[str, Any]:
    return {
        "connections": {"default": _connection(url, pool, migrating=migrating)},
        "apps": _apps(package),
        "use_tz": True,
        "timezone": "UTC",
    }


def _apps(package: str) -> dict[str, Any]:
    return {_APP: {"models": ["storage.tables"], "default_connection": "default", "migrations": package}}


def _check_file(url: str) -> None:
    path = sqlite_path(url)
    if path is None:
        return
    if not path.parent.is_dir():
        raise Unavailable(f"{path.parent} is not a directory")
    if not path.exists():
        raise Unavailable(f"there is no {path} yet: run `pli migrate`")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)
        try:
            connection.execute("BEGIN IMMEDIATE")
            # A lock alone is granted on a file that cannot be written.
            (number,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {int(number)}")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path} is not a database of ours: {error}") from error


_TROUBLE = (Failure, sqlite3.Error, OSError)


async def _open(config: dict[str, Any]) -> None:
    """Connect now: a first query that cannot connect would leave the ORM's lock taken, and the second one waiting for ever."""
    # Statements that the ORM prepared for another engine: it tells them apart by the connection's name alone.
    EXECUTOR_CACHE.clear()
    await Tortoise.init(config=config)
    await get_connection("default").create_connection(with_db=True)


def _unavailable(url: str, error: BaseException) -> Unavailable:
    return Unavailable(str(error) if sqlite_path(url) else postgres.words(error, postgres.read_url(url)))


async def _pending(package: str = MIGRATIONS) -> list[str]:
    # The executor takes a database that does not answer for an empty one.
    await get_connection("default").execute_query("SELECT 1")
    executor = MigrationExecutor(get_connection("default"), _apps(package))
    return [str(step.migration.name) for step in await executor.plan(None)]


async def connect(url: str, vault: Vault, *, pool: int = POOL) -> Database:
    """Open a database whose schema is up to date. Call in the main task, before any listener exists (F-T7).

    pool: connections at the most, on PostgreSQL. Raises Unavailable for a missing, locked, read-only or foreign file, for a
    server that is not to be had or would forget what it promised, and where migrations are pending.
    """
    _check_file(url)
    try:
        await _open(_config(url, pool=pool))
        if sqlite_path(url) is None:
            await catalog.check_server(get_connection("default"))
        pending = await _pending()
    except _TROUBLE as error:
        await Tortoise.close_connections()
        raise _unavailable(url, error) from error
    except Unavailable:
        await Tortoise.close_connections()
        raise
    if pending:
        await Tortoise.close_connections()
        raise Unavailable(f"the schema lacks {', '.join(pending)}: run `pli migrate`")
    return Database(url, vault, None if sqlite_path(url) else Wire(postgres.read_url(url)))


async def check_current(url: str) -> None:
    """Raises Unavailable where the database at *url* cannot be opened, or migrations are pending."""
    _check_file(url)
    if pending := await _lacking(url, MIGRATIONS):
        raise Unavailable(f"the schema lacks {', '.join(pending)}: run `pli migrate`")


async def migrate(url: str, package: str = MIGRATIONS) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations that ran. An empty database gets everything.

    A migration that loses rows, columns, indexes or triggers is refused (F-T1, F-T2). On SQLite the work is done on a copy that
    takes the file's place at the end; on PostgreSQL in one transaction each, and several at once take turns. Raises
    Unavailable; then nothing was changed, or on PostgreSQL only by the migrations before the one that the text names.
    """
    path = sqlite_path(url)
    if path is None:
        return await _migrate_server(url, package)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        _check_file(url)
        if not await _lacking(url, package):
            return []
    try:
        with schema.copied(path) as copy:
            return await _migrate(f"sqlite:{copy}", package)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}; stop the gateway and whatever else has it open") from error
    except schema.Lossy as error:
        raise Unavailable(f"{path} was not changed: {error}") from error


async def _migrate_server(url: str, package: str) -> list[str]:
    address = postgres.read_url(url)
    try:
        async with waiting_for(address, "migrate"):
            return await _migrate(url, package)
    except postgres.DRIVER as error:
        raise _unavailable(url, error) from error
    except schema.Lossy as error:
        raise Unavailable(f"{address.name} was not changed: {error}") from error


async def _lacking(url: str, package: str) -> list[str]:
    """What is to be run: where nothing is, the file may be in use and is left alone."""
    try:
        await _open(_config(url, package=package))
        return await _pending(package)
    except _TROUBLE as error:
        raise _unavailable(url, error) from error
    finally:
        await Tortoise.close_connections()


async def _migrate(url: str, package: str) -> list[str]:
    done: list[str] = []
    try:
        await _open(_config(url, migrating=True, package=package))
        # The executor's own table first: looking for it in a transaction would break that on PostgreSQL.
        await MigrationExecutor(get_connection("default"), _apps(package)).migrate([])
        for name in await _pending(package):
            if sqlite_path(url):
                await _one(url, name, package)
            else:
                async with in_transaction():  # a refusal takes it all back
                    await _one(url, name, package)
            done.append(name)
    except _TROUBLE as error:
        raise _unavailable(url, error) from error
    finally:
        await Tortoise.close_connections()
    return done


async def _one(url: str, name: str, package: str) -> None:
    """Run one migration, and refuse what it would lose."""
    before = await _snapshot(url)
    executor = MigrationExecutor(get_connection("default"), _apps(package))
    await executor.migrate([MigrationTarget(_APP, name)])
    # A migration that means to drop something says so in an attribute `drops`, in the words of the refusal.
    migration = next(m for key, m in executor.loader.graph.nodes.items() if key.name == name)
    lost = schema.losses(before, await _snapshot(url), getattr(migration, "drops", ()))
    if lost:
        raise schema.Lossy(f"migration {name} would lose {'; '.join(lost)}")


async def _snapshot(url: str) -> schema.Snapshot:
    path = sqlite_path(url)
    return schema.snapshot(path) if path else await catalog.snapshot(get_connection("default"))
