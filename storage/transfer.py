"""From an SQLite store to a PostgreSQL one: every row of every table, and the message bytes, in one transaction.

Sealed columns and streams move as they are, without any key. The order of the ledger and its numbers stay: what was proved
before is proved after. Not here: whether the copy holds what its evidence says (gateway.check).
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
from tortoise import fields
from tortoise.models import Model

from storage import database, postgres, schema, tables
from storage.blobs_database import PIECE, reference
from storage.failures import Unavailable
from storage.wire import waiting_for

_ROWS = 1000
"""Read and sent at a time."""
_NAMING = ("deposit", "proof")
"""Tables with a column `blob`."""


@dataclass(frozen=True)
class Copied:
    """What was copied of one table, or of the message bytes."""

    what: str
    rows: int
    size: int = 0


async def copy(source: str, blobs: Path, target: str, tell: Callable[[Copied], None]) -> None:
    """Copy the store at *source*, whose segment files lie in *blobs*, into the empty database at *target*, told table by table.

    Raises Unavailable where either cannot be had, the source is in use or its schema behind, the target holds anything, or a
    count differs in the end; then the target holds its schema and nothing else.
    """
    path = database.sqlite_path(source)
    if path is None:
        raise Unavailable("only an SQLite store is copied: the source has the form sqlite:PATH")
    if database.sqlite_path(target) is not None:
        raise Unavailable(
            "a store is copied into PostgreSQL only: the target has the form postgres://user:password@host/name"
        )
    await database.check_current(source)
    await database.migrate(target)
    address = postgres.read_url(target)
    try:
        with closing(schema.alone(path)) as rows:
            rows.row_factory = sqlite3.Row
            async with waiting_for(address, "migrate"):
                await _copy(rows, blobs, address, tell)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}; stop the gateway and whatever else has it open") from error
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path}: {error}") from error
    except _Gone as error:
        raise Unavailable(str(error)) from error
    except postgres.DRIVER as error:
        raise Unavailable(postgres.words(error, address)) from error


async def _copy(
    rows: sqlite3.Connection, blobs: Path, address: postgres.Address, tell: Callable[[Copied], None]
) -> None:
    target = await asyncpg.connect(**{**address.arguments, "server_settings": address.settings(0)})
    try:
        async with target.transaction():
            for model in _models():
                if await target.fetchval(f'SELECT count(*) FROM "{_name(model)}"'):  # noqa: S608 - from the schema
                    raise Unavailable(
                        f"database {address.name} holds letters already: table {_name(model)} is not empty"
                    )
            names = await _streams(rows, blobs, target, tell)
            for model in _models():
                if model is not tables.MessageBytes:
                    tell(Copied(_name(model), await _table(rows, model, target, names)))
            await _number_on(target)
    finally:
        await target.close(timeout=10)


def _models() -> list[type[Model]]:
    """Every table, in the order of the file."""
    return [m for m in vars(tables).values() if isinstance(m, type) and issubclass(m, Model) and m is not Model]


def _name(model: type[Model]) -> str:
    return str(model._meta.db_table)  # noqa: SLF001 - its documented home


async def _table(rows: sqlite3.Connection, model: type[Model], target: Any, names: dict[str, str]) -> int:
    """Copy one table in the order of its key; returns how many rows the target counts. names: new references of streams."""
    meta, table = model._meta, _name(model)  # noqa: SLF001
    columns = [str(column) for column in meta.fields_db_projection.values()]
    kinds = [meta.fields_map[field] for field in meta.fields_db_projection]
    found = rows.execute(f'SELECT * FROM "{table}" ORDER BY "{meta.db_pk_column}"')  # noqa: S608 - from the schema
    read = 0
    while some := await asyncio.to_thread(found.fetchmany, _ROWS):
        records = [
            tuple(_value(kind, row[column]) for kind, column in zip(kinds, columns, strict=True)) for row in some
        ]
        if table in _NAMING:
            at = columns.index("blob")
            records = [(*record[:at], names[record[at]], *record[at + 1 :]) for record in records]
        await target.copy_records_to_table(table, records=records, columns=columns)
        read += len(some)
    count = int(await target.fetchval(f'SELECT count(*) FROM "{table}"'))  # noqa: S608 - from the schema
    if count != read:
        raise Unavailable(f"table {table}: {count} rows arrived of {read}")
    return count


def _value(kind: fields.Field[Any], value: Any) -> Any:
    """A value of SQLite as PostgreSQL's column wants it."""
    if value is None:
        return None
    if isinstance(kind, fields.DatetimeField):
        at = datetime.fromisoformat(value)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    if isinstance(kind, fields.DateField):
        return date.fromisoformat(value)
    return value


async def _streams(
    rows: sqlite3.Connection, blobs: Path, target: Any, tell: Callable[[Copied], None]
) -> dict[str, str]:
    """Copy every stream that a row names; returns old references with their new ones."""
    names: dict[str, str] = {}
    size = 0
    for table in _NAMING:
        for (old,) in rows.execute(f"SELECT blob FROM {table}").fetchall():  # noqa: S608 - from _NAMING
            if old in names:
                continue
            name, number, length = secrets.token_hex(16), 0, 0
            async for piece in _pieces(blobs, str(old)):
                await target.execute("INSERT INTO message_bytes (id, data) VALUES ($1, $2)", f"{name}:{number}", piece)
                number, length = number + 1, length + len(piece)
            names[old] = reference(name, number, length)
            size += length
    tell(Copied("message bytes", len(names), size))
    return names


class _Gone(Exception):
    """Message bytes that are not there."""


async def _pieces(blobs: Path, old: str) -> AsyncIterator[bytes]:
    pieces = _read(blobs, old)
    try:
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
    except (OSError, ValueError) as error:
        raise _Gone(f"the message bytes {old} cannot be read in {blobs} ({error})") from error


def _read(blobs: Path, old: str) -> Iterator[bytes]:
    name, at, length = old.split(":")
    left = int(length)
    with (blobs / name).open("rb") as file:
        file.seek(int(at))
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise ValueError(f"the file ends {left} bytes too early")
            left -= len(piece)
            yield piece


async def _number_on(target: Any) -> None:
    """Numbers that the database gives go on where the copied ones end."""
    for model in _models():
        meta = model._meta  # noqa: SLF001
        if meta.pk.generated:
            await target.execute(
                f'SELECT setval(pg_get_serial_sequence($1, $2), max("{meta.db_pk_column}")) FROM "{_name(model)}"'  # noqa: S608
                f' HAVING max("{meta.db_pk_column}") IS NOT NULL',
                _name(model),
                meta.db_pk_column,
            )
