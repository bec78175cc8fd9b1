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
from tortoise.fields import CharField
from tortoise.models import Model
from tortoise.transactions import in_transaction

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


@runtime_checkable
class Together(Protocol):
    """A transaction to which several statements are one step (storage/sqlite.py)."""

    async def execute_all(self, statements: Sequence[Statement]) -> None: ...


@runtime_checkable
class Whole(Protocol):
    """A connection to which a whole transaction is one step (storage/sqlite.py)."""

    async def transact(self, first: Callable[[], None], statements: Sequence[Statement]) -> None: ...


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


async def commit(*given: Rows, first: Callable[[], None]) -> None:
    """Insert rows in a transaction of their own. first: blocking work that must have succeeded before, in any thread.

    Raises Conflict, Failure or what *first* raises; then no row was inserted.
    """
    connection = get_connection("default")
    statements = _statements(connection.capabilities.dialect, given)
    if isinstance(connection, Whole):
        await connection.transact(first, statements)
        return
    await asyncio.to_thread(first)
    async with in_transaction() as transaction:
        for sql, values in statements:
            await transaction.execute_many(sql, cast("list[list[Any]]", values))


def _statements(dialect: str, given: Sequence[Rows]) -> list[Statement]:
    statements = []
    for into, rows in given:
        if rows:
            statements.append((into.sql(dialect), list(rows)))
            into.check(rows)
    return statements
