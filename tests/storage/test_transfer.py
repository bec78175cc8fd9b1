"""A store moved from SQLite to PostgreSQL is the same store: every row, every number, every byte, and nothing is half-moved."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.check import check
from gateway.core.errors import Unusable
from gateway.moving import move
from gateway.opening import Open, opened
from gateway.settings import Settings
from storage import database
from tests import postgres
from tests.office import Inside, office_in, settings_in, template
from tests.storage import store

ROOT = Path(__file__).resolve().parents[2]
LARGE = os.urandom(2_000_000).hex()  # one piece would not hold it


@dataclass(frozen=True)
class Moved:
    """A store that is left alone, and what it held while it was open."""

    folder: Path
    held: dict[str, Any]

    @property
    def settings(self) -> Settings:
        return settings_in(self.folder)

    @property
    def source(self) -> str:
        return f"sqlite:{self.folder / 'data' / 'pli.db'}"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Letters that were deposited, held, withdrawn and discarded, one of 4 MB, and proofs of some of it."""
    folder = tmp_path_factory.mktemp("full")
    made = template(tmp_path_factory.mktemp("sqlite"), "sqlite")

    async def live() -> dict[str, Any]:
        async with office_in(folder, made) as inside:
            await _live(inside)
            return await _held(inside.open)

    return Moved(folder, asyncio.run(live()))


async def _live(inside: Inside) -> None:
    office, now = inside.open.postoffice, inside.clock.now
    await inside.deposit(["a@example.net", "b@example.net"])
    large = await inside.deposit(
        ["c@example.net"],
        "\r\n".join(LARGE[at : at + 64] for at in range(0, len(LARGE), 64)),
        Message_ID="<large@example.org>",
    )
    await office.withdraw(await inside.letter(large.letters[0]), inside.clock.go(hours=1))
    held = await inside.deposit(["d@example.net"], Message_ID="<held@example.org>", Subject="[no-such-word] A letter")
    assert held.held
    await office.discard(await inside.letter(held.letters[0]), now(), "a test")
    for row in await inside.register.letters():
        await inside.open.archive.parts(row, 1, "en")


async def _held(found: Open) -> dict[str, Any]:
    """Everything that somebody may ever ask of a store."""
    register = found.office.register
    letters = await register.letters()
    return {
        "letters": letters,
        "ledger": await register.ledger(),
        "records": {row.id: await register.records(row.id) for row in letters},
        "originals": {
            row.id: hashlib.sha256((await found.archive.original(row, "sender"))[1]).digest() for row in letters
        },
        "proofs": {row.id: await found.archive.parts(row, 1, "en") for row in letters},
        "accounts": await found.accounts.all(),
        "batches": sorted(await register.batches()),
    }


@pytest.fixture
def copy_of(full: Moved, tmp_path: Path) -> Moved:
    """The full store in a folder of the test's own."""
    shutil.copytree(full.folder, tmp_path, dirs_exist_ok=True)
    return Moved(tmp_path, full.held)


@pytest.fixture
def empty() -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop(url)


async def test_a_moved_store_is_the_same_store(copy_of: Moved, empty: str) -> None:
    said: list[str] = []
    before = store.rows_in(copy_of.folder / "data" / "pli.db")
    assert await move(copy_of.settings, copy_of.source, empty, said.append) == 0
    assert store.rows_in(copy_of.folder / "data" / "pli.db") == before, "the source stays as it was"
    counts = {name: len(rows) for name, rows in before.items() if not name.startswith(("sqlite_", "tortoise_"))}
    for name in counts.keys() - {"message_bytes"}:
        assert f"{name}: {counts[name]}" in said
    assert counts["letter"] == 4
    assert any(line.startswith("message bytes: ") for line in said)
    assert "checked: 4 letters" in said[-2]
    shutil.rmtree(copy_of.folder / "data" / "blobs")  # nothing is read there any more
    async with opened(settings_in(copy_of.folder, empty)) as found:
        assert await _held(found) == copy_of.held
        assert (await check(found.office)).wrong == []


async def test_a_moved_store_goes_on(copy_of: Moved, empty: str) -> None:
    """Numbers that the database gives follow the copied ones."""
    await move(copy_of.settings, copy_of.source, empty, lambda _: None)
    async with opened(settings_in(copy_of.folder, empty)) as found:
        row = next(row for row in await found.office.register.letters() if row.state == "deposited")
        await found.postoffice.withdraw(row, found.office.clock.now())
        await found.archive.parts(row, 2, "en")
        assert len(await found.office.register.ledger()) == len(copy_of.held["ledger"]) + 1
        assert (await check(found.office)).wrong == []


def pli_migrate(moved: Moved, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    toml = moved.folder / "pli.toml"
    toml.write_text(
        f"""
        [gateway]
        domain = "pli.test"
        letters_domain = "letters.pli.test"
        notice_domain = "avis.test"
        public_url = "https://pli.test"
        data_dir = "{moved.folder / "data"}"
        keys_dir = "{moved.folder / "keys"}"
        [operator]
        name = "Test Post"
        [smtp]
        submissions = ""
        submission = ""
        mx = ""
        [web]
        listen = ""
        """
    )
    command = [sys.executable, "-m", "gateway", "--config", str(toml), "migrate", *words]
    env = {**{name: value for name, value in os.environ.items() if not name.startswith("PLI_")}, **environ}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_moves_into_the_configured_database(copy_of: Moved, empty: str) -> None:
    done = pli_migrate(copy_of, "--from", copy_of.source, PLI_DATABASE__URL=empty)
    assert (done.returncode, done.stderr) == (0, "")
    assert "letter: 4\n" in done.stdout
    assert "nothing wrong" in done.stdout
    again = pli_migrate(copy_of, "--from", copy_of.source, "--to", empty)
    assert again.returncode == 2
    assert "holds letters already: table " in again.stderr
    assert "Traceback" not in again.stderr
    assert postgres.PASSWORD not in again.stderr


def test_a_target_alone_says_nothing(copy_of: Moved) -> None:
    done = pli_migrate(copy_of, "--to", "postgres://pli:secret@127.0.0.1:1/pli")
    assert done.returncode == 2
    assert "without --from" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("postgres://pli:secret@127.0.0.1:1/pli", "{empty}", "only an SQLite store is copied"),
        ("{source}", "{source}", "copied into PostgreSQL only"),
        ("sqlite:/no/such/folder/pli.db", "{empty}", "/no/such/folder is not a directory"),
        ("{source}", "postgres://pli:secret@127.0.0.1:1/pli", "is not reachable"),
        ("{source}", "mysql://secret", "--to: must begin with"),
    ],
)
async def test_what_cannot_be_moved_is_told(full: Moved, empty: str, source: str, target: str, told: str) -> None:
    places = {"source": full.source, "empty": empty}
    with pytest.raises(Unusable, match=told) as caught:
        await move(full.settings, source.format(**places), target.format(**places), print)
    assert "secret" not in str(caught.value)


async def test_a_store_in_use_is_not_moved(copy_of: Moved, empty: str) -> None:
    with closing(sqlite3.connect(copy_of.folder / "data" / "pli.db")) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("SELECT count(*) FROM ledger").fetchall()
        with pytest.raises(Unusable, match="locked; stop the gateway"):
            await move(copy_of.settings, copy_of.source, empty, print)


async def test_a_schema_that_is_behind_is_not_moved(tmp_path: Path, full: Moved, empty: str) -> None:
    (tmp_path / "old.db").touch()
    with pytest.raises(Unusable, match="the schema lacks 0001_initial"):
        await move(full.settings, f"sqlite:{tmp_path}/old.db", empty, print)


async def test_bytes_that_are_gone_stop_everything(copy_of: Moved, empty: str) -> None:
    for segment in (copy_of.folder / "data" / "blobs").glob("*.seg"):
        os.truncate(segment, 1_000_000)
    with pytest.raises(Unusable, match="the file ends"):
        await move(copy_of.settings, copy_of.source, empty, print)
    found = store.rows_of(empty)
    assert [name for name, rows in found.items() if rows and name != "tortoise_migrations"] == [], "all or nothing"
    assert await database.migrate(empty) == []


async def test_a_copy_that_its_evidence_does_not_prove_is_told(copy_of: Moved, empty: str) -> None:
    with closing(sqlite3.connect(copy_of.folder / "data" / "pli.db")) as other:
        other.executescript("UPDATE letter SET state = 'refused'")
    said: list[str] = []
    assert await move(copy_of.settings, copy_of.source, empty, said.append) == 1
    assert "the column says refused" in said[-1]
