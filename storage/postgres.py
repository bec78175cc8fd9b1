"""PostgreSQL under the ORM: the parts of a URL, a client that fails in one way only, and sentences for the operator.

The ORM's own client lets lost connections, timeouts and refusals through as whatever the driver raised, and keeps a pooled
connection for ever when BEGIN fails on it. Here every failure is the ORM's own (Failure), and a connection always goes back.
Not here: migrations and the schema (database.py, catalog.py), locks and notifications between processes (wire.py).
"""
# ruff: noqa: SLF001 - the ORM's clients pass connections to each other in private attributes

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    NestedTransactionContext,
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
    TransactionContextPooled,
)
from tortoise.connection import get_connections
from tortoise.exceptions import IntegrityError, OperationalError, TransactionManagementError

from storage.failures import Failure, Full, Unavailable

DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, UnicodeError)
"""Everything that the driver raises, TimeoutError (an OSError) among it."""
CONNECT_SECONDS = 10
STATEMENT_SECONDS = 30
LOCK_SECONDS = 10
_ACQUIRE_SECONDS = 20
_SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Address:
    """A server, a database in it, and who asks."""

    host: str | None
    port: int
    user: str
    name: str
    password: str | None = field(default=None, repr=False)
    tls: Any = None

    def __str__(self) -> str:
        return f"{self.host or 'localhost'}:{self.port}"

    @property
    def arguments(self) -> dict[str, Any]:
        """For asyncpg.connect. Its limits are the session's: nothing we run hangs for ever, or keeps locks for ever."""
        return {
            **self._where,
            "database": self.name,
            "server_settings": self.settings(STATEMENT_SECONDS),
        }

    @property
    def _where(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "ssl": self.tls,
            "timeout": CONNECT_SECONDS,
        }

    def settings(self, statement_seconds: int) -> dict[str, str]:
        return {
            "application_name": "pli",
            "timezone": "UTC",
            "statement_timeout": f"{statement_seconds}s",
            "lock_timeout": f"{LOCK_SECONDS}s",
            "idle_in_transaction_session_timeout": "60s",
        }

    def client(self, pool: int, *, migrating: bool = False) -> dict[str, Any]:
        """A connection as the ORM's configuration has it. pool: connections at the most."""
        seconds = 0 if migrating else STATEMENT_SECONDS
        return {
            "engine": "storage.postgres",
            "credentials": {
                **self._where,
                "database": self.name,
                "minsize": 1,
                "maxsize": pool,
                "connection_class": Connection,
                # Where the server hangs and its own limit does not come through.
                "command_timeout": None if migrating else STATEMENT_SECONDS + 10,
                "server_settings": self.settings(seconds),
            },
        }


def read_url(url: str) -> Address:
    """The parts of postgres://user:password@host:port/name?sslmode=...&sslrootcert=...&host=/a/socket/folder.

    Raises Unavailable for what it cannot be.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise Unavailable(
            f"the URL cannot be read; it has the form postgres://user:password@host:port/name ({error})"
        ) from None
    name, mode, root = unquote(parts.path.removeprefix("/")), options.pop("sslmode", ""), options.pop("sslrootcert", "")
    host = options.pop("host", parts.hostname)
    if options:
        raise Unavailable(f"the URL has an unknown option {', '.join(options)}; known are sslmode, sslrootcert, host")
    if not name or not parts.username:
        raise Unavailable("the URL must name a user and a database: postgres://user:password@host:port/name")
    password = None if parts.password is None else unquote(parts.password)
    return Address(host, port, unquote(parts.username), name, password, _tls(mode, root))


def _tls(mode: str, root: str) -> Any:
    if mode and mode not in _SSL_MODES:
        raise Unavailable(f"the URL's sslmode must be one of {', '.join(_SSL_MODES)}")
    if not root:
        return mode or None
    try:
        context = ssl.create_default_context(cafile=root)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"the URL's sslrootcert {root} cannot be read ({error})") from error
    context.check_hostname = mode in ("", "verify-full")
    return context


def words(error: BaseException, address: Address) -> str:
    """What an operator reads when the database cannot be had: which, why, and the mend where there is one."""
    cause = error
    while isinstance(cause, Failure) and cause.__cause__ is not None:
        cause = cause.__cause__
    for kind, text in _WORDS:
        if isinstance(cause, kind):
            return text.format(at=address, user=address.user, name=address.name, why=_line(cause))
    return f"{address}: {_line(cause)}"


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (asyncpg.InvalidPasswordError, "the server {at} does not accept the password of user {user}"),
    (asyncpg.InvalidAuthorizationSpecificationError, "the server {at} does not let user {user} in ({why})"),
    (
        asyncpg.InvalidCatalogNameError,
        "there is no database {name} on {at}: createdb --encoding=UTF8 --owner={user} {name}",
    ),
    (asyncpg.InsufficientPrivilegeError, "user {user} lacks a right in database {name} on {at} ({why})"),
    (asyncpg.TooManyConnectionsError, "the server {at} has no connection left ({why})"),
    (asyncpg.CannotConnectNowError, "the server {at} is not ready ({why})"),
    (asyncpg.LockNotAvailableError, "somebody else holds what the work needs ({why}); stop the gateway"),
    (ssl.SSLError, "TLS with the server {at} failed ({why})"),
    (TimeoutError, "the server {at} did not answer in time"),
    (OSError, "the server {at} is not reachable ({why})"),
)


def _line(error: BaseException) -> str:
    """The first line: what follows may repeat a row."""
    text = str(error).partition("\n")[0]
    return text or type(error).__name__


def as_failure(error: BaseException) -> OperationalError:
    """The ORM's word for what the driver raised. A trigger's refusal is a conflict, as it is on SQLite."""
    kind: type[OperationalError] = OperationalError
    if isinstance(error, asyncpg.IntegrityConstraintViolationError | asyncpg.RaiseError):
        kind = IntegrityError
    if isinstance(error, asyncpg.DiskFullError):
        kind = Full
    return kind(f"{type(error).__name__}: {_line(error)}")


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """Of the pool. Nothing here leaves a trace in its session (no SET, LISTEN or lock), so its way back needs no reset."""

    def get_reset_query(self) -> str:
        return ""

    async def execute(self, query: str, *args: Any, **limits: Any) -> str:
        done = str(await super().execute(query, *args, **limits))
        if done == "ROLLBACK" and query.startswith("COMMIT"):
            # Of a transaction in which a statement failed; the driver would take it for done.
            raise asyncpg.InFailedSQLTransactionError(
                "nothing was committed: a statement of the transaction had failed"
            )
        return done


class _Told:
    """Every failure as the ORM's own."""

    async def _translate_exceptions(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return await func(self, *args, **kwargs)
        except DRIVER as error:
            raise as_failure(error) from error


class _Pooled(PoolConnectionWrapper[Any]):
    __slots__ = ()

    async def __aenter__(self) -> Any:
        await self.ensure_connection()
        self.connection = await self.client._pool.acquire(timeout=_ACQUIRE_SECONDS)
        return self.connection


class Client(_Told, AsyncpgDBClient):
    async def create_connection(self, with_db: bool) -> None:
        try:
            await super().create_connection(with_db)
        except DRIVER as error:
            raise as_failure(error) from error

    def acquire_connection(self) -> PoolConnectionWrapper[Any]:
        return _Pooled(self, self._pool_init_lock)

    def _in_transaction(self) -> TransactionContext:
        return _Transaction(_TransactionClient(self), self._pool_init_lock)


class _TransactionClient(_Told, TransactionWrapper):
    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_TransactionClient(self))

    async def commit(self) -> None:
        await self._translate_exceptions(TransactionWrapper.commit)

    async def rollback(self) -> None:
        await self._translate_exceptions(TransactionWrapper.rollback)


class _Transaction(TransactionContextPooled):
    """A transaction on a pooled connection, which goes back whatever happens."""

    __slots__ = ()

    async def __aenter__(self) -> TransactionalDBClient:
        try:
            await self.ensure_connection()
            self.client._connection = await self.client._parent._pool.acquire(timeout=_ACQUIRE_SECONDS)
        except DRIVER as error:
            raise as_failure(error) from error
        try:
            await self.client.begin()
        except BaseException:
            await self._give_back()
            raise
        self.token = get_connections().set(self.connection_name, self.client)
        return self.client

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        get_connections().reset(self.token)
        try:
            if not self.client._finalized:
                if exc_type is None:
                    await self.client.commit()
                elif exc_type is not TransactionManagementError:
                    await self.client.rollback()
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        pool = self.client._parent._pool
        # What was committed stays so, whatever becomes of the connection: the pool makes another.
        with suppress(*DRIVER):
            if pool is not None:
                await pool.release(self.client._connection)


client_class = Client
"""By which the ORM finds the client in this module."""
