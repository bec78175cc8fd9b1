"""Many rows of several tables in as few steps as the engine allows: what a deposit costs is mostly the rows that it writes.

No object is made for a row. SQLite gets statements of many rows, all of them on one way to the database's thread: each way there
and back is two changes of thread, and each statement is a fight for the interpreter's lock. PostgreSQL gets one statement for
all tables, with an array a column. Values go to the driver as they are: text, integers, bytes, instants in UTC, dates.
Not here: what the rows mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, cast

from tortoise.connection import get_connection
from tortoise.exceptions import ValidationError
from tortoise.fields import CharField, Field
from tortoise.models import Model

Values = tuple[Any, ...]
Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters."""
_MOST = 64
"""Rows of one statement on SQLite."""


@dataclass(frozen=True, eq=False)
class Insert:
    """Columns of a table to insert into; the others have a default or number themselves."""

    table: type[Model]
    columns: Sequence[str]
    _of_rows: dict[int, str] = field(default_factory=dict)  # by number of rows

    def of_rows(self, number: int) -> str:
        """The statement for *number* rows, with a mark for each of their values."""
        if number not in self._of_rows:
            marks = f"({', '.join('?' * len(self.columns))})"
            self._of_rows[number] = f"{self._into()} VALUES {', '.join([marks] * number)}"
        return self._of_rows[number]

    def of_arrays(self, first: int) -> str:
        """The statement for any number of rows, given as an array a column: parameters $first and on."""
        kinds = [_kind(column) for column in self._fields()]
        marks = ", ".join(f"${first + number}::{kind}[]" for number, kind in enumerate(kinds))
        return f"{self._into()} SELECT * FROM unnest({marks})"  # noqa: S608 - names of our own tables

    def check(self, rows: Sequence[Values]) -> None:
        """Raises ValidationError for a text that PostgreSQL would not take; SQLite takes any."""
        for position, longest in self._limits:
            for row in rows:
                if row[position] is not None and len(row[position]) > longest:
                    raise ValidationError(f"{self.table.__name__}.{self.columns[position]}: too long")

    def _into(self) -> str:
        names = ", ".join(f'"{name}"' for name in self.columns)
        return f'INSERT INTO "{self.table._meta.db_table}" ({names})'  # noqa: SLF001 - the ORM's name for it

    def _fields(self) -> list[Field[Any]]:
        return [self.table._meta.fields_map[name] for name in self.columns]  # noqa: SLF001 - the ORM's name for it

    @cached_property
    def _limits(self) -> list[tuple[int, int]]:
        """(position, longest text) of its texts."""
        return [(at, found.max_length) for at, found in enumerate(self._fields()) if isinstance(found, CharField)]


Rows = tuple[Insert, Sequence[Values]]
"""Rows on their way into a table: values in the order of its columns."""


class SqliteTransaction(Protocol):
    """storage/sqlite.py, inside a transaction."""

    async def execute_all(self, statements: Sequence[Statement]) -> None: ...


class SqliteClient(Protocol):
    """storage/sqlite.py, outside of one."""

    async def transact(self, first: Sequence[Callable[[], None]], statements: Sequence[Statement]) -> None: ...


async def insert(*given: Rows) -> None:
    """Inside a transaction: insert rows, table by table in the order given.

    Raises Conflict or Failure; what was written before it is the transaction's to undo.
    """
    filled, connection = _filled(given), get_connection("default")
    if connection.capabilities.dialect == "sqlite":
        await cast("SqliteTransaction", connection).execute_all(list(_of_rows(filled)))
    elif filled:
        await connection.execute_query(*_of_arrays(filled))


async def commit(*given: Rows, first: Sequence[Callable[[], None]] = ()) -> None:
    """Insert rows in a transaction of their own. first: blocking work that must be done before, in any thread.

    Raises Conflict, Failure or what the work raises; then no row was inserted.
    """
    filled, connection = _filled(given), get_connection("default")
    if connection.capabilities.dialect == "sqlite":
        await cast("SqliteClient", connection).transact(first, list(_of_rows(filled)))
        return
    for work in first:
        await asyncio.to_thread(work)
    # A statement is a transaction, and this one is on its way once, whatever the number of tables.
    await connection.execute_query(*_of_arrays(filled))


def _filled(given: Sequence[Rows]) -> list[Rows]:
    for into, rows in given:
        into.check(rows)
    return [(into, rows) for into, rows in given if rows]


def _of_rows(given: Sequence[Rows]) -> Iterator[Statement]:
    """Statements whose numbers of rows are powers of two: few enough texts for the driver to keep them all prepared."""
    for into, rows in given:
        at = 0
        while at < len(rows):
            number = min(_MOST, 1 << (len(rows) - at).bit_length() - 1)
            yield into.of_rows(number), [value for row in rows[at : at + number] for value in row]
            at += number


_OF_ARRAYS: dict[tuple[Insert, ...], str] = {}


def _of_arrays(given: Sequence[Rows]) -> tuple[str, list[Any]]:
    """One statement for several tables; a table stands in it once."""
    key = tuple(into for into, _ in given)
    if key not in _OF_ARRAYS:
        parts, number = [], 1
        for into, _ in given:
            parts.append(f"into_{number} AS ({into.of_arrays(number)})")
            number += len(into.columns)
        _OF_ARRAYS[key] = f"WITH {', '.join(parts)} SELECT 1"
    return _OF_ARRAYS[key], [list(values) for _, rows in given for values in zip(*rows, strict=True)]


def _kind(column: Field[Any]) -> str:
    """PostgreSQL's type of a column."""
    return str(column.get_for_dialect("postgres", "SQL_TYPE")).partition("(")[0].lower()
