"""The means of hurting a running gateway: system calls that fail (strace), few files (prlimit), a database lock, small disks.

All are taken back at the end of their context; the gateway is never restarted for it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.needs import lacking, need

WRITES = "write,pwrite64,writev"
SYNCS = "fsync,fdatasync"


@contextmanager
def failing_calls(pid: int, calls: str, error: str, *paths: Path, when: str = "1+") -> Iterator[None]:
    """System *calls* (names with commas) on *paths*, or on any file, fail with *error* while the context lasts.

    when: which calls of each thread, as strace says it ("1+": all, "2": the second alone).
    """
    strace = need("strace", "apt-get install strace")
    command = [strace, "-f", "-p", str(pid), "-o", os.devnull, "-e", f"trace={calls}"]
    for path in paths:
        command += ["-P", str(path)]
    command += ["-e", f"inject={calls}:error={error}:when={when}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    attached, said = threading.Event(), list[str]()

    def listen() -> None:
        for line in tracer.stderr or ():
            said.append(line)
            if "attached" in line:
                attached.set()
        attached.set()

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        if not attached.wait(20) or tracer.poll() is not None:
            lacking("strace on a running process", f"let it trace: {''.join(said)}")
        time.sleep(0.2)  # the other threads, one by one
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of the process and leaves
        tracer.wait(20)
        reader.join(20)
        if tracer.stderr is not None:
            tracer.stderr.close()


@contextmanager
def few_files(pid: int, most: int) -> Iterator[None]:
    """At most *most* descriptors (setrlimit(2), RLIMIT_NOFILE)."""
    prlimit = need("prlimit", "apt-get install util-linux")

    def limit(value: str) -> None:
        subprocess.run([prlimit, f"--pid={pid}", f"--nofile={value}"], check=True, capture_output=True)

    soft, hard = Path(f"/proc/{pid}/limits").read_text().split("Max open files")[1].split()[:2]
    limit(f"{most}:{hard}")
    try:
        yield
    finally:
        limit(f"{soft}:{hard}")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process holds the write lock of an SQLite file."""
    with closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A file system of *size* at a folder; skipped where we may not mount."""
    at.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "pli-test", str(at)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No room at all on a disk while the context lasts."""
    ballast = folder / "ballast"
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        yield
    finally:
        ballast.unlink()


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def paths_of(data: Path, names: Sequence[str]) -> list[Path]:
    """Files of a data folder by pattern; there must be some."""
    found = [path for name in names for path in data.glob(name)]
    assert found, names
    return found
