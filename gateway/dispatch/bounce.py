"""What a mail to one of our return addresses says about the mail that we sent: delivery status notifications (RFC 3464, 6533).

Strangers write these, and nobody signs them: every input has an answer, in linear time, and only a notification in due form
counts for more than "other". Which of our mails it speaks of is known from the return address, never from the text.
Not here: what follows (intake/door.py). Blocking, some milliseconds.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.mime_fields import decode_base64, decode_field, header_fields, parameters
from gateway.dispatch.scrub import scrub

FAILED, DELAYED, DELIVERED, OTHER = "failed", "delayed", "delivered", "other"

_VERDICTS = {"failed": FAILED, "delayed": DELAYED, "delivered": DELIVERED}
"""RFC 3464 2.3.3. "relayed" and "expanded" promise nothing: the mail left the servers that report."""
_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
_STATUS = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})")
_MOST_BYTES = 256 * 1024
"""The status part comes second (RFC 6522 3); what lies behind it is our own mail."""
_MOST_PARTS, _MOST_DEPTH, _MOST_BLOCKS = 50, 4, 50
_MOST_HEAD = 32 * 1024
_OF_PARTS = frozenset({"content-type", "content-transfer-encoding"})
_OF_BLOCKS = frozenset({"action", "status", "diagnostic-code", "reporting-mta", "remote-mta"})
Fields = Mapping[str, bytes]


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


def read_bounce(raw: bytes, secrets: Sequence[str] = ()) -> Bounce:
    """secrets: what the mail that came back held, and no text may hold (scrub.py). Raises nothing."""
    try:
        return _read(raw[:_MOST_BYTES], secrets)
    except Exception:  # noqa: BLE001 - bytes that nobody thought of say nothing that we could use
        return Bounce(OTHER)


def _read(raw: bytes, secrets: Sequence[str]) -> Bounce:
    top, _ = _split(raw)
    if _type(top) != "multipart/report":
        return Bounce(OTHER)
    for fields, body in _parts(raw, 0, [_MOST_PARTS]):
        if _type(fields) in _STATUS_TYPES:
            return _judge(_blocks(_decoded(fields, body)), secrets)
    return Bounce(OTHER)


def _judge(blocks: Sequence[Fields], secrets: Sequence[str]) -> Bounce:
    """The first block speaks of the mail, each further one of a recipient (RFC 3464 2.1). Our mails have one recipient."""

    def text(block: Fields, name: str, limit: int) -> str | None:
        value = block.get(name)
        return None if value is None else scrub(decode_field(value), limit, secrets) or None

    about = blocks[0] if blocks else {}
    worst = Bounce(OTHER)
    for block in blocks:
        if "action" not in block and "status" not in block:
            continue
        action = (text(block, "action", 40) or "").lower().split(" ")[0] or None
        found = _STATUS.match(decode_field(block.get("status", b"")))
        status = found[1] if found else None
        verdict = _VERDICTS.get(action or "", OTHER)
        if action is None and status is not None and status.startswith("5"):
            verdict = FAILED
        read = Bounce(
            verdict=verdict,
            action=action,
            status=status,
            diagnostic=text(block, "diagnostic-code", 500),
            reporting_mta=text(about, "reporting-mta", 200),
            remote_mta=text(block, "remote-mta", 200),
        )
        if verdict == FAILED:
            return read
        worst = read if worst.action is None else worst
    return worst


def _blocks(body: bytes) -> list[Fields]:
    """Groups of header fields between blank lines; blank lines in number are one."""
    groups = re.split(rb"(?:\r?\n[ \t]*){2,}", body.strip(), maxsplit=_MOST_BLOCKS)[:_MOST_BLOCKS]
    return [header_fields(group[:_MOST_HEAD], _OF_BLOCKS) for group in groups if group.strip()]


# -- MIME, only as much as is needed: no recursion beyond a few levels, nothing decoded but the status part ---------------


def _split(raw: bytes) -> tuple[Fields, bytes]:
    """Header fields and body of a part."""
    if raw.startswith((b"\r\n", b"\n")):
        return {}, raw.split(b"\n", 1)[1]
    found = re.search(rb"\r?\n[ \t]*\r?\n", raw)
    end = found.end() if found else len(raw)
    return header_fields(raw[: min(end, _MOST_HEAD)], _OF_PARTS), raw[end:]


def _type(fields: Fields) -> str:
    return parameters(decode_field(fields.get("content-type", b"text/plain")))[0]


def _parts(raw: bytes, depth: int, left: list[int]) -> Iterator[tuple[Fields, bytes]]:
    fields, body = _split(raw)
    left[0] -= 1
    if left[0] < 0:
        return
    yield fields, body
    # Read as Latin-1, so that the boundary has the octets that it has in the body.
    kind, given = parameters(fields.get("content-type", b"").decode("latin-1"))
    boundary = given.get("boundary", "").rstrip().encode("latin-1", "replace")
    if not kind.startswith("multipart/") or not boundary or depth >= _MOST_DEPTH:
        return
    pieces = re.split(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r?\n|$)", body)
    for closing, piece in zip([None, *pieces[1::2]], pieces[::2], strict=False):
        if closing:
            return
        if piece is not pieces[0]:  # the preamble
            yield from _parts(piece, depth + 1, left)


def _decoded(fields: Fields, body: bytes) -> bytes:
    encoding = fields.get("content-transfer-encoding", b"").strip().lower()
    if encoding == b"quoted-printable":
        return quopri.decodestring(body)
    return decode_base64(body) if encoding == b"base64" else body
