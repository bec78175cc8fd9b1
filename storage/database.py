"""The connection to the database, transactions on it, and bringing its schema up to date.

A URL is `sqlite:PATH` (one process, WAL, synchronous=FULL) or `postgres://...`. Nothing but database work happens inside a
transaction: on SQLite one connection serves everybody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tortoise import Tortoise
from tortoise.connection import get_connection
from tortoise.exceptions import BaseORMException, IntegrityError
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.transactions import in_transaction

from storage import schema
from storage.vault import Vault

_APP = "pli"
MIGRATIONS = "storage.migrations"

Conflict = IntegrityError
"""A row that must be single exists already, or a trigger refused one."""
Failure = BaseORMException
"""Any failure of the database during work."""


class Unavailable(Exception):
    """The database cannot be reached, opened or written; the text says which and why, for the operator."""


@dataclass(frozen=True)
class Database:
    """An open database. `vault` opens and seals its columns."""

    url: str
    vault: Vault

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with in_transaction():
            yield

    async def close(self) -> None:
        # Without this aiosqlite's thread keeps the process alive (dependencies: F-T8).
        await Tortoise.close_connections()


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL, None for another engine."""
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite":
        return None
    return Path(rest.removeprefix("//").partition("?")[0])


def _tortoise_url(url: str, *, migrating: bool) -> str:
    path = sqlite_path(url)
    if path is None:
        return url
    # A table rebuild with foreign_keys=ON deletes the rows of child tables (F-T1).
    extra = "&foreign_keys=OFF" if migrating else ""
    return f"sqlite://{path}?journal_mode=WAL&synchronous=FULL&busy_timeout=5000{extra}"


def _config(url: str, *, migrating: bool = False, package: str = MIGRATIONS) -> dict[str, Any]:
    return {
        "connections": {"default": _tortoise_url(url, migrating=migrating)},
        "apps": {_APP: {"models": ["storage.tables"], "default_connection": "default", "migrations": package}},
        "use_tz": True,
        "timezone": "UTC",
    }


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


_TROUBLE = (BaseORMException, sqlite3.Error, OSError)


async def _open(config: dict[str, Any]) -> None:
    """Connect now: a first query that cannot connect would leave the ORM's lock taken, and the second one waiting for ever."""
    await Tortoise.init(config=config)
    await get_connection("default").create_connection(with_db=True)


async def _pending(package: str = MIGRATIONS) -> list[str]:
    executor = MigrationExecutor(get_connection("default"), _config("", package=package)["apps"])
    return [str(step.migration.name) for step in await executor.plan(None)]


async def connect(url: str, vault: Vault) -> Database:
    """Open a database whose schema is up to date. Call in the main task, before any listener exists (F-T7).

    Raises Unavailable for a missing, locked, read-only or foreign file, and where migrations are pending.
    """
    _check_file(url)
    try:
        await _open(_config(url))
        pending = await _pending()
    except _TROUBLE as error:
        await Tortoise.close_connections()
        raise Unavailable(str(error)) from error
    if pending:
        await Tortoise.close_connections()
        raise Unavailable(f"the schema lacks {', '.join(pending)}: run `pli migrate`")
    return Database(url, vault)


async def migrate(url: str, package: str = MIGRATIONS) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations that ran. An empty database gets everything.

    On SQLite the work is done on a copy that takes the file's place at the end, and a migration that loses rows, indexes or
    triggers is refused (F-T1, F-T2). Raises Unavailable; then nothing was changed.
    """
    path = sqlite_path(url)
    if path is None:
        return await _migrate(url, package)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        _check_file(url)
        if not await _lacking(url, package):
            return []
    try:
        with schema.copied(path) as copy:
            return await _migrate(f"sqlite:{copy}", package, copy)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}; stop the gateway and whatever else has it open") from error
    except schema.Lossy as error:
        raise Unavailable(f"{path} was not changed: {error}") from error


async def _lacking(url: str, package: str) -> bool:
    """Whether migrations are to be run: otherwise the file may be in use and is left alone."""
    try:
        await _open(_config(url, package=package))
        return bool(await _pending(package))
    except _TROUBLE as error:
        raise Unavailable(str(error)) from error
    finally:
        await Tortoise.close_connections()


async def _migrate(url: str, package: str, guarded: Path | None = None) -> list[str]:
    apps = _config(url, package=package)["apps"]
    done: list[str] = []
    try:
        await _open(_config(url, migrating=True, package=package))
        executor = MigrationExecutor(get_connection("default"), apps)
        for step in await executor.plan(None):
            name = str(step.migration.name)
            before = None if guarded is None else schema.snapshot(guarded)
            await MigrationExecutor(get_connection("default"), apps).migrate([MigrationTarget(_APP, name)])
            if guarded is not None and before is not None:
                # A migration that means to drop something says so in an attribute `drops`, in the words of the refusal.
                lost = schema.losses(before, schema.snapshot(guarded), getattr(step.migration, "drops", ()))
                if lost:
                    raise schema.Lossy(f"migration {name} would lose {'; '.join(lost)}")
            done.append(name)
    except _TROUBLE as error:
        raise Unavailable(str(error)) from error
    finally:
        await Tortoise.close_connections()
    return done
