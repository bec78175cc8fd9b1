"""SQLite under the ORM: a client that fails in one way only, and whose one connection is never left in an unknown state.

The ORM's own client keeps its lock for ever when BEGIN fails or is cancelled, leaves the transaction open when COMMIT fails (the
next one would then commit it), and begins transactions that read first and are refused at once when they write.
Not here: which pragmas, migrations (database.py).
"""
# ruff: noqa: SLF001 - the ORM's clients pass connections to each other in private attributes

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from tortoise.backends.base.client import NestedTransactionContext, TransactionalDBClient, TransactionContext
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionContext, SqliteTransactionWrapper
from tortoise.connection import get_connections
from tortoise.exceptions import IntegrityError, OperationalError

from storage.bulk import Statement
from storage.failures import Full

_BEGIN = "BEGIN IMMEDIATE"
"""A transaction that reads first and then writes would be refused at once where another process has written in between, whatever
the timeout (sqlite.org/isolation.html)."""
_T = TypeVar("_T")


class Undone(sqlite3.OperationalError):
    """The database undid the whole transaction by itself, as it may on a full or broken disk (sqlite.org/lang_transaction.html).

    On purpose no Failure: whoever goes on after one failed step must not take the steps before it for kept.
    """


async def _told(work: Awaitable[_T]) -> _T:
    """Every failure as the ORM's own."""
    try:
        return await work
    except OperationalError as error:
        cause = error.args[0] if error.args else None
        if isinstance(cause, sqlite3.Error):
            raise as_failure(cause) from error
        raise
    except sqlite3.Error as error:
        raise as_failure(error) from error


def as_failure(error: sqlite3.Error) -> OperationalError | IntegrityError:
    """The ORM's word for what the driver raised."""
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError(error)
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return Full(error) if full else OperationalError(error)


class _Statements(SqliteClient):
    async def execute_insert(self, query: str, values: list[Any]) -> int:
        return await _told(super().execute_insert(query, values))

    async def execute_query(self, query: str, values: list[Any] | None = None) -> tuple[int, Sequence[dict[str, Any]]]:
        return await _told(super().execute_query(query, values))

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
        return await _told(super().execute_query_dict(query, values))

    async def execute_script(self, query: str) -> None:
        await _told(super().execute_script(query))


class Client(_Statements):
    def _in_transaction(self) -> TransactionContext:
        return _Transaction(_TransactionClient(self), self._lock)

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        async with self._in_transaction() as connection:
            await connection.execute_many(query, values)

    async def transact(self, first: Sequence[Callable[[], None]], statements: Sequence[Statement]) -> None:
        """*first*, then a transaction: one way to the database's thread and back for it all.

        Raises what *first* raises; then no transaction was begun.
        """
        async with self.acquire_connection() as held:
            await _told(held._execute(_transact, held._conn, first, statements))


class _TransactionClient(_Statements, SqliteTransactionWrapper):
    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_TransactionClient(self))

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        await _told(SqliteTransactionWrapper.execute_many(self, query, values))

    async def execute_all(self, statements: Sequence[Statement]) -> None:
        """Several statements on one way to the database's thread and back."""
        async with self.acquire_connection() as held:
            await _told(held._execute(_execute_all, held._conn, statements))

    async def begin(self) -> None:
        if self._connection.in_transaction:
            await self._connection.rollback()
        await _told(self._connection.execute(_BEGIN))

    async def commit(self) -> None:
        self._must_stand()
        await _told(super().commit())

    async def savepoint(self) -> None:
        self._must_stand()
        await _told(super().savepoint())

    async def savepoint_rollback(self) -> None:
        self._must_stand()
        await _told(super().savepoint_rollback())

    async def release_savepoint(self) -> None:
        self._must_stand()
        await _told(super().release_savepoint())

    def _must_stand(self) -> None:
        if not self._connection.in_transaction:
            raise Undone("the transaction was undone")


def _execute_all(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    for sql, values in statements:
        connection.execute(sql, values)


def _transact(
    connection: sqlite3.Connection, first: Sequence[Callable[[], None]], statements: Sequence[Statement]
) -> None:
    for work in first:
        work()
    if connection.in_transaction:
        connection.rollback()
    connection.execute(_BEGIN)
    try:
        _execute_all(connection, statements)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


class _Transaction(SqliteTransactionContext):
    """A transaction on the one connection, which is free of it afterwards whatever happens."""

    __slots__ = ()

    async def __aenter__(self) -> TransactionalDBClient:
        await self._trxlock.acquire()
        try:
            await self.ensure_connection()
            await self.connection.begin()
        except BaseException:
            await self._undo()
            raise
        self.token = get_connections().set(self.connection_name, self.connection)
        return self.connection  # type: ignore[no-any-return]

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        get_connections().reset(self.token)
        if exc_type is None and not self.connection._finalized:
            try:
                await self.connection.commit()
            except BaseException:
                await self._undo()
                raise
            self._trxlock.release()
        else:
            await self._undo()

    async def _undo(self) -> None:
        """Nothing of it stays open. Statements run in the order they were asked for, so a cancelled one is behind us."""
        self.connection._finalized = True
        try:
            if self.connection._connection is not None:
                await _told(self.connection._connection.rollback())
        finally:
            self._trxlock.release()


client_class = Client
"""By which the ORM finds the client in this module."""
