"""Message bytes at rest: on the disk before anybody is told, shared syncs, and what a failing disk leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage import blobs as module
from storage.blobs import Blobs, Placed, Spool
from storage.vault import Sealed, new_data_key
from tests.needs import need

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[Blobs]:
    store = Blobs(tmp_path / "blobs")
    store.open()
    yield store
    store.close()


def filled(store: Blobs, data: bytes, *, pieces: int = 1) -> Spool:
    spool = store.spool()
    step = max(1, len(data) // pieces)
    for at in range(0, len(data), step):
        spool.write(data[at : at + step])
    return spool


def segments(store: Blobs) -> list[Path]:
    return sorted(store.directory.glob("*.seg"))


@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000, 2 * 1024 * 1024 - 100, 5_000_000])
async def test_what_is_kept_is_read_back_and_not_in_the_clear(blobs: Blobs, size: int) -> None:
    data = (b"Subject: a secret that must not be seen\r\n" * (size // 40 + 1))[:size]
    spool = filled(blobs, data, pieces=7)
    reference = await blobs.keep(spool)
    assert await blobs.read(reference, spool.data_key) == data
    assert spool.size == size
    assert spool.head == data[: module.HEAD]
    assert not any(b"secret" in path.read_bytes() for path in segments(blobs))
    with pytest.raises(Sealed):
        await blobs.read(reference, new_data_key())
    spool.discard()


async def test_files_are_for_us_alone_and_named_at_random(blobs: Blobs) -> None:
    await blobs.keep(filled(blobs, b"x"))
    (segment,) = segments(blobs)
    assert segment.stat().st_mode & 0o777 == 0o600
    assert blobs.directory.stat().st_mode & 0o777 == 0o700
    assert re.fullmatch(r"[0-9a-f]{32}\.seg", segment.name)


async def test_bytes_in_memory_are_kept_under_the_key_of_their_deposit(blobs: Blobs) -> None:
    key = new_data_key()
    reference = await blobs.keep_bytes(b"%PDF", key)
    assert await blobs.read(reference, key) == b"%PDF"


async def test_a_spool_that_is_kept_twice_stays_whole(blobs: Blobs) -> None:
    spool = filled(blobs, b"y" * 200_000)
    first, second = await blobs.keep(spool), await blobs.keep(spool)
    assert first != second
    for reference in (first, second):
        assert await blobs.read(reference, spool.data_key) == b"y" * 200_000


async def test_changed_or_lost_bytes_are_seen(blobs: Blobs) -> None:
    spool = filled(blobs, b"z" * 1000)
    reference = await blobs.keep(spool)
    (segment,) = segments(blobs)
    raw = bytearray(segment.read_bytes())
    raw[500] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(Sealed):
        await blobs.read(reference, spool.data_key)
    segment.write_bytes(raw[:400])
    with pytest.raises(Sealed):
        await blobs.read(reference, spool.data_key)
    segment.unlink()
    with pytest.raises(FileNotFoundError):
        await blobs.read(reference, spool.data_key)


async def test_what_waits_together_shares_a_sync(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        syncs.append(descriptor)
        real(descriptor)
        import time

        time.sleep(0.02)  # a disk that takes its time: meanwhile the others queue up

    monkeypatch.setattr(os, "fdatasync", slow)
    spools = [filled(blobs, b"%d" % n * 100) for n in range(100)]
    references = await asyncio.gather(*(blobs.keep(spool) for spool in spools))
    assert len(set(references)) == 100
    assert 1 <= len(syncs) <= 5
    for spool, reference in zip(spools, references, strict=True):
        assert len(await blobs.read(reference, spool.data_key)) == spool.size


# -- the order of things, as the kernel saw it ---------------------------------------------------------------------------

_DEPOSIT = """
import asyncio, sys
from pathlib import Path
from storage.blobs import Blobs

async def main():
    store = Blobs(Path(sys.argv[1]))
    store.open()
    for n in range(3):
        spool = store.spool()
        spool.write(b"letter %d" % n * 1000)
        reference = await store.keep(spool)
        print("answered", n, flush=True)
    store.close()

asyncio.run(main())
"""


def test_the_answer_follows_the_sync(tmp_path: Path) -> None:
    strace = need("strace", "apt-get install strace")
    log = tmp_path / "log"
    done = subprocess.run(
        [strace, "-f", "-y", "-e", "trace=write,writev,openat,fdatasync,fsync", "-o", log, sys.executable, "-c", _DEPOSIT,
         tmp_path / "blobs"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    order = []
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r"writev\(\d+<[^>]*\.seg>", line):
            order.append("write")
        elif re.search(r"fdatasync\(\d+<[^>]*\.seg>.*= 0", line) or "<... fdatasync resumed>" in line:
            order.append("sync")
        elif re.search(r"fsync\(\d+<[^>]*/blobs>", line) and "fdatasync" not in line:
            order.append("directory")
        elif '"answered' in line:
            order.append("answer")
    # The directory once, since the file was new; the bytes each time; and every answer after them.
    assert order == ["write", "sync", "directory", "answer", "write", "sync", "answer", "write", "sync", "answer"]


# -- a failing disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}; run as root where mount is allowed")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_full_disk_keeps_nothing_and_recovers(small_disk: Path) -> None:
    store = Blobs(small_disk / "blobs")
    store.open()
    try:
        early = filled(store, b"e" * 300_000)
        kept = await store.keep(early)
        with pytest.raises(OSError, match="No space left") as caught:
            await store.keep(filled(store, b"x" * 1_500_000))
        assert caught.value.errno == errno.ENOSPC
        # What the failed append took was given back: a smaller letter fits, and the earlier one is untouched.
        small = filled(store, b"s" * 300_000)
        assert await store.read(await store.keep(small), small.data_key) == b"s" * 300_000
        assert await store.read(kept, early.data_key) == b"e" * 300_000
    finally:
        store.close()


@pytest.mark.parametrize("call", ["writev", "fdatasync"])
async def test_a_segment_that_failed_is_never_written_again(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    first = filled(blobs, b"f" * 5000)
    kept = await blobs.keep(first)
    (segment,) = segments(blobs)
    before = segment.read_bytes()

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        results = await asyncio.gather(
            *(blobs.keep(filled(blobs, b"lost" * 100)) for _ in range(3)), return_exceptions=True
        )
    assert [getattr(result, "errno", None) for result in results] == [errno.EIO] * 3
    second = filled(blobs, b"n" * 5000)
    reference = await blobs.keep(second)
    assert not reference.startswith(segment.name)  # after a failed fsync the kernel may have dropped the pages
    assert segment.read_bytes() == before
    assert await blobs.read(kept, first.data_key) == b"f" * 5000
    assert await blobs.read(reference, second.data_key) == b"n" * 5000


async def test_a_spool_that_is_discarded_meanwhile_harms_nobody(blobs: Blobs) -> None:
    """A client that goes away while its letter waits for the disk."""
    spool = filled(blobs, b"d" * 3_000_000)  # in a file
    waiting = asyncio.ensure_future(blobs.keep(spool))
    await asyncio.sleep(0)
    spool.discard()
    with contextlib.suppress(OSError):
        await waiting
    other = filled(blobs, b"o" * 100)
    assert await asyncio.wait_for(blobs.keep(other), 5)


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|exists"):
        Blobs(tmp_path / "file" / "blobs").open()


def write(placed: Placed) -> None:
    assert placed.write is not None
    placed.write()


async def test_places_are_given_before_bytes_are_written(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes first writes all that wait; segments that fill up meanwhile lose nobody's bytes."""
    monkeypatch.setattr(module, "_ROLL", 20_000)
    spools = [filled(blobs, b"%03d" % n * 700) for n in range(200)]
    placed = [await blobs.place(spool) for spool in spools]
    await asyncio.gather(*(asyncio.to_thread(write, one) for one in reversed(placed)))
    for spool, one in zip(spools, placed, strict=True):
        write(one)  # again, which does nothing
        assert await blobs.read(one.reference, spool.data_key) == b"%03d" % spools.index(spool) * 700
    assert len(segments(blobs)) > 10
    assert len(os.listdir("/proc/self/fd")) < 60


async def test_what_had_its_place_in_a_broken_segment_is_told(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = filled(blobs, b"1" * 100), filled(blobs, b"2" * 100)
    placed = [await blobs.place(first)]

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def late(descriptor: int) -> None:
        placed.append(asyncio.run(blobs.place(second)))  # while the disk works
        full(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", late)
        with pytest.raises(OSError, match="No space left"):
            await asyncio.to_thread(write, placed[0])
    for one in placed:
        with pytest.raises(OSError, match="No space left") as caught:
            write(one)
        assert caught.value.errno == errno.ENOSPC
    assert all(path.stat().st_size == 0 for path in segments(blobs))
    assert await blobs.read(await blobs.keep(second), second.data_key) == b"2" * 100
