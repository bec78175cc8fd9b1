"""Many rows of several tables in as few steps as the engine allows: what a deposit costs is mostly the rows that it writes.

No object is made for a row, and on SQLite all statements go to the database's thread at once: each way there and back is
two changes of thread, dearer than the insert itself. Values go to the driver as they are: text, integers, bytes, instants in
UTC, dates. Not here: what the rows mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from tortoise.connection import get_connection
from tortoise.exceptions import ValidationError
from tortoise.fields import CharField, Field
from tortoise.models import Model

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Insert:
    """Columns of a table to insert into; the others have a default or number themselves."""

    table: type[Model]
    columns: Sequence[str]
    _sql: dict[str, str] = field(default_factory=dict)  # by dialect
    _limits: list[tuple[int, int]] = field(default_factory=list)  # (position, longest text)

    def sql(self, dialect: str) -> str:
        return self._sql.get(dialect) or self._prepare(dialect)

    def of_arrays(self, first: int) -> str:
        """As `sql` on PostgreSQL, of one array a column: parameters $first and on."""
        meta = self.table._meta  # noqa: SLF001 - the ORM's name for it
        names = ", ".join(f'"{name}"' for name in self.columns)
        kinds = [_kind(meta.fields_map[name]) for name in self.columns]
        marks = ", ".join(f"${first + number}::{kind}[]" for number, kind in enumerate(kinds))
        return f'INSERT INTO "{meta.db_table}" ({names}) SELECT * FROM unnest({marks})'  # noqa: S608 - names of our own tables

    def check(self, rows: Sequence[Values]) -> None:
        """Raises ValidationError for a text that PostgreSQL would not take; SQLite takes any."""
        for position, longest in self._limits:
            for row in rows:
                if row[position] is not None and len(row[position]) > longest:
                    raise ValidationError(f"{self.table.__name__}.{self.columns[position]}: too long")

    def _prepare(self, dialect: str) -> str:
        meta = self.table._meta  # noqa: SLF001 - the ORM's name for it
        found = [(at, meta.fields_map[name]) for at, name in enumerate(self.columns)]
        self._limits[:] = [(at, column.max_length) for at, column in found if isinstance(column, CharField)]
        names = ", ".join(f'"{name}"' for name in self.columns)
        marks = ", ".join("?" if dialect == "sqlite" else f"${number + 1}" for number in range(len(self.columns)))
        sql = f'INSERT INTO "{meta.db_table}" ({names}) VALUES ({marks})'  # noqa: S608 - names of our own tables
        self._sql[dialect] = sql
        return sql


def _kind(column: Field[Any]) -> str:
    """PostgreSQL's type of a column."""
    return str(column.get_for_dialect("postgres", "SQL_TYPE")).partition("(")[0].lower()


@runtime_checkable
class Together(Protocol):
    """A transaction to which several statements are one step (storage/sqlite.py)."""

    async def execute_all(self, statements: Sequence[Statement]) -> None: ...


@runtime_checkable
class Whole(Protocol):
    """A connection to which a whole transaction is one step (storage/sqlite.py)."""

    async def transact(self, first: Sequence[Callable[[], None]], statements: Sequence[Statement]) -> None: ...


Statement = tuple[str, list[Values]]
Rows = tuple[Insert, Sequence[Values]]
"""Rows on their way into a table: values in the order of its columns."""


async def insert(*given: Rows) -> None:
    """Inside a transaction: insert rows, table by table in the order given.

    Raises Conflict or Failure; what was written before it is the transaction's to undo.
    """
    connection = get_connection("default")
    statements = _statements(connection.capabilities.dialect, given)
    if isinstance(connection, Together):
        await connection.execute_all(statements)
    else:
        for sql, values in statements:
            await connection.execute_many(sql, cast("list[list[Any]]", values))


async def commit(*given: Rows, first: Sequence[Callable[[], None]] = ()) -> None:
    """Insert rows in a transaction of their own. first: blocking work that must be done before, in any thread.

    Raises Conflict, Failure or what the work raises; then no row was inserted.
    """
    connection = get_connection("default")
    dialect = connection.capabilities.dialect
    if isinstance(connection, Whole):
        await connection.transact(first, _statements(dialect, given))
        return
    for work in first:
        await asyncio.to_thread(work)
    filled = [(into, rows) for into, rows in given if rows]
    for into, rows in filled:
        into.sql(dialect)
        into.check(rows)
    # A statement is a transaction, and this one is on its way once, whatever the number of tables.
    columns = [list(values) for _, rows in filled for values in zip(*rows, strict=True)]
    await connection.execute_query(_of_all([into for into, _ in filled]), columns)


_OF_ALL: dict[tuple[type[Model], ...], str] = {}


def _of_all(inserts: Sequence[Insert]) -> str:
    """One statement for several tables."""
    key = tuple(into.table for into in inserts)
    if key not in _OF_ALL:
        parts, number = [], 1
        for into in inserts:
            parts.append(f"into_{number} AS ({into.of_arrays(number)})")
            number += len(into.columns)
        _OF_ALL[key] = f"WITH {', '.join(parts)} SELECT 1"
    return _OF_ALL[key]


def _statements(dialect: str, given: Sequence[Rows]) -> list[Statement]:
    statements = []
    for into, rows in given:
        if rows:
            statements.append((into.sql(dialect), list(rows)))
            into.check(rows)
    return statements
