"""Message bytes at rest beside SQLite: encrypted streams appended to segment files, many callers sharing one fdatasync.

`keep` returns only when the bytes would survive a power cut (file data synced, and the directory when the file is new). A
reference names segment, offset and length; segment names are random. What was appended and never referenced is dead weight.
On a write or sync error the segment is abandoned: after a failed fsync the kernel may have dropped its pages.
Not here: message bytes inside PostgreSQL (blobs_database.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import queue
import secrets
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from storage.vault import StreamSealer, new_data_key, open_stream

HEAD = 256 * 1024
"""How much of a message's beginning a spool keeps readable in memory."""
_IN_MEMORY = 2 * 1024 * 1024
_ROLL = 256 * 1024 * 1024
_COPY = 1024 * 1024


class Spool:
    """A message on its way in: hashed and encrypted as it arrives, in memory at first, then in an unnamed file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.data_key = new_data_key()
        self._sealer = StreamSealer(self.data_key)
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._head = bytearray()
        self._finished = False
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        self._add(self._sealer.update(data))

    @property
    def head(self) -> bytes:
        return bytes(self._head)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def discard(self) -> None:
        self._parts.clear()
        self._head.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # what it still holds is of no use any more, on a full disk
                self._file.close()
            self._file = None

    def _add(self, sealed: bytes) -> None:
        if self._file is None and self._held + len(sealed) > _IN_MEMORY:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by discard
            self._file.writelines(self._parts)
            self._parts.clear()
        if self._file is None:
            self._parts.append(sealed)
        else:
            self._file.write(sealed)
        self._held += len(sealed)

    def finish(self) -> None:
        """No more data: seal the last chunk. A spool may be kept again after an error, so only the first time counts."""
        if not self._finished:
            self._finished = True
            self._add(self._sealer.finish())

    @classmethod
    def under(cls, data_key: bytes, directory: Path) -> Spool:
        """A spool whose data key exists already."""
        made = cls(directory)
        made.data_key, made._sealer = data_key, StreamSealer(data_key)
        return made

    @property
    def on_disk(self) -> bool:
        return self._file is not None

    def pieces(self, size: int) -> Iterator[bytes]:
        """The sealed stream in pieces of *size* bytes, the last one shorter. Reads the file where there is one."""
        if self._file is None:
            whole = b"".join(self._parts)
            yield from (whole[at : at + size] for at in range(0, len(whole), size))
            return
        self._file.seek(0)
        while piece := self._file.read(size):
            yield piece

    def copy_to(self, descriptor: int) -> int:
        """Write the sealed stream to a file descriptor; returns the number of bytes."""
        if self._file is None:
            return _write_all(descriptor, b"".join(self._parts))
        self._file.seek(0)
        written = 0
        while chunk := self._file.read(_COPY):
            written += _write_all(descriptor, chunk)
        return written


class Store(Protocol):
    """Where message bytes are kept, whatever keeps them: Blobs here, or blobs_database.DatabaseBlobs."""

    directory: Path
    """Of spools that outgrew memory: it needs room for them."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def spool(self) -> Spool: ...

    async def keep(self, spool: Spool) -> str:
        """Keep a spooled message; returns its reference. Raises OSError, and then nothing is kept.

        The bytes are durable when a row that names the reference is: commit one, and only then answer.
        """

    async def keep_bytes(self, data: bytes, data_key: bytes) -> str:
        """The same for bytes in memory, under a data key that exists."""

    async def read(self, reference: str, data_key: bytes) -> bytes:
        """The plaintext of a stream. Raises OSError or vault.Sealed where it is gone or changed."""


@dataclass(slots=True)
class _Job:
    spool: Spool
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[str]
    reference: str = ""
    error: BaseException | None = None


@dataclass(slots=True)
class _Segment:
    path: Path
    descriptor: int
    size: int = 0
    synced: int = 0
    fresh: bool = True


@dataclass
class Blobs:
    """The blob store under one directory. One thread writes; any thread reads."""

    directory: Path
    _jobs: queue.SimpleQueue[_Job | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _segment: _Segment | None = None

    def open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = threading.Thread(target=self._write_loop, name="blobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def spool(self) -> Spool:
        return Spool(self.directory)

    async def keep(self, spool: Spool) -> str:
        """Make a spooled message durable; returns its reference. Raises OSError, and then nothing is kept."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        spool.finish()
        self._jobs.put(_Job(spool, loop, done))
        return await done

    async def keep_bytes(self, data: bytes, data_key: bytes) -> str:
        """The same for bytes in memory, under a data key that exists."""
        spool = Spool.under(data_key, self.directory)
        try:
            spool.write(data)
            return await self.keep(spool)
        finally:
            spool.discard()

    async def read(self, reference: str, data_key: bytes) -> bytes:
        """The plaintext of a stream. Raises OSError or vault.Sealed where it is gone or changed."""
        return await asyncio.to_thread(self._read, reference, data_key)

    def _read(self, reference: str, data_key: bytes) -> bytes:
        name, offset, length = reference.split(":")
        with (self.directory / name).open("rb") as file:
            return open_stream(data_key, os.pread(file.fileno(), int(length), int(offset)))

    def _write_loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs, closing = [job], False
            with contextlib.suppress(queue.Empty):
                while not closing:
                    more = self._jobs.get_nowait()
                    if more is None:
                        closing = True
                    else:
                        jobs.append(more)
            self._write_batch(jobs)
            if closing:
                break
        self._abandon()

    def _write_batch(self, jobs: list[_Job]) -> None:
        try:
            for job in jobs:
                self._append(job)
            self._sync()
        except Exception as error:  # noqa: BLE001 - the thread must outlive any job, such as a spool discarded meanwhile
            self._abandon()
            for job in jobs:
                job.error = error if isinstance(error, OSError) else OSError(f"not kept: {error!r}")
        for job in jobs:
            with contextlib.suppress(RuntimeError):  # the asker's loop is closed
                job.loop.call_soon_threadsafe(_answer, job)

    def _append(self, job: _Job) -> None:
        if self._segment is None or self._segment.size > _ROLL:
            self._abandon()
            path = self.directory / f"{secrets.token_hex(16)}.seg"
            self._segment = _Segment(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600))
        length = job.spool.copy_to(self._segment.descriptor)
        job.reference = f"{self._segment.path.name}:{self._segment.size}:{length}"
        self._segment.size += length

    def _sync(self) -> None:
        if self._segment is None:
            return
        os.fdatasync(self._segment.descriptor)
        if self._segment.fresh:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._segment.fresh = False
        self._segment.synced = self._segment.size

    def _abandon(self) -> None:
        if self._segment is not None:
            with contextlib.suppress(OSError):  # give back what a failed append took, on a full disk above all
                os.ftruncate(self._segment.descriptor, self._segment.synced)
            with contextlib.suppress(OSError):
                os.close(self._segment.descriptor)
            self._segment = None


def _answer(job: _Job) -> None:
    if job.done.done():
        return
    if job.error is not None:
        job.done.set_exception(job.error)
    else:
        job.done.set_result(job.reference)


def _write_all(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)
