"""Message bytes at rest beside SQLite: encrypted streams appended to segment files, all that wait sharing one fdatasync.

Bytes are kept when they would survive a power cut (file data synced, and the directory when the file is new). A reference names
segment, offset and length; segment names are random. A stream has its place, and so its reference, before it is written: whoever
commits the row that names it writes and syncs it first, in one thread. What was appended and never referenced is dead weight.
On a write or sync error the segment is abandoned: after a failed fsync the kernel may have dropped its pages.
Not here: message bytes inside PostgreSQL (blobs_database.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from storage.vault import StreamSealer, new_data_key, open_stream

HEAD = 256 * 1024
"""How much of a message's beginning a spool keeps readable in memory."""
_IN_MEMORY = 2 * 1024 * 1024
_ROLL = 256 * 1024 * 1024
_COPY = 1024 * 1024
_MOST_PARTS = 1024  # of one writev (IOV_MAX)


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
    def sealed_size(self) -> int:
        """Bytes of the sealed stream, when it is finished."""
        return self._held

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

    def parts(self) -> tuple[bytes, ...]:
        """The sealed stream of a spool that is not on disk; it stays whole though the spool is discarded."""
        return tuple(self._parts)


@dataclass(frozen=True, slots=True)
class Placed:
    """A stream that has its place and is not durable yet.

    reference: what the row that names it keeps. write: makes the bytes durable, called before that row is committed; blocks,
    may be called from any thread and again, raises OSError if they cannot be kept; None where nothing is left to do.
    pieces: rows of message_bytes for the row's transaction.
    """

    reference: str
    write: Callable[[], None] | None = None
    pieces: Sequence[tuple[str, bytes]] = ()


class Store(Protocol):
    """Where message bytes are kept, whatever keeps them: Blobs here, or blobs_database.DatabaseBlobs."""

    directory: Path
    """Of spools that outgrew memory: it needs room for them."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def spool(self) -> Spool: ...

    async def place(self, spool: Spool) -> Placed:
        """Give a spooled message its place; a large one is kept at once. Raises OSError, and then nothing is kept."""

    async def keep_bytes(self, data: bytes, data_key: bytes) -> str:
        """Keep bytes in memory, under a data key that exists; returns their reference. Raises OSError.

        The bytes are durable when a row that names the reference is: commit one, and only then answer.
        """

    async def read(self, reference: str, data_key: bytes) -> bytes:
        """The plaintext of a stream. Raises OSError or vault.Sealed where it is gone or changed."""


@dataclass(slots=True)
class _Segment:
    """size: with all that has a place in it; synced: what a power cut would leave."""

    path: Path
    size: int = 0
    synced: int = 0
    descriptor: int | None = None
    error: OSError | None = None  # it failed: nothing more is written to it


@dataclass(slots=True)
class _Job:
    segment: _Segment
    parts: tuple[bytes, ...]
    written: bool = False


@dataclass
class Blobs:
    """The blob store under one directory; any thread may write and read."""

    directory: Path
    _jobs: list[_Job] = field(default_factory=list)
    _segment: _Segment | None = None
    _order: threading.Lock = field(default_factory=threading.Lock)  # of places; never held while the disk works
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def close(self) -> None:
        with self._writing, self._order:
            if self._segment is not None:
                _abandon(self._segment, OSError("the store is closed"))

    def spool(self) -> Spool:
        return Spool(self.directory)

    async def place(self, spool: Spool) -> Placed:
        """See Store. What is in memory is written by whoever commits; a spool on disk gets a segment of its own, now."""
        spool.finish()
        if spool.on_disk:
            return Placed(await asyncio.to_thread(self._keep_file, spool))
        job, reference = self._place(spool.parts())
        return Placed(reference, partial(self._write, job))

    async def keep(self, spool: Spool) -> str:
        """Make a spooled message durable by itself; returns its reference. Raises OSError, and then nothing is kept."""
        placed = await self.place(spool)
        if placed.write is not None:
            await asyncio.to_thread(placed.write)
        return placed.reference

    async def keep_bytes(self, data: bytes, data_key: bytes) -> str:
        """See Store."""
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

    def _place(self, parts: tuple[bytes, ...]) -> tuple[_Job, str]:
        length = sum(map(len, parts))
        with self._order:
            segment = self._segment
            if segment is None or segment.error is not None or segment.size > _ROLL:
                segment = self._segment = self._new_segment()
            job = _Job(segment, parts)
            self._jobs.append(job)
            reference = f"{segment.path.name}:{segment.size}:{length}"
            segment.size += length
        return job, reference

    def _new_segment(self) -> _Segment:
        return _Segment(self.directory / f"{secrets.token_hex(16)}.seg")

    def _write(self, job: _Job) -> None:
        """Make *job* durable, and with it all that waits."""
        with self._writing:
            if not job.written and job.segment.error is None:
                with self._order:
                    jobs, self._jobs = self._jobs, []
                self._write_all(jobs)
        if not job.written:
            error = job.segment.error
            raise OSError(error.errno, error.strerror) if error and error.errno else OSError(f"not kept: {error}")

    def _write_all(self, jobs: list[_Job]) -> None:
        """Jobs stand in the order of their places; those of one segment are written and synced together."""
        while jobs:
            segment = jobs[0].segment
            these = [job for job in jobs if job.segment is segment]
            jobs = jobs[len(these) :]
            if segment.error is not None:
                continue
            try:
                self._append(segment, [part for job in these for part in job.parts])
            except OSError as error:
                _abandon(segment, error)
                continue
            for job in these:
                job.written, job.parts = True, ()
            self._close_full(segment)

    def _close_full(self, segment: _Segment) -> None:
        """Close a segment that gets no more jobs, when the last one is written."""
        with self._order:
            if segment is not self._segment and all(job.segment is not segment for job in self._jobs):
                _abandon(segment, OSError("the segment is full"))

    def _append(self, segment: _Segment, parts: list[bytes]) -> None:
        fresh = segment.descriptor is None
        if segment.descriptor is None:
            segment.descriptor = _create(segment.path)
        length = _write_parts(segment.descriptor, parts)
        os.fdatasync(segment.descriptor)
        if fresh:
            self._sync_directory()
        segment.synced += length

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _keep_file(self, spool: Spool) -> str:
        """A file of its own: what happens to the spool meanwhile, or to its disk, is nobody else's trouble."""
        segment, size = self._new_segment(), 0
        try:
            segment.descriptor = _create(segment.path)
            for piece in spool.pieces(_COPY):
                size += _write_parts(segment.descriptor, [piece])
            os.fdatasync(segment.descriptor)
            self._sync_directory()
            segment.synced = size
        except Exception as error:  # whatever it is, such as a spool that was discarded meanwhile
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)
            raise error if isinstance(error, OSError) else OSError(f"not kept: {error!r}") from error
        finally:
            _abandon(segment, OSError("the segment is full"))
        return f"{segment.path.name}:0:{size}"


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)


def _abandon(segment: _Segment, error: OSError) -> None:
    """Write nothing more to *segment*; what stands in it synced stays."""
    segment.error = error
    if segment.descriptor is None:
        return
    with contextlib.suppress(OSError):  # give back what a failed append took, on a full disk above all
        os.ftruncate(segment.descriptor, segment.synced)
    with contextlib.suppress(OSError):
        os.close(segment.descriptor)
    segment.descriptor = None


def _write_parts(descriptor: int, parts: Sequence[bytes]) -> int:
    length = sum(map(len, parts))
    written = os.writev(descriptor, parts[:_MOST_PARTS])
    if written < length:  # many parts, or a disk that is nearly full
        view = memoryview(b"".join(parts))[written:]
        while view:
            view = view[os.write(descriptor, view) :]
    return length
