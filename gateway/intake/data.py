"""The content of a mail, in bulk: takes what the stream has, finds its end, undoes dot-stuffing and holds the rules on bytes.

The end is CRLF . CRLF and nothing else (RFC 5321 4.1.1.4). Bare CR, bare LF and NUL are refused, because two servers that read
them differently can be made to see two mails in one. Lines may be of any length: letters are kept byte for byte. Whatever is
wrong is said after the real end, so that no content is ever taken for commands. Not here: what the content means.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from gateway.core.errors import BadContent, PliError, TooBig
from gateway.faults import fault
from gateway.intake.inbox import Gone, Inbox

_END = b"\r\n.\r\n"
_BIT = 512 * 1024
"""Long mails go to the sink in pieces of about this size."""
_SMALL = 1024 * 1024
"""Up to here a sink takes a piece in the loop; a longer mail may touch the disk and is written by a thread."""
_PATIENCE = 4
_LEAST_PATIENCE = 256 * 1024 * 1024
_log = structlog.get_logger("intake")


class Sink(Protocol):
    """Where content goes (storage.blobs.Spool)."""

    def write(self, data: bytes) -> None: ...


class Unstuffer:
    """Content from the wire in any pieces; the same bytes come out however it is cut.

    ended: the end was seen. rest: what followed it. broken: bare CR, bare LF or NUL were among it.
    """

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self.broken = ""
        self._carry = b"\r\n"  # content begins at the beginning of a line
        self._virtual = 2

    def feed(self, data: bytes) -> bytes:
        """The plain content that is certain after *data*."""
        data = self._carry + data if self._carry else data
        dot = data.find(b"\r\n.")  # as a rule there is none but that of the end
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            data, self.rest, self._carry = data[: end + 2], data[end + len(_END) :], b""
        else:
            self._carry = _beginning_of_end(data)
            if self._carry:
                data = data[: -len(self._carry)]
        if not self.broken:
            self.broken = _fault(data)
        # Each dot after a CRLF goes once (RFC 5321 4.5.2); the carried bytes keep a CRLF and its dot in one piece.
        plain = data if dot < 0 or dot == end else data.replace(b"\r\n.", b"\r\n")
        if self._virtual and plain:
            plain, self._virtual = plain[self._virtual :], 0
        return plain


def _beginning_of_end(data: bytes) -> bytes:
    """The longest end of *data* that may become the end of the content."""
    for length in range(len(_END) - 1, 0, -1):
        if data.endswith(_END[:length]):
            return _END[:length]
    return b""


def _fault(data: bytes) -> str:
    """What is wrong with these bytes, which hold no half CRLF."""
    text = data.replace(b"\r\n", b"")
    if b"\n" in text:
        return (
            "Bare LF: every line must end with CRLF, and nothing was changed for you."
            " With curl add --crlf; a file needs unix2dos first"
        )
    if b"\r" in text:
        return "Bare CR: every line must end with CRLF, and nothing was changed for you"
    return "NUL byte: encode binary content, such as in base64" if b"\0" in text else ""


async def receive(inbox: Inbox, sink: Sink, limit: int) -> None:
    """Read one mail's content to its real end, into *sink*. limit: in bytes, as SIZE counts them (RFC 1870 5).

    Raises BadContent, TooBig, StorageFull or OurFault where it cannot be taken: then the sink holds a part of it. Raises Gone
    where the peer goes away, or sends many times more than the limit.
    """
    content, writer, size = Unstuffer(), _Writer(sink), 0
    patience = max(limit * _PATIENCE, _LEAST_PATIENCE)
    while not content.ended:
        plain = content.feed(await inbox.chunk())
        size += len(plain)
        if size > patience:
            raise Gone
        if not content.broken and size <= limit:
            writer.add(plain)
            if writer.held >= _BIT:
                await writer.hand_over()
    inbox.push_back(content.rest)
    if size > limit:
        raise TooBig(f"The message is larger than this gateway takes ({limit} bytes).")
    if content.broken:
        raise BadContent(content.broken)
    await writer.finish()


class _Writer:
    """Hands content to the sink in pieces that cost little each. A failing sink is remembered until the end."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parts: list[bytes] = []
        self.held = self._written = 0
        self._error: PliError | None = None

    def add(self, data: bytes) -> None:
        if self._error is None:
            self._parts.append(data)
            self.held += len(data)

    async def finish(self) -> None:
        await self.hand_over()
        if self._error is not None:
            raise self._error

    async def hand_over(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self.held = 0
        self._written += len(data)
        try:
            if self._written <= _SMALL:
                self._sink.write(data)
            else:
                await asyncio.to_thread(self._sink.write, data)
        except OSError as error:
            self._error = fault(error)
            _log.error("cannot store content", reason=type(self._error).__name__, detail=str(error))
