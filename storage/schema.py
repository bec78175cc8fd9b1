"""What a database file holds, and whether a migration lost any of it (SQLite).

SQLite alters a table by rebuilding it, and a rebuild may leave rows, indexes and triggers behind without a word. So a migration
is tried on a copy, `snapshot` is taken before and after, and only a copy that lost nothing takes the file's place.
Not here: PostgreSQL, which alters in place inside a transaction; running migrations (database.py).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

_OWN = ("sqlite_%", "tortoise_migrations")
"""Tables of the engine and of the ORM, which are no part of what must survive."""


class Lossy(Exception):
    """A migration that would lose something; the text names it."""


@dataclass(frozen=True)
class Snapshot:
    """parts: every table, column, index and trigger by a name of its own. rows: how many each table holds."""

    parts: frozenset[str]
    rows: dict[str, int]


def snapshot(path: Path) -> Snapshot:
    """What the database at *path* holds. Indexes are named by what they do, since a rebuild may rename them."""
    parts: set[str] = set()
    rows: dict[str, int] = {}
    with closing(sqlite3.connect(path)) as connection:
        for table in _names(connection, "table"):
            parts.add(f"table {table}")
            parts |= {f"column {table}.{row[1]}" for row in connection.execute(f'PRAGMA table_info("{table}")')}
            parts |= set(_indexes(connection, table))
            rows[table] = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608 - from the schema
        parts |= {f"trigger {name}" for name in _names(connection, "trigger")}
    return Snapshot(frozenset(parts), rows)


def _names(connection: sqlite3.Connection, kind: str) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE ? AND name <> ? ORDER BY name"
    return [str(row[0]) for row in connection.execute(query, (kind, *_OWN))]


def _indexes(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    for _, name, unique, _, partial in connection.execute(f'PRAGMA index_list("{table}")').fetchall():
        columns = ", ".join(str(row[2]) for row in connection.execute(f'PRAGMA index_info("{name}")'))
        yield f"{'unique ' if unique else ''}{'partial ' if partial else ''}index {table}({columns})"


def losses(before: Snapshot, after: Snapshot, meant: Collection[str] = ()) -> list[str]:
    """What *after* lacks of *before*, one line each. meant: what the migration says it drops, in the same words."""
    gone = sorted(before.parts - after.parts - set(meant))
    fewer = [
        f"{count - after.rows[table]} of {count} rows of {table}"
        for table, count in before.rows.items()
        if table in after.rows and after.rows[table] < count and f"rows {table}" not in meant
    ]
    return gone + fewer


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of the database at *path* (of an empty one where there is none) to work on, which then takes its place at once.

    Nobody else may have the file open meanwhile. Where the block raises, the file stays as it was.
    Raises sqlite3.OperationalError ("database is locked") where it is in use.
    """
    copy = path.with_name(f"{path.name}.migrating")
    _remove(copy)  # of a migration that was killed
    with closing(alone(path) if path.exists() else _nothing()) as source:
        try:
            with closing(_new(copy)) as target:
                source.backup(target)
            yield copy
            _settle(copy)
            copy.replace(path)
            _sync(path.parent)
        finally:
            _remove(copy)


def alone(path: Path) -> sqlite3.Connection:
    """The database at *path*, which nobody else can have open until the connection is closed.

    Raises sqlite3.OperationalError ("database is locked") where somebody has.
    """
    connection = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
    try:
        # Leaving WAL needs the file to oneself, and folds the log into it; the lock then stays.
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _nothing() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def _new(copy: Path) -> sqlite3.Connection:
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return sqlite3.connect(copy)


def _settle(copy: Path) -> None:
    """The copy alone, without a log beside it, sound and on the disk."""
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise Lossy(f"the migrated copy is not sound: {found}")
    _sync(copy)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(copy: Path) -> None:
    for name in (copy.name, f"{copy.name}-wal", f"{copy.name}-shm", f"{copy.name}-journal"):
        copy.with_name(name).unlink(missing_ok=True)
