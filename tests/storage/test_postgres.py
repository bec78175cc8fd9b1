"""PostgreSQL: clear about what is wrong with it, well again by itself when it is back, and one at a time where that is wanted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from tortoise.connection import get_connection

from storage import accounts, database, postgres
from storage.database import Conflict, Database, Failure, Unavailable
from storage.vault import Vault
from storage.wire import waiting_for
from tests import postgres as servers

ROOT = Path(__file__).resolve().parents[2]
VAULT = Vault(b"m" * 32, b"i" * 32)
NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def made() -> str:
    """A migrated database that nobody uses, to copy."""
    url = servers.new_database()
    asyncio.run(database.migrate(url))
    return url


@pytest.fixture
def url(made: str) -> Iterator[str]:
    copy = servers.copy_of(made)
    yield copy
    servers.drop(copy)


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Database]:
    found = await database.connect(url, VAULT, pool=4)
    yield found
    await found.close()


async def eventually(holds: Callable[[], Awaitable[object]], seconds: float = 15) -> None:
    """Try until it does not fail and is true."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(Failure):
                if await holds():
                    return
            await asyncio.sleep(0.05)


async def _add(name: str) -> None:
    """A row that can be there once."""
    await get_connection("default").execute_query(
        "INSERT INTO batch (id, at, size, root) VALUES ($1, $2, 0, 'r')", [name, NOW]
    )


async def _names() -> list[str]:
    return [str(row["id"]) for row in await get_connection("default").execute_query_dict("SELECT id FROM batch")]


# -- what an operator reads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("%40@", "x@"), "does not accept the password of user pli"),
        (lambda url: url.replace("//pli:", "//nobody:"), "does not accept the password of user nobody"),
        (lambda url: f"{url}x", r"there is no database pli_\w+x on 127.0.0.1:\d+: createdb .*--owner=pli pli_\w+x"),
        (lambda _: "postgres://pli:secret@127.0.0.1:1/pli", r"the server 127.0.0.1:1 is not reachable"),
        (lambda _: "postgres://pli:secret@nowhere.invalid/pli", r"the server nowhere.invalid:5432 is not reachable"),
        (lambda _: "postgres://pli:secret@localhost:x/pli", "the URL cannot be read"),
        (lambda _: "postgres://localhost/pli", "must name a user and a database"),
        (lambda url: f"{url}?sslmode=perhaps", "sslmode must be one of disable, prefer"),
        (lambda url: f"{url}?sslmod=require", "unknown option sslmod"),
        (lambda url: f"{url}?sslrootcert=/no/such.pem", "sslrootcert /no/such.pem cannot be read"),
        (lambda url: f"{url}?sslmode=require", "rejected SSL"),
    ],
)
async def test_what_is_wrong_is_named_and_no_password(url: str, change: Callable[[str], str], words: str) -> None:
    for attempt in (database.connect(change(url), VAULT), database.migrate(change(url))):
        with pytest.raises(Unavailable, match=words) as caught:
            await attempt
        assert "secret" not in str(caught.value)
        assert servers.PASSWORD not in str(caught.value)
        assert "%40" not in str(caught.value)


async def test_a_schema_that_is_behind_says_what_to_do() -> None:
    empty = servers.new_database()
    with pytest.raises(Unavailable, match=r"lacks 0001_initial, .*: run `pli migrate`"):
        await database.connect(empty, VAULT)


async def test_a_user_without_rights_is_told_which(url: str) -> None:
    name = servers.name_of(url)
    servers.server().run("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'guest'")
    as_guest = url.partition("://")[0] + "://guest:guest@" + url.rpartition("@")[2]
    with pytest.raises(Unavailable, match=r"user guest may not read, add to and change account, .*tortoise_migrations"):
        await database.connect(as_guest, VAULT)
    servers.server().run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", name)
    with pytest.raises(Unavailable, match=r"user guest may not read, add to and change account, "):
        await database.connect(as_guest, VAULT)
    empty = servers.new_database()
    with pytest.raises(Unavailable, match="user guest lacks a right"):
        await database.migrate(f"{as_guest.rpartition('/')[0]}/{servers.name_of(empty)}")


@pytest.mark.parametrize(
    ("setting", "words"),
    [("synchronous_commit = off", "forget letters"), ("default_transaction_read_only = on", "is read-only")],
)
async def test_a_server_that_cannot_keep_a_promise_is_refused(url: str, setting: str, words: str) -> None:
    servers.server().run(f"ALTER DATABASE {servers.name_of(url)} SET {setting}")
    with pytest.raises(Unavailable, match=words):
        await database.connect(url, VAULT)


# -- failures ------------------------------------------------------------------------------------------------------------


async def test_a_value_that_postgresql_cannot_hold_is_a_failure(opened: Database) -> None:
    for prefix in ("a\x00b", "\ud800"):
        with pytest.raises(Failure):
            await accounts.login(VAULT, prefix)
    assert await accounts.login(VAULT, "plain") is None


async def test_a_failed_step_leaves_the_transaction_usable(opened: Database) -> None:
    """Each step has a savepoint: without it PostgreSQL refuses whatever follows the first failure."""
    async with opened.transaction():
        await _add("a")
        with pytest.raises(Conflict):
            async with opened.transaction():
                await _add("b")
                await _add("a")
        await _add("c")
    assert sorted(await _names()) == ["a", "c"]


async def test_a_transaction_that_failed_is_never_taken_for_committed(opened: Database) -> None:
    with pytest.raises(Failure, match="nothing was committed"):
        async with opened.transaction():
            await _add("a")
            with suppress(Conflict):
                await _add("a")
    assert await _names() == []


async def test_nothing_hangs_for_ever(opened: Database, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds a lock: the wait ends with a failure, and everything goes on when he lets go."""
    await get_connection("default").execute_query("ALTER ROLE pli SET lock_timeout = 0")  # ours counts, not the role's
    other = await asyncpg.connect(url)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE batch")
            await get_connection("default").execute_query("SELECT 1")
            async with opened.transaction():
                await get_connection("default").execute_query("SET LOCAL lock_timeout = '100ms'")
                with pytest.raises(Failure, match="LockNotAvailable"):
                    async with opened.transaction():
                        await _add("a")
    finally:
        await other.close()
    await _add("a")
    limits = await get_connection("default").execute_query_dict(
        "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout') ORDER BY 1"
    )
    assert [(row["name"], row["setting"]) for row in limits] == [
        ("lock_timeout", f"{postgres.LOCK_SECONDS}000"),
        ("statement_timeout", f"{postgres.STATEMENT_SECONDS}000"),
    ]


@pytest.fixture(scope="module")
def mortal() -> Iterator[tuple[servers.Server, str]]:
    """A server that a test may stop, and a migrated database in it."""
    server = servers.private_server()
    url = servers.new_database(server)
    asyncio.run(database.migrate(url))
    yield server, url
    with suppress(RuntimeError):
        server.stop("immediate")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restarted_server_is_used_again_without_a_restart_of_ours(
    mortal: tuple[servers.Server, str], mode: str
) -> None:
    server, url = mortal
    found = await database.connect(url, VAULT, pool=3)
    heard = asyncio.Event()
    found.listen(heard.set)
    try:
        before = len(await _names())
        async with found.singleton("sweep") as mine:
            assert mine
        # All connections of the pool are made and in use when the server goes.
        inside = [asyncio.ensure_future(_long(found, f"{mode}{n}")) for n in range(3)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.stop, mode)
        for result in await asyncio.gather(*inside, return_exceptions=True):
            assert isinstance(result, Failure), result
        for _ in range(10):  # more than the pool has: none is lost on the way
            with pytest.raises(Failure):
                await _names()
            with pytest.raises(Failure):
                async with found.transaction():
                    await _names()
            with pytest.raises(Failure):
                async with found.singleton("sweep"):
                    pass
        heard.clear()
        await asyncio.to_thread(server.start)
        await eventually(_answers)
        assert len(await _names()) == before, "what was not committed is gone"
        await asyncio.gather(*(_quick(found, f"{mode} again {n}") for n in range(12)))
        assert len(await _names()) == before + 12
        await asyncio.wait_for(heard.wait(), 10)  # news may have been missed meanwhile
        async with found.singleton("sweep") as mine:
            assert mine
    finally:
        await found.close()


async def _answers() -> bool:
    await _names()
    return True


async def _long(found: Database, name: str) -> None:
    async with found.transaction():
        await _add(name)
        await get_connection("default").execute_query("SELECT pg_sleep(20)")


async def _quick(found: Database, name: str) -> None:
    async with found.transaction():
        await _add(name)


async def test_a_killed_connection_costs_one_failure(opened: Database, url: str) -> None:
    await _names()
    servers.server().run(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{servers.name_of(url)}'"
    )
    await eventually(lambda: _worked(opened))


async def _worked(found: Database) -> bool:
    await _quick(found, "x")
    return True


async def test_connections_are_bounded_and_all_who_ask_are_served(opened: Database, url: str) -> None:
    await asyncio.gather(*(_quick(opened, f"b{n}") for n in range(60)))
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{servers.name_of(url)}'"
    assert int(servers.server().run(count)) <= 4
    assert len(await _names()) == 60


async def test_a_caller_that_goes_away_gives_its_connection_back(opened: Database) -> None:
    for _ in range(12):
        task = asyncio.ensure_future(_long(opened, "never"))
        await asyncio.sleep(0.03)
        task.cancel()
        with suppress(asyncio.CancelledError, Failure):
            await task
    assert await _names() == []


# -- several processes ---------------------------------------------------------------------------------------------------


async def test_one_at_a_time_is_inside(opened: Database, url: str) -> None:
    async with waiting_for(postgres.read_url(url), "other process"):
        async with opened.singleton("other process") as mine:
            assert not mine
        async with opened.singleton("another name") as mine, opened.singleton("another name") as again:
            assert (mine, again) == (True, False)
    async with opened.singleton("other process") as mine:
        assert mine


_HOLD = """
import asyncio, sys
from storage import database
from storage.vault import Vault

async def main():
    opened = await database.connect(sys.argv[1], Vault(b"m" * 32, b"i" * 32))
    async with opened.singleton("sweep") as mine:
        opened.notify()
        print(mine, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_process_that_dies_passes_its_turn_on_and_its_word_arrives(opened: Database, url: str) -> None:
    heard = asyncio.Event()
    opened.listen(heard.set)
    await asyncio.wait_for(heard.wait(), 5)  # once it listens
    heard.clear()
    opened.notify()
    await asyncio.sleep(0.3)
    assert not heard.is_set(), "our own word is no news"
    other = subprocess.Popen([sys.executable, "-c", _HOLD, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == "True\n"
        await asyncio.wait_for(heard.wait(), 5)
        async with opened.singleton("sweep") as mine:
            assert not mine
    finally:
        other.kill()
        other.communicate()
    await eventually(lambda: _alone(opened))


async def _alone(found: Database) -> bool:
    async with found.singleton("sweep") as mine:
        return mine


_MIGRATE = """
import asyncio, sys
from storage import database
print(asyncio.run(database.migrate(sys.argv[1])))
"""


async def test_of_three_migrations_at_once_one_works_and_the_others_wait() -> None:
    url = servers.new_database()
    async with waiting_for(postgres.read_url(url), "migrate"):
        command = [sys.executable, "-c", _MIGRATE, url]
        started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with asyncio.timeout(30):
            while await asyncio.to_thread(servers.server().run, waiting, servers.name_of(url)) != "3":
                await asyncio.sleep(0.05)
    said = [process.communicate(timeout=30)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sum("0001_initial" in line for line in said) == 1, said
    assert said.count("[]") == 2, said
    found = await database.connect(url, VAULT)
    await found.close()
