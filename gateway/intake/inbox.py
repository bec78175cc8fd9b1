"""What a peer has sent and the session has not read yet: command lines one by one, or content as it came.

Bounded: beyond 256 KB the transport is told to stop reading. One reader at a time. Not here: what lines mean (session.py),
where content ends (data.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

_HIGH = 256 * 1024
_LOW = 64 * 1024
_MAX_DROPPED = 1024 * 1024


class Gone(Exception):
    """The peer went away, or was silent for too long."""


class LineTooLong(Exception):
    """A command line beyond its limit; it was read to its end and thrown away."""


class Inbox:
    """flush: called before each wait for the peer, so that answers to pipelined commands leave together (RFC 2920 3.2).

    It gives what is to be awaited before, or as good as always None.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], Awaitable[None] | None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting_since: float | None = None
        """When the session began to wait for the peer (loop time); None while the peer waits for us."""
        self._loop, self._flush = loop, flush
        self._front, self._at = b"", 0
        self._more: deque[bytes] = deque()
        self._size = 0
        self._ended = self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        if self._ended:
            return
        self._more.append(data)
        self._size += len(data)
        if self._size > _HIGH and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        if self._waiter is not None:
            self._wake()

    def feed_eof(self) -> None:
        self._ended = True
        self._wake()

    def clear(self) -> None:
        """Forget what was sent and not read."""
        self._more.clear()
        self._front, self._at, self._size = b"", 0, 0
        self._resume()

    def push_back(self, data: bytes) -> None:
        """Undo the end of a read."""
        if data:
            self._size += len(data)
            if self._at < len(self._front):
                self._more.appendleft(self._front[self._at :])
            self._front, self._at = data, 0

    async def line(self, limit: int, limits: Callable[[bytes], int] | None = None) -> bytes:
        """The next line, without its end; a bare LF is taken as one, outside of content it can smuggle nothing.

        limits: the limit for a line that begins so, *limit* or more. Raises LineTooLong, Gone.
        """
        since = self._loop.time()
        while (end := self._front.find(b"\n", self._at)) < 0:
            start = self._front[self._at :]
            if len(start) > limit and (limits is None or len(start) > limits(start)):
                await self._drop_line(since)
                raise LineTooLong
            await self._fill(since)
            self._front, self._at = start + self._more.popleft(), 0
        line = self._front[self._at : end]
        self._took(end + 1 - self._at)
        self._at = end + 1
        if len(line) > limit and (limits is None or len(line) > limits(line)):
            raise LineTooLong
        return line[:-1] if line.endswith(b"\r") else line

    async def chunk(self) -> bytes:
        """Whatever is there, at least one byte. Raises Gone."""
        if self._at < len(self._front):
            data = self._front[self._at :]
        else:
            await self._fill(self._loop.time())
            data = self._more.popleft()
        self._front, self._at = b"", 0
        self._took(len(data))
        return data

    async def _drop_line(self, since: float) -> None:
        dropped = 0
        while (end := self._front.find(b"\n", self._at)) < 0:
            dropped += len(self._front) - self._at
            self._took(len(self._front) - self._at)
            if dropped > _MAX_DROPPED:
                raise Gone
            await self._fill(since)
            self._front, self._at = self._more.popleft(), 0
        self._took(end + 1 - self._at)
        self._at = end + 1

    async def _fill(self, since: float) -> None:
        """Wait until there is more. since: the peer is late counted from here, so that drops of a line buy no time."""
        if self._more:
            return
        self.waiting_since = since
        try:
            if (flushing := self._flush()) is not None:
                await flushing
            while not self._more:
                if self._ended:
                    raise Gone
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self.waiting_since = self._waiter = None

    def _took(self, count: int) -> None:
        self._size -= count
        if self._paused:
            self._resume()

    def _resume(self) -> None:
        if self._paused and self._size < _LOW and self.transport is not None:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
