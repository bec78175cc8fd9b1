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
from tortoise.migrations.executor import MigrationExecutor
from tortoise.transactions import in_transaction

from storage.vault import Vault

_APP = "pli"

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


def _config(url: str, *, migrating: bool = False) -> dict[str, Any]:
    return {
        "connections": {"default": _tortoise_url(url, migrating=migrating)},
        "apps": {
            _APP: {"models": ["storage.tables"], "default_connection": "default", "migrations": "storage.migrations"}
        },
        "use_tz": True,
        "timezone": "UTC",
    }


def _check_file(url: str) -> None:
    path = sqlite_path(url)
    if path is None:
        return
    if not path.parent.is_dir():
        raise Unavailable(f"{path.parent} is not a directory")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path} is not a database of ours: {error}") from error


async def _pending() -> list[str]:
    executor = MigrationExecutor(get_connection("default"), _config("")["apps"])
    return [str(step.migration.name) for step in await executor.plan(None)]


async def connect(url: str, vault: Vault) -> Database:
    """Open a database whose schema is up to date. Call in the main task, before any listener exists (F-T7).

    Raises Unavailable for a missing, locked, read-only or foreign file, and where migrations are pending.
    """
    _check_file(url)
    try:
        await Tortoise.init(config=_config(url))
        pending = await _pending()
    except (BaseORMException, OSError) as error:
        await Tortoise.close_connections()
        raise Unavailable(str(error)) from error
    if pending:
        await Tortoise.close_connections()
        raise Unavailable(f"the schema lacks {', '.join(pending)}: run `pli migrate`")
    return Database(url, vault)


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations that ran. An empty database gets everything."""
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            _check_file(url)
    try:
        await Tortoise.init(config=_config(url, migrating=True))
        pending = await _pending()
        if pending:
            await MigrationExecutor(get_connection("default"), _config("")["apps"]).migrate(None)
    except (BaseORMException, OSError) as error:
        raise Unavailable(str(error)) from error
    finally:
        await Tortoise.close_connections()
    if path is not None:
        path.chmod(0o600)
    return pending
