"""Message bytes at rest inside PostgreSQL: sealed streams as rows of about 1 MB, for every process and every node.

A stream of one piece is a row of the transaction that names it. A longer one is committed before, without a sync of its own: the
log is written in order, so the commit of the row that names it, which comes after and waits for its sync, makes both durable.
What was kept and never named is dead weight.
Not here: segment files (blobs.py), which SQLite uses.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from storage.blobs import Placed, Spool
from storage.failures import Failure
from storage.vault import open_stream

PIECE = 1024 * 1024
"""Bytes in one row, so that none is large."""
_SCHEME = "db"
# The setting holds until the end of the transaction, which is this statement alone where no other was begun.
_ADD = """
INSERT INTO message_bytes (id, data) SELECT $1, $2 FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unsynced
"""
_READ = "SELECT id, data FROM message_bytes WHERE id = ANY($1::varchar[])"
_ORPHANS = """
SELECT count(DISTINCT split_part(id, ':', 1)) AS n FROM message_bytes WHERE split_part(id, ':', 1) NOT IN
  (SELECT split_part(blob, ':', 2) FROM deposit UNION ALL SELECT split_part(blob, ':', 2) FROM proof)
"""


@dataclass
class DatabaseBlobs:
    """The blob store of the open database. directory: of spools that outgrew memory, which need no survival."""

    directory: Path

    def open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def close(self) -> None:
        pass

    def spool(self) -> Spool:
        return Spool(self.directory)

    async def place(self, spool: Spool) -> Placed:
        """See blobs.Store: a stream of one piece goes into the transaction of the row that names it."""
        spool.finish()
        if spool.on_disk or spool.sealed_size > PIECE:
            return Placed(await self.keep(spool))
        name, data = secrets.token_hex(16), b"".join(spool.parts())
        return Placed(reference(name, 1, len(data)), pieces=((f"{name}:0", data),))

    async def keep(self, spool: Spool) -> str:
        """Keep a stream by itself; returns its reference. Raises OSError, ENOSPC where the server's disk is full."""
        spool.finish()
        name, number, length = secrets.token_hex(16), 0, 0
        pieces = spool.pieces(PIECE)
        first = await _next(spool, pieces)
        second = await _next(spool, pieces)
        with _as_os_error():
            if not second:
                await _add(name, 0, first)
                return reference(name, 1, len(first))
            async with in_transaction():
                for piece in (first, second):
                    await _add(name, number, piece)
                    number, length = number + 1, length + len(piece)
                while piece := await _next(spool, pieces):
                    await _add(name, number, piece)
                    number, length = number + 1, length + len(piece)
        return reference(name, number, length)

    async def keep_bytes(self, data: bytes, data_key: bytes) -> str:
        spool = Spool.under(data_key, self.directory)
        try:
            spool.write(data)
            return await self.keep(spool)
        finally:
            spool.discard()

    async def read(self, reference: str, data_key: bytes) -> bytes:
        scheme, name, number, length = (*reference.split(":"), "", "", "")[:4]
        if scheme != _SCHEME:
            raise OSError(errno.ENOENT, f"{reference} is not in the database, but in a file of another store")
        wanted = [f"{name}:{n}" for n in range(int(number))]
        with _as_os_error():
            rows = await get_connection("default").execute_query_dict(_READ, [wanted])
        found = {row["id"]: row["data"] for row in rows}
        if len(found) != len(wanted):
            raise OSError(errno.ENOENT, f"{len(wanted) - len(found)} of {len(wanted)} pieces are gone")
        sealed = b"".join(found[i] for i in wanted)
        if len(sealed) != int(length):
            raise OSError(errno.EIO, f"{len(sealed)} bytes where {length} were kept")
        return await asyncio.to_thread(open_stream, data_key, sealed)


async def orphans() -> int:
    """How many streams no row names: of deposits that failed between their bytes and their row. On SQLite always 0."""
    client = get_connection("default")
    if client.capabilities.dialect != "postgres":
        return 0
    (row,) = await client.execute_query_dict(_ORPHANS)
    return int(row["n"])


def reference(name: str, number: int, length: int) -> str:
    """What a row keeps of a stream of *number* pieces, *length* bytes together."""
    return f"{_SCHEME}:{name}:{number}:{length}"


async def _next(spool: Spool, pieces: Iterator[bytes]) -> bytes:
    if spool.on_disk:
        return await asyncio.to_thread(next, pieces, b"")
    return next(pieces, b"")


async def _add(name: str, number: int, piece: bytes) -> None:
    await get_connection("default").execute_query(_ADD, [f"{name}:{number}", piece])


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What callers of any store expect."""
    try:
        yield
    except Failure as error:
        full = isinstance(error.__cause__, asyncpg.DiskFullError)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
