"""What a mail to one of our return addresses says about the mail that we sent: delivery status notifications (RFC 3464, 6533).

Strangers write these: every input has an answer, and only a notification in due form counts for more than "other". Which of our
mails it speaks of is known from the return address, never from the text. Not here: what follows (intake/door.py).
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

from gateway.dispatch.scrub import scrub

FAILED, DELAYED, DELIVERED, OTHER = "failed", "delayed", "delivered", "other"

_VERDICTS = {"failed": FAILED, "delayed": DELAYED, "delivered": DELIVERED}
"""RFC 3464 2.3.3. "relayed" and "expanded" promise nothing: the mail left the servers that report."""
_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
_STATUS = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})")
_MOST_BYTES = 256 * 1024
"""The status part comes second (RFC 6522 3); what lies behind it is our own mail."""
_MOST_PARTS, _MOST_DEPTH, _MOST_BLOCKS = 50, 4, 50


@dataclass(frozen=True, slots=True)
class Bounce:
    """verdict: FAILED, DELAYED, DELIVERED or OTHER. The texts are bounded and without our secrets; None where not given."""

    verdict: str
    action: str | None = None
    status: str | None = None
    diagnostic: str | None = None
    reporting_mta: str | None = None
    remote_mta: str | None = None

    def facts(self) -> dict[str, Any]:
        """For the evidence."""
        return {
            "verdict": self.verdict,
            "action": self.action,
            "status": self.status,
            "diagnostic": self.diagnostic,
            "reporting_mta": self.reporting_mta,
            "remote_mta": self.remote_mta,
        }


def read_bounce(raw: bytes) -> Bounce:
    """Raises nothing."""
    try:
        return _read(raw[:_MOST_BYTES])
    except Exception:  # noqa: BLE001 - the email package meets bytes it was not made for; they say nothing that we could use
        return Bounce(OTHER)


def _read(raw: bytes) -> Bounce:
    top, _ = _split(raw)
    if _type(top) != "multipart/report":
        return Bounce(OTHER)
    for headers, body in _parts(raw, 0, [_MOST_PARTS]):
        if _type(headers) in _STATUS_TYPES:
            return _judge(_blocks(_decoded(headers, body)))
    return Bounce(OTHER)


def _judge(blocks: list[Message]) -> Bounce:
    """The first block speaks of the mail, each further one of a recipient (RFC 3464 2.1). Our mails have one recipient."""
    about = blocks[0] if blocks else Message()
    worst = Bounce(OTHER)
    for block in blocks:
        if "action" not in block and "status" not in block:
            continue
        action = (_text(block, "action", 40) or "").lower().split(" ")[0] or None
        found = _STATUS.match(str(block.get("status", "")))
        status = found[1] if found else None
        verdict = _VERDICTS.get(action or "", OTHER)
        if action is None and status is not None and status.startswith("5"):
            verdict = FAILED
        read = Bounce(
            verdict=verdict,
            action=action,
            status=status,
            diagnostic=_text(block, "diagnostic-code", 500),
            reporting_mta=_text(about, "reporting-mta", 200),
            remote_mta=_text(block, "remote-mta", 200),
        )
        if verdict == FAILED:
            return read
        worst = read if worst.action is None else worst
    return worst


def _text(block: Message, name: str, limit: int) -> str | None:
    value = block.get(name)
    return None if value is None else scrub(str(value), limit) or None


def _blocks(body: bytes) -> list[Message]:
    """Groups of header fields between blank lines; blank lines in number are one."""
    groups = re.split(rb"(?:\r?\n[ \t]*){2,}", body.strip(), maxsplit=_MOST_BLOCKS)[:_MOST_BLOCKS]
    return [message_from_bytes(group + b"\r\n\r\n") for group in groups if group.strip()]


# -- MIME, only as much as is needed: no recursion beyond a few levels, nothing decoded but the status part ---------------


def _split(raw: bytes) -> tuple[Message, bytes]:
    """Headers and body of a part."""
    if raw.startswith((b"\r\n", b"\n")):
        return Message(), raw.split(b"\n", 1)[1]
    found = re.search(rb"\r?\n[ \t]*\r?\n", raw)
    end = found.end() if found else len(raw)
    return BytesHeaderParser().parsebytes(raw[: min(end, 64 * 1024)]), raw[end:]


def _type(headers: Message) -> str:
    return headers.get_content_type() if "content-type" in headers else "text/plain"


def _parts(raw: bytes, depth: int, left: list[int]) -> Iterator[tuple[Message, bytes]]:
    headers, body = _split(raw)
    left[0] -= 1
    if left[0] < 0:
        return
    yield headers, body
    boundary = headers.get_boundary()
    if headers.get_content_maintype() != "multipart" or not boundary or depth >= _MOST_DEPTH:
        return
    mark = re.escape(boundary.encode("utf-8", "surrogateescape"))
    pieces = re.split(rb"(?:^|\r?\n)--" + mark + rb"(--)?[ \t]*(?:\r?\n|$)", body)
    for closing, piece in zip([None, *pieces[1::2]], pieces[::2], strict=False):
        if closing:
            return
        if piece is not pieces[0]:  # the preamble
            yield from _parts(piece, depth + 1, left)


def _decoded(headers: Message, body: bytes) -> bytes:
    encoding = str(headers.get("content-transfer-encoding", "")).strip().lower()
    if encoding == "quoted-printable":
        return quopri.decodestring(body)
    if encoding == "base64":
        try:
            return base64.b64decode(b"".join(body.split()))
        except binascii.Error:
            return body
    return body
