"""Message bytes inside PostgreSQL: what is kept comes back, whole or with an error, and a row that names it makes it durable."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tortoise.connection import get_connection

from storage import blobs_database, database
from storage.blobs_database import PIECE, DatabaseBlobs, orphans
from storage.database import Failure
from storage.vault import Sealed, Vault, new_data_key
from tests import postgres as servers

VAULT = Vault(b"m" * 32, b"i" * 32)


@pytest.fixture(scope="module")
def mortal() -> Iterator[tuple[servers.Server, str]]:
    """A server that a test may stop, and a migrated database in it."""
    server = servers.private_server()
    url = servers.new_database(server)
    asyncio.run(database.migrate(url))
    yield server, url
    with suppress(RuntimeError):
        server.stop("immediate")


@pytest.fixture
async def blobs(mortal: tuple[servers.Server, str], tmp_path: Path) -> AsyncIterator[DatabaseBlobs]:
    server, url = mortal
    server.run("TRUNCATE message_bytes", servers.name_of(url))
    opened = await database.connect(url, VAULT, pool=4)
    made = DatabaseBlobs(tmp_path / "spool")
    made.open()
    yield made
    made.close()
    await opened.close()


async def kept(blobs: DatabaseBlobs, data: bytes, *, step: int = 65536) -> tuple[str, bytes]:
    spool = blobs.spool()
    try:
        for at in range(0, len(data), step):
            spool.write(data[at : at + step])
        return await blobs.keep(spool), spool.data_key
    finally:
        spool.discard()


async def pieces() -> list[int]:
    rows = await get_connection("default").execute_query_dict("SELECT length(data) AS n FROM message_bytes")
    return sorted(int(row["n"]) for row in rows)


@pytest.mark.parametrize("size", [0, 1, 65536, PIECE - 100, PIECE, 2 * PIECE + 5, 5_000_000])
async def test_what_was_kept_comes_back_in_rows_of_bounded_size(blobs: DatabaseBlobs, size: int) -> None:
    data = os.urandom(size)
    reference, key = await kept(blobs, data)
    assert await blobs.read(reference, key) == data
    found = await pieces()
    assert max(found) <= PIECE
    assert sum(found) >= size
    assert len(reference) <= 255
    assert list(blobs.directory.iterdir()) == [], "no file stays behind"


async def test_bytes_are_sealed_and_not_compressed(blobs: DatabaseBlobs) -> None:
    reference, _ = await kept(blobs, b"secret " * 100_000)
    (row,) = await get_connection("default").execute_query_dict(
        "SELECT position('secret'::bytea IN data) AS at, length(data) AS n, pg_column_size(data) AS stored FROM message_bytes"
    )
    assert row["at"] == 0
    assert row["stored"] >= row["n"]
    with pytest.raises(Sealed):
        await blobs.read(reference, new_data_key())


async def test_bytes_under_a_key_that_exists(blobs: DatabaseBlobs) -> None:
    key = new_data_key()
    reference = await blobs.keep_bytes(b"a proof", key)
    assert await blobs.read(reference, key) == b"a proof"


async def test_many_at_once(blobs: DatabaseBlobs) -> None:
    found = await asyncio.gather(*(kept(blobs, f"{n}".encode() * 1000) for n in range(40)))
    read = await asyncio.gather(*(blobs.read(reference, key) for reference, key in found))
    assert read == [f"{n}".encode() * 1000 for n in range(40)]


async def test_a_spool_may_be_kept_again_after_an_error(blobs: DatabaseBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = blobs.spool()
    spool.write(os.urandom(3_000_000))
    with monkeypatch.context() as patch:
        patch.setattr(blobs_database, "_ADD", "INSERT INTO no_such_table VALUES ($1, $2)")
        with pytest.raises(OSError, match="no_such_table") as caught:
            await blobs.keep(spool)
        assert caught.value.errno == errno.EIO
    assert await pieces() == []
    reference = await blobs.keep(spool)
    assert len(await blobs.read(reference, spool.data_key)) == 3_000_000
    spool.discard()


async def test_all_pieces_or_none(blobs: DatabaseBlobs, mortal: tuple[servers.Server, str]) -> None:
    server, url = mortal
    name = servers.name_of(url)
    server.run(
        "CREATE FUNCTION third() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id LIKE '%:2' THEN "
        "RAISE EXCEPTION SQLSTATE '53100' USING MESSAGE = 'no space'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER third BEFORE INSERT ON message_bytes FOR EACH ROW EXECUTE FUNCTION third()",
        name,
    )
    try:
        with pytest.raises(OSError, match="no space") as caught:
            await kept(blobs, os.urandom(4_000_000))
        assert caught.value.errno == errno.ENOSPC, "452 to the peer, not 451"
        assert await pieces() == []
    finally:
        server.run("DROP TRIGGER third ON message_bytes; DROP FUNCTION third()", name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DELETE FROM message_bytes WHERE id LIKE '%:1'", "1 of 3 pieces are gone"),
        ("UPDATE message_bytes SET data = substr(data, 1, 10) WHERE id LIKE '%:2'", "bytes where"),
        (
            "UPDATE message_bytes SET data = set_byte(data, 7, 255 - get_byte(data, 7)) WHERE id LIKE '%:1'",
            "does not open",
        ),
    ],
)
async def test_what_is_gone_or_changed_is_an_error(
    blobs: DatabaseBlobs, mortal: tuple[servers.Server, str], change: str, words: str
) -> None:
    reference, key = await kept(blobs, os.urandom(2_500_000))
    mortal[0].run(change, servers.name_of(mortal[1]))
    with pytest.raises((OSError, Sealed), match=words):
        await blobs.read(reference, key)


async def test_a_reference_of_another_store_is_told(blobs: DatabaseBlobs) -> None:
    with pytest.raises(OSError, match="in a file of another store"):
        await blobs.read(f"{'a' * 32}.seg:0:10", new_data_key())


async def test_a_row_that_names_bytes_makes_them_durable_with_its_own_sync(
    blobs: DatabaseBlobs, mortal: tuple[servers.Server, str]
) -> None:
    """The server dies without a checkpoint, as in a power cut: what was written to its log after the last sync is gone."""
    server = mortal[0]
    server.run("ALTER SYSTEM SET wal_writer_delay = '10s'")  # nothing but a commit shall write the log
    server.run("SELECT pg_reload_conf()")
    references = [await kept(blobs, b"x" * 10_000) for _ in range(40)]
    unsynced = server.run("SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()")
    assert int(unsynced) > 200_000, "keeping alone costs no sync"
    await _commit("named")
    await asyncio.to_thread(server.restart, "immediate")
    await _answers()
    for reference, key in references:
        assert await blobs.read(reference, key) == b"x" * 10_000


async def _commit(name: str) -> None:
    await get_connection("default").execute_query(
        "INSERT INTO batch (id, at, size, root) VALUES ($1, now(), 0, 'r')", [name]
    )


async def _answers() -> None:
    async with asyncio.timeout(15):
        while True:
            with suppress(Failure):
                await get_connection("default").execute_query("SELECT 1")
                return
            await asyncio.sleep(0.05)


async def test_a_server_that_is_gone_is_an_os_error(blobs: DatabaseBlobs, mortal: tuple[servers.Server, str]) -> None:
    reference, key = await kept(blobs, b"x")
    await asyncio.to_thread(mortal[0].stop)
    try:
        with pytest.raises(OSError):
            await kept(blobs, b"y")
        with pytest.raises(OSError):
            await blobs.read(reference, key)
    finally:
        await asyncio.to_thread(mortal[0].start)
    await _answers()
    assert await blobs.read(reference, key) == b"x"


async def test_what_nobody_names_is_counted(blobs: DatabaseBlobs) -> None:
    assert await orphans() == 0
    await kept(blobs, b"x")
    await kept(blobs, os.urandom(3_000_000))
    assert await orphans() == 2
