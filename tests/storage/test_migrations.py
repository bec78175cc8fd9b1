"""Migrations: what they make is what the models say, and one that loses rows, indexes or triggers never takes effect."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tortoise import Tortoise
from tortoise.connection import get_connection

from storage import catalog, database, schema, triggers
from storage.database import Unavailable
from storage.schema import Lossy, copied, losses, snapshot
from storage.vault import Vault
from tests import postgres
from tests.storage import store

VAULT = Vault(b"m" * 32, b"i" * 32)
INITIAL = Path(database.__file__).with_name("migrations") / "0001_initial.py"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "pli.db"


Package = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Makes a package of migrations: our first one, and a second one with the given operations, if any."""
    made: list[str] = []

    def make(operations: str | None = None) -> str:
        name = f"migrations_{tmp_path.name.replace('-', '_')}_{len(made)}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        shutil.copy(INITIAL, folder)
        made.append(name)
        if operations is None:
            return name
        (folder / "0002_second.py").write_text(
            "from tortoise import fields, migrations\n"
            "from tortoise.migrations import operations as ops\n"
            "from storage.triggers import make_immutable\n\n"
            "class Migration(migrations.Migration):\n"
            '    dependencies = [("pli", "0001_initial")]\n'
            f"    {operations}\n"
        )
        return name

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in made]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    path = tmp_path_factory.mktemp("fresh") / "pli.db"
    asyncio.run(database.migrate(f"sqlite:{path}"))
    return path


@pytest.fixture
def filled(file: Path, fresh: Path) -> Path:
    """A migrated database with rows in the tables that matter."""
    file.parent.mkdir()
    shutil.copy(fresh, file)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            """
            INSERT INTO batch (id, at, size, root) VALUES ('b', '2026-03-02', 2, 'r');
            INSERT INTO ledger (letter_id, n, event, at, record_digest, previous, commitment, batch_id)
              VALUES ('l', 1, 'deposit', '2026-03-02', 'd', 'p', 'c1', 'b'),
                     ('l', 2, 'withdraw', '2026-03-02', 'd', 'p', 'c2', 'b');
            INSERT INTO journal (at, topic) VALUES ('2026-03-02', 'x');
            """
        )
    return file


def bytes_of(file: Path) -> str:
    """Everything a database holds, as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        return "\n".join(connection.iterdump())


async def test_migrations_make_what_the_models_say(file: Path, tmp_path: Path) -> None:
    await database.migrate(f"sqlite:{file}")
    modelled = tmp_path / "modelled.db"
    await Tortoise.init(db_url=f"sqlite://{modelled}", modules={"pli": ["storage.tables"]}, use_tz=True, timezone="UTC")
    try:
        await Tortoise.generate_schemas()
    finally:
        await Tortoise.close_connections()
    ours, theirs = snapshot(file), snapshot(modelled)
    made = {part for part in ours.parts if not part.startswith("trigger ")}
    assert made == theirs.parts
    assert len(made) > 100
    shapes = [_columns(path) for path in (file, modelled)]
    assert shapes[0] == shapes[1]
    wanted = {f"trigger {table}_no_{verb}" for table in triggers.IMMUTABLE for verb in ("update", "delete")}
    assert ours.parts - made == wanted


def _columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Type, nullability, default and key of every column."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {
            table: sorted(row[1:] for row in connection.execute(f'PRAGMA table_info("{table}")'))
            for table in tables
            if not table.startswith(("sqlite_", "tortoise_"))
        }


async def test_no_foreign_key_can_take_rows_along(file: Path) -> None:
    await database.migrate(f"sqlite:{file}")
    with closing(sqlite3.connect(file)) as connection:
        for part in snapshot(file).parts:
            if part.startswith("table "):
                assert connection.execute(f'PRAGMA foreign_key_list("{part[6:]}")').fetchall() == []


async def test_a_second_run_changes_nothing_and_needs_no_lock(file: Path) -> None:
    await database.migrate(f"sqlite:{file}")
    opened = await database.connect(f"sqlite:{file}", VAULT)
    await opened.close()
    number = file.stat().st_ino
    assert await database.migrate(f"sqlite:{file}") == []
    assert file.stat().st_ino == number


async def test_a_good_migration_takes_effect_and_keeps_everything(filled: Path, package: Package) -> None:
    before = snapshot(filled)
    name = package('operations = [ops.AddField("Journal", "more", fields.CharField(max_length=64, null=True))]')
    assert await database.migrate(f"sqlite:{filled}", name) == ["0002_second"]
    after = snapshot(filled)
    assert after.parts - before.parts == {"column journal.more"}
    assert before.parts <= after.parts
    assert after.rows == before.rows
    assert filled.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in filled.parent.iterdir()] == ["pli.db"]


REBUILD = 'operations = [ops.AlterField("Ledger", "event", fields.CharField(max_length=128))]'


async def test_a_rebuild_that_loses_triggers_is_refused(filled: Path, package: Package) -> None:
    """What the ORM does to an altered table on SQLite: without the guard the ledger would not be append-only any more."""
    before = bytes_of(filled)
    with pytest.raises(Unavailable, match="was not changed: migration 0002_second would lose") as caught:
        await database.migrate(f"sqlite:{filled}", package(REBUILD))
    assert "trigger ledger_no_delete; trigger ledger_no_update" in str(caught.value)
    assert "index ledger(batch_id)" in str(caught.value)
    assert "unique index ledger(letter_id, n)" in str(caught.value)
    assert bytes_of(filled) == before
    assert [path.name for path in filled.parent.iterdir()] == ["pli.db"]
    with closing(sqlite3.connect(filled)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("DELETE FROM ledger")


async def test_the_same_rebuild_with_its_mend_is_taken(filled: Path, package: Package) -> None:
    before = snapshot(filled)
    mend = """operations = [
        ops.AlterField("Ledger", "event", fields.CharField(max_length=128)),
        ops.RunSQL('CREATE INDEX mended ON ledger (batch_id)'),
        ops.RunSQL('CREATE UNIQUE INDEX mended_too ON ledger (letter_id, n)'),
        ops.RunSQL("DROP TRIGGER batch_no_update"),
        ops.RunSQL("DROP TRIGGER batch_no_delete"),
        ops.RunPython(make_immutable),
    ]"""
    assert await database.migrate(f"sqlite:{filled}", package(mend)) == ["0002_second"]
    assert snapshot(filled) == before


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("DELETE FROM journal", "1 of 1 rows of journal"),
        ("DROP INDEX idx_journal_at", "index journal(at)"),
        ("DROP TRIGGER batch_no_delete", "trigger batch_no_delete"),
        ("DROP TABLE code", "table code"),
        ("ALTER TABLE journal DROP COLUMN details", "column journal.details"),
    ],
)
async def test_every_loss_is_named(filled: Path, package: Package, sql: str, lost: str) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        (index,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE tbl_name = 'journal' AND sql LIKE '%INDEX%'"
        ).fetchone()
    sql = sql.replace("idx_journal_at", index)
    before = bytes_of(filled)
    with pytest.raises(Unavailable) as caught:
        await database.migrate(f"sqlite:{filled}", package(f'operations = [ops.RunSQL("{sql}")]'))
    assert lost in str(caught.value)
    assert bytes_of(filled) == before


async def test_what_a_migration_says_it_drops_may_go(filled: Path, package: Package) -> None:
    name = package('operations = [ops.RunSQL("DELETE FROM journal")]\n    drops = ("rows journal",)')
    assert await database.migrate(f"sqlite:{filled}", name) == ["0002_second"]
    assert snapshot(filled).rows["journal"] == 0


async def test_a_migration_that_fails_changes_nothing(filled: Path, package: Package) -> None:
    before = bytes_of(filled)
    with pytest.raises(Unavailable, match="no such table"):
        await database.migrate(f"sqlite:{filled}", package('operations = [ops.RunSQL("DROP TABLE no_such")]'))
    assert bytes_of(filled) == before
    assert [path.name for path in filled.parent.iterdir()] == ["pli.db"]


async def test_a_killed_migration_is_begun_anew(filled: Path, package: Package) -> None:
    filled.with_name("pli.db.migrating").write_bytes(b"half a copy")
    filled.with_name("pli.db.migrating-wal").write_bytes(b"and its log")
    name = package('operations = [ops.AddField("Journal", "more", fields.CharField(max_length=64, null=True))]')
    assert await database.migrate(f"sqlite:{filled}", name) == ["0002_second"]
    assert [path.name for path in filled.parent.iterdir()] == ["pli.db"]


async def test_a_database_in_use_is_not_migrated(filled: Path, package: Package) -> None:
    opened = await database.connect(f"sqlite:{filled}", VAULT)
    await opened.close()
    with closing(sqlite3.connect(filled)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT count(*) FROM ledger").fetchall()
        with pytest.raises(Unavailable, match="locked; stop the gateway"):
            await database.migrate(f"sqlite:{filled}", package(REBUILD))


# -- from the version before, on both engines ----------------------------------------------------------------------------

ROWS = """
INSERT INTO account (id, state, language, created_at, details) VALUES ('a', 'active', NULL, '2026-03-02 09:30:00+00', 'x');
INSERT INTO batch (id, at, size, root) VALUES ('b', '2026-03-02 09:30:00+00', 2, 'r');
INSERT INTO ledger (letter_id, n, event, at, record_digest, previous, commitment, batch_id)
  VALUES ('l', 1, 'deposit', '2026-03-02 09:30:00+00', 'd', 'p', 'c1', 'b'),
         ('l', 2, 'withdraw', '2026-03-02 09:31:00+00', 'd', 'p', 'c2', 'b');
INSERT INTO evidence_body (letter_id, n, record, salt) VALUES ('l', 1, 'r', 's'), ('l', 2, 'r', 's');
INSERT INTO journal (at, topic) VALUES ('2026-03-02 09:30:00+00', 'x');
"""


@pytest.fixture
def server_url() -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop(url)


def _ours(rows: store.Rows) -> store.Rows:
    """Without what the ORM and the engine keep for themselves."""
    return {name: content for name, content in rows.items() if not name.startswith(("tortoise_", "sqlite_"))}


@pytest.fixture(scope="module")
def fresh_server() -> Iterator[str]:
    """A migrated, empty database that nobody uses."""
    url = postgres.new_database()
    asyncio.run(database.migrate(url))
    yield url
    postgres.drop(url)


@pytest.fixture
def filled_server(fresh_server: str) -> Iterator[str]:
    url = postgres.copy_of(fresh_server)
    postgres.server().run(ROWS, postgres.name_of(url))
    yield url
    postgres.drop(url)


async def test_a_file_of_the_version_before_becomes_what_a_fresh_one_is(
    file: Path, fresh: Path, package: Package
) -> None:
    assert await database.migrate(f"sqlite:{file}", package()) == ["0001_initial"]
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(ROWS)
    before = store.rows_in(file)
    assert await database.migrate(f"sqlite:{file}") == ["0002_message_bytes"]
    after = store.rows_in(file)
    assert _ours(after) == {**_ours(before), "message_bytes": []}
    assert snapshot(file).parts == snapshot(fresh).parts
    assert _columns(file) == _columns(fresh)
    with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("DELETE FROM ledger")


async def test_a_server_of_the_version_before_becomes_what_a_fresh_one_is(
    server_url: str, fresh_server: str, package: Package
) -> None:
    assert await database.migrate(server_url, package()) == ["0001_initial"]
    postgres.server().run(ROWS, postgres.name_of(server_url))
    before = store.rows_of(server_url)
    assert await database.migrate(server_url) == ["0002_message_bytes"]
    after = store.rows_of(server_url)
    assert _ours(after) == {**_ours(before), "message_bytes": []}
    assert _dump(server_url) == _dump(fresh_server)
    assert (await _parts(server_url)).parts == (await _parts(fresh_server)).parts
    with pytest.raises(RuntimeError, match="ledger is append-only"):
        postgres.server().run("DELETE FROM ledger", postgres.name_of(server_url))


async def test_a_server_holds_what_the_models_say(fresh_server: str, server_url: str) -> None:
    async with _looking_at(server_url):
        await Tortoise.generate_schemas()
    ours, theirs = await _parts(fresh_server), await _parts(server_url)
    made = {part for part in ours.parts if not part.startswith("trigger ")}
    assert made == theirs.parts
    assert len(made) > 100
    assert ours.parts - made == {f"trigger {table}_append_only" for table in triggers.IMMUTABLE}
    assert _shapes(fresh_server) == _shapes(server_url)


async def test_both_engines_hold_the_same(fresh: Path, fresh_server: str) -> None:
    file, server = snapshot(fresh).parts, (await _parts(fresh_server)).parts
    assert {part for part in file if not part.startswith(("trigger ", "unique index"))} == {
        part for part in server if not part.startswith(("trigger ", "unique index"))
    }
    # SQLite needs no index for a key that is its row number.
    single = {part for part in server if part.startswith("unique index")} - file
    assert all(part.endswith(("(id)", "(seq)")) for part in single), single
    assert {part for part in file if part.startswith("unique index")} <= server


@asynccontextmanager
async def _looking_at(url: str) -> AsyncIterator[None]:
    await Tortoise.init(config=database._config(url))
    try:
        yield
    finally:
        await Tortoise.close_connections()


async def _parts(url: str) -> schema.Snapshot:
    async with _looking_at(url):
        return await catalog.snapshot(get_connection("default"))


def _dump(url: str) -> str:
    """The schema in PostgreSQL's own words."""
    program = postgres.server().bin / "pg_dump"
    server, name = postgres.server(), postgres.name_of(url)
    done = postgres.as_postgres(
        [str(program), "-s", "-h", str(server.folder), "-p", str(server.port), "-U", postgres.USER, name]
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("--", "\\")))


def _shapes(url: str) -> str:
    """Type, length, nullability and default of every column."""
    return postgres.server().run(
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'tortoise_migrations' ORDER BY 1, 2",
        postgres.name_of(url),
    )


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("DELETE FROM journal", "1 of 1 rows of journal"),
        ("DROP TRIGGER batch_append_only ON batch", "trigger batch_append_only"),
        ("ALTER TABLE ledger DISABLE TRIGGER ledger_append_only", "trigger ledger_append_only"),
        ("DROP TABLE code", "table code"),
        ("ALTER TABLE journal DROP COLUMN details", "column journal.details"),
        ("ALTER TABLE intent DROP CONSTRAINT intent_dedupe_key", "unique index intent(dedupe)"),
    ],
)
async def test_every_loss_on_a_server_is_named_and_taken_back(
    filled_server: str, package: Package, sql: str, lost: str
) -> None:
    before = _dump(filled_server), store.rows_of(filled_server)
    with pytest.raises(Unavailable, match="was not changed: migration 0002_second would lose") as caught:
        await database.migrate(filled_server, package(f'operations = [ops.RunSQL("{sql}")]'))
    assert lost in str(caught.value)
    assert (_dump(filled_server), store.rows_of(filled_server)) == before


async def test_a_migration_that_fails_on_a_server_changes_nothing(filled_server: str, package: Package) -> None:
    before = _dump(filled_server), store.rows_of(filled_server)
    both = 'operations = [ops.RunSQL("CREATE TABLE half (a int)"), ops.RunSQL("DROP TABLE no_such")]'
    with pytest.raises(Unavailable, match="no_such"):
        await database.migrate(filled_server, package(both))
    assert (_dump(filled_server), store.rows_of(filled_server)) == before


async def test_what_a_migration_says_it_drops_may_go_on_a_server(filled_server: str, package: Package) -> None:
    name = package('operations = [ops.RunSQL("DELETE FROM journal")]\n    drops = ("rows journal",)')
    assert await database.migrate(filled_server, name) == ["0002_second"]
    assert store.rows_of(filled_server)["journal"] == []


# -- the copy of a file --------------------------------------------------------------------------------------------------


def test_rows_in_the_log_are_copied_too(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        shutil.copytree(tmp_path, tmp_path / "crashed")  # as a kill -9 leaves it: the rows are in the log alone
    crashed = tmp_path / "crashed" / "x.db"
    assert (tmp_path / "crashed" / "x.db-wal").stat().st_size > 0
    with copied(crashed) as copy:
        assert snapshot(copy).rows == {"t": 1}
    assert snapshot(crashed).rows == {"t": 1}


def test_nobody_writes_while_the_copy_is_made(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t (a)")
    with (
        copied(file),
        closing(sqlite3.connect(file, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("INSERT INTO t VALUES (1)")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")


def test_a_copy_that_is_not_sound_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "CREATE TABLE t (a); CREATE INDEX i ON t (a);" + "INSERT INTO t VALUES (randomblob(99));" * 200
        )
        connection.commit()
    with pytest.raises((Lossy, sqlite3.DatabaseError)), copied(file) as copy:
        raw = bytearray(copy.read_bytes())
        raw[-4096:] = b"\x05" * 4096
        copy.write_bytes(raw)
    assert snapshot(file).rows == {"t": 200}


def test_losses_are_told_in_words() -> None:
    before = schema.Snapshot(frozenset({"table a", "trigger t", "index a(x)"}), {"a": 5})
    after = replace(before, parts=frozenset({"table a"}), rows={"a": 3})
    assert losses(before, after) == ["index a(x)", "trigger t", "2 of 5 rows of a"]
    assert losses(before, after, ("index a(x)", "trigger t", "rows a")) == []
    assert losses(after, before) == []
