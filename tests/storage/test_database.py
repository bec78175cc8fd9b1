"""The database: durable before it answers, and clear about what is wrong with it."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tortoise.connection import get_connection

from storage import database
from storage.database import Unavailable, sqlite_path
from storage.vault import Vault
from tests.needs import need

ROOT = Path(__file__).resolve().parents[2]
VAULT = Vault(b"m" * 32, b"i" * 32)


async def test_a_log_with_a_full_sync_is_really_set(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/pli.db"
    await database.migrate(url)
    opened = await database.connect(url, VAULT)
    try:
        found = {
            name: (await get_connection("default").execute_query_dict(f"PRAGMA {name}"))[0]
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
        assert found["journal_mode"] == {"journal_mode": "wal"}
        assert found["synchronous"] == {"synchronous": 2}  # FULL: NORMAL loses committed rows in a power cut
        assert found["busy_timeout"] == {"timeout": 5000}
    finally:
        await opened.close()


_COMMIT = """
import asyncio, sys
from datetime import UTC, datetime
from storage import database, ledger
from storage.bulk import insert
from storage.vault import Vault

async def main():
    opened = await database.connect(sys.argv[1], Vault(b"m" * 32, b"i" * 32))
    for n in range(3):
        async with opened.transaction():
            await insert(ledger.new_batch(f"b{n}", datetime.now(UTC), 0, "r"))
        print("answered", n, flush=True)
    await opened.close()

asyncio.run(main())
"""


async def test_an_answer_follows_the_sync_of_the_log(tmp_path: Path) -> None:
    strace = need("strace", "apt-get install strace")
    url, log = f"sqlite:{tmp_path}/pli.db", tmp_path / "log"
    await database.migrate(url)
    done = subprocess.run(
        [strace, "-f", "-y", "-e", "trace=write,pwrite64,fdatasync,fsync", "-o", log, sys.executable, "-c", _COMMIT, url],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    order = ""
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            order += "w"
        elif re.search(r"f(data)?sync\(\d+<[^>]*-wal>", line):
            order += "s"
        elif '"answered' in line:
            order += "A"
    answers = order.split("A")[:3]
    assert len(answers) == 3
    for before in answers:
        assert re.search(r"ws$", before), order  # written, then synced, then answered


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:{}/none.db", "run `pli migrate`"),
        ("sqlite:{}/no/folder/pli.db", "is not a directory"),
        ("sqlite:{}", "unable to open"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(Unavailable, match=f"{re.escape(str(tmp_path))}.*{words}"):
        await database.connect(url.format(tmp_path), VAULT)


async def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pli.db"
    file.write_bytes(b"this is no database" * 1000)
    for attempt in (database.connect(f"sqlite:{file}", VAULT), database.migrate(f"sqlite:{file}")):
        with pytest.raises(Unavailable, match="not a database"):
            await attempt
    assert file.read_bytes() == b"this is no database" * 1000


async def test_a_read_only_file_is_refused_at_start(tmp_path: Path) -> None:
    """Even root cannot write to a file that is immutable; elsewhere the mode does."""
    file = tmp_path / "pli.db"
    await database.migrate(f"sqlite:{file}")
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", file], check=False, capture_output=True).returncode:
        file.chmod(0o400)
        try:
            file.open("r+b").close()
            pytest.skip("root writes to everything on this file system")
        except PermissionError:
            pass
    try:
        with pytest.raises(Unavailable, match=r"readonly|unable to open"):
            await database.connect(f"sqlite:{file}", VAULT)
    finally:
        if chattr is not None:
            subprocess.run([chattr, "-i", file], check=False, capture_output=True)


async def test_a_file_that_breaks_later_is_told_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first look did not find: a disk that filled up since, a log that cannot be made."""
    file = tmp_path / "pli.db"
    file.write_bytes(b"this is no database" * 1000)
    monkeypatch.setattr(database, "_check_file", lambda _url: None)
    with pytest.raises(Unavailable, match="not a database"):
        await asyncio.wait_for(database.connect(f"sqlite:{file}", VAULT), 5)


async def test_a_schema_that_is_behind_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "pli.db"
    file.touch()
    with pytest.raises(Unavailable, match=r"lacks 0001_initial, .*: run `pli migrate`"):
        await database.connect(f"sqlite:{file}", VAULT)


async def test_a_locked_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pli.db"
    await database.migrate(f"sqlite:{file}")
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **{**k, "timeout": 0.1}))
    with closing(real(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            await database.connect(f"sqlite:{file}", VAULT)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:/var/lib/pli/pli.db", "/var/lib/pli/pli.db"),
        ("sqlite:///var/lib/pli/pli.db", "/var/lib/pli/pli.db"),
        ("sqlite:pli.db", "pli.db"),
        ("sqlite:/a/pli.db?cache=shared", "/a/pli.db"),
    ],
)
def test_the_file_of_a_url(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


def test_another_engine_has_no_file() -> None:
    assert sqlite_path("postgres://pli@localhost/pli") is None
