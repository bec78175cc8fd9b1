"""The bytes of a mail: header fields, text and HTML of the same content, attachments. The same input gives the same bytes.

All lines end in CRLF and everything but an attached original is 7-bit, so that no server on the way has a reason to re-encode
what was signed. Not here: what a mail says (compose.py), how its blocks look (compose_blocks.py).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from gateway.core.errors import OurFault

_LINE = 76
_WORD = 45
"""Bytes of text in one encoded word: 60 in base64, within the 75 of RFC 2047 2."""
_ATEXT = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")


@dataclass(frozen=True, slots=True)
class Party:
    """A person of a mail. name may be ""."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Part:
    """An attachment. type: its media type; name: plain ASCII."""

    name: str
    type: str
    data: bytes


@dataclass(frozen=True)
class Letterhead:
    """The header fields of a mail, in the order they are written."""

    sender: Party
    to: Party
    subject: str
    message_id: str
    at: datetime
    zone: str
    language: str
    references: Sequence[str] = ()
    in_reply_to: str | None = None
    reply_to: str | None = None
    more: Sequence[tuple[str, str]] = field(default_factory=tuple)


def mail(head: Letterhead, plain: str, html: str, parts: Sequence[Part] = (), original: bytes | None = None) -> bytes:
    """A whole message. original: a message to attach as it is, byte for byte."""
    texts = [_text_part("plain", plain), _text_part("html", html)]
    kind, body = _multipart("alternative", head, texts)
    attached = [_attachment(part) for part in parts]
    if original is not None:
        attached.append(_message_part(original))
    if attached:
        inner = f"Content-Type: {kind}\r\n\r\n".encode("ascii") + body
        kind, body = _multipart("mixed", head, [inner, *attached])
    lines = _fields(head, kind)
    if original is not None:
        lines.append(f"Content-Transfer-Encoding: {_encoding(original)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


def _fields(head: Letterhead, kind: str) -> list[str]:
    named: list[tuple[str, str]] = [
        ("From", _mailbox(head.sender)),
        ("To", _mailbox(head.to)),
        ("Subject", _unstructured(head.subject, len("Subject: "))),
        ("Date", format_datetime(head.at.astimezone(ZoneInfo(head.zone)))),
        ("Message-ID", head.message_id),
    ]
    if head.reply_to:
        named.append(("Reply-To", head.reply_to))
    if parent := _id(head.in_reply_to or ""):
        named.append(("In-Reply-To", parent))
    if references := " ".join(filter(None, map(_id, head.references))):
        named.append(("References", references))
    named += [("Auto-Submitted", "auto-generated"), *head.more]  # RFC 3834 5
    named += [("MIME-Version", "1.0"), ("Content-Language", head.language), ("Content-Type", kind)]
    for name, value in named:
        if re.search(r"[\r\n\x00]", value.replace("\r\n ", " ")):
            raise OurFault(detail=f"{name} would break its line")
    return [f"{name}: {value}" for name, value in named]


def _id(message_id: str) -> str:
    """A Message-ID of somebody else, harmless in a line of ours."""
    return re.sub(r"[^!-~]", "", message_id)[:900]


def _mailbox(party: Party) -> str:
    """The address stays as it is: where it is international, the whole mail is (RFC 6531, SMTPUTF8)."""
    name = _printable(party.name)
    if not name:
        return party.address
    if not name.isascii() or "=?" in name:
        return "\r\n ".join([*_encoded_words(name), f"<{party.address}>"])
    phrase = name if _ATEXT.fullmatch(name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return f"{phrase} <{party.address}>"


def _unstructured(text: str, used: int) -> str:
    """A text over as many lines as it needs; only the words that need it are encoded, so that references stay readable."""
    atoms: list[str] = []
    for plain, group in groupby(_printable(text, 400).split(), key=lambda word: word.isascii() and "=?" not in word):
        words = list(group)
        atoms += words if plain else _encoded_words(" ".join(words))
    lines, current = [], ""
    for atom in atoms:
        if current and used + len(current) + 1 + len(atom) > _LINE:
            lines.append(current)
            current, used = "", 1
        current = f"{current} {atom}" if current else atom
    return "\r\n ".join([*lines, current])


def _encoded_words(text: str) -> list[str]:
    """RFC 2047, in base64, cut between characters; the blanks between them say nothing."""
    words, chunk = [], ""
    for character in text:
        if len((chunk + character).encode("utf-8")) > _WORD:
            words.append(chunk)
            chunk = ""
        chunk += character
    coded = [base64.b64encode(word.encode("utf-8")).decode("ascii") for word in [*words, chunk]]
    return [f"=?utf-8?B?{word}?=" for word in coded]


def _printable(text: str, limit: int = 120) -> str:
    """One line without control characters, characters that turn text around, and halves of surrogate pairs."""
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+", " ", text)
    return " ".join(clean.split())[:limit]


# -- bodies ---------------------------------------------------------------------------------------------------------------


def _multipart(subtype: str, head: Letterhead, parts: Sequence[bytes]) -> tuple[str, bytes]:
    """(Content-Type, body). "=_" stands in no quoted-printable and no base64 text (RFC 2045 6.7)."""
    digest = hashlib.sha256(f"{subtype} {head.message_id}".encode()).hexdigest()
    boundary = f"=_{digest[:32]}"
    mark = f"--{boundary}".encode("ascii")
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return f'multipart/{subtype}; boundary="{boundary}"', body


def _text_part(subtype: str, text: str) -> bytes:
    raw = text.replace("\n", "\r\n").encode("utf-8")
    plain = raw.isascii() and all(len(line) <= 200 for line in raw.split(b"\r\n"))
    head = f'Content-Type: text/{subtype}; charset="{"us-ascii" if raw.isascii() else "utf-8"}"\r\n'
    encoding = "7bit" if plain else "quoted-printable"
    body = raw if plain else "\r\n".join(map(_quoted_printable, text.split("\n"))).encode("ascii")
    return f"{head}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii") + body


def _quoted_printable(line: str) -> str:
    """A line of text (RFC 2045 6.7), broken between words, so that references and links stay whole for the eye."""
    made, current = [], ""
    for word in re.split(r"(?<= )", line):
        for piece in _pieces(word):
            if len(current) + len(piece) >= _LINE:
                made.append(current + "=")
                current = ""
            current += piece
    if current.endswith(" "):
        current = current[:-1] + "=20"
    return "\r\n".join([*made, current])


def _pieces(word: str) -> list[str]:
    """A word encoded; one that is longer than a line, in its characters."""
    signs = [chr(b) if 32 <= b < 127 and b != 61 else f"={b:02X}" for b in word.encode("utf-8")]
    return ["".join(signs)] if sum(map(len, signs)) < _LINE - 1 else signs


def _attachment(part: Part) -> bytes:
    head = (
        f'Content-Type: {part.type}; name="{part.name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{part.name}"\r\n\r\n'
    )
    coded = base64.b64encode(part.data).decode("ascii")
    lines = [coded[i : i + _LINE] for i in range(0, len(coded), _LINE)]
    return "\r\n".join([head + (lines[0] if lines else ""), *lines[1:]]).encode("ascii")


def _message_part(original: bytes) -> bytes:
    """A message/rfc822 may be 7bit, 8bit or binary, and is then what it was, byte for byte (RFC 2046 5.2.1)."""
    head = (
        "Content-Type: message/rfc822\r\n"
        f"Content-Transfer-Encoding: {_encoding(original)}\r\n"
        'Content-Disposition: attachment; filename="letter.eml"\r\n\r\n'
    )
    return head.encode("ascii") + original


def _encoding(original: bytes) -> str:
    return "7bit" if original.isascii() else "8bit"
