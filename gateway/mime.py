"""Reading the beginning of a mail, whatever its bytes are: its headers, and the text where option lines stand.

Our own scan, in linear time and without recursion: the standard library's parser fails on 1200 nested multiparts. The mail itself
is never changed or written anew; what is read here serves to understand it. Not here: what it means (core/address.py),
byte rules of SMTP (intake/data.py), the letter page (web/portal/).
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import charset_normalizer

from gateway.core.address import Head, comparison_form
from gateway.core.errors import BadContent, BadRecipient, NotYours
from gateway.core.html_text import to_text
from gateway.core.mailbox import Mailbox, mailboxes
from gateway.core.mime_fields import clean, decode_base64, decode_charset, decode_field, decode_words, parameters
from gateway.core.options import MAX_TEXT

HEAD = 256 * 1024
"""Octets of a mail that are looked at."""
_MAX_DEPTH, _MAX_PARTS = 32, 200
_MAX_TEXT_BYTES = 3 * MAX_TEXT
_SAMPLE = 2048
"""Octets from which a charset is guessed, which takes milliseconds."""
_ENOUGH = 24
"""Octets above 127 from which on a guess is worth more than none."""

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)  # RFC 5322 3.6.8, with the blanks of its 4.5
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,500}>")
_ONCE = ("date", "subject", "to", "message-id", "content-type", "content-transfer-encoding")  # RFC 5322 3.6, RFC 2045
_BLIND = ("bcc", "resent-bcc")
_KIND = re.compile(r"[!-.0-~]+/[!-.0-~]+")
_OPTION = re.compile(r"\s*\w{1,20}\s*:")
_HALVES = re.compile("[\0\ud800-\udfff]")
"""NUL, and half characters of UTF-16, which no row and no record can hold."""

Fields = Sequence[tuple[str, bytes]]


def read_head(head: bytes) -> Head:
    """What the first octets of a mail (its first 256 KiB are enough) say. Raises nothing, whatever they are."""
    lines = head[:HEAD].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    fields, body = _fields(lines, 0)
    message_id = _MESSAGE_ID.search(decode_field(_first(fields, "message-id")))
    return Head(
        message_id=message_id.group() if message_id else None,
        subject=clean(decode_words(decode_field(_first(fields, "subject")))),
        from_=_people(fields, "from"),
        to=_people(fields, "to"),
        cc=_people(fields, "cc"),
        text=_text(fields, lines, body),
        counts=Counter(name for name, _ in fields),
        complete=body < len(lines) or len(head) < HEAD,
    )


def check_headers(head: Head, account_addresses: Collection[str]) -> None:
    """Hold a mail to what a letter needs of its headers (RFC 5322 3.6, RFC 6409 6.1).

    account_addresses: in comparison form. Raises BadContent for a Bcc line or doubled and missing headers, NotYours where From
    is not the account's. A missing Date or Message-ID is tolerated: not every client writes them.
    """
    if not head.complete:
        raise BadContent("The headers of this message are too long (at most 256 KiB).")
    for name in _BLIND:
        if head.counts.get(name):
            raise BadContent("The message has a Bcc line, which its recipients would see: remove it and send again.")
    for name in ("from", *_ONCE):
        if head.counts.get(name, 0) > 1:
            raise BadContent(f"The message has more than one header {name.title()}; it may have one.")
    if not head.from_:
        raise BadContent("The message has no header From that names its author.")
    if not all(_is_of(mailbox, account_addresses) for mailbox in head.from_):
        raise NotYours
    if len(head.from_) > 1:
        raise BadContent("The header From names more than one author; a letter has one.")


def _is_of(mailbox: Mailbox, account_addresses: Collection[str]) -> bool:
    try:
        return comparison_form(mailbox.address) in account_addresses
    except BadRecipient:
        return False


def _fields(lines: Sequence[bytes], start: int, around: Sequence[_Multipart] = ()) -> tuple[Fields, int]:
    """The header fields from line *start* on, unfolded, and where the body begins, or the next part if there is no body.

    A line that is no field is passed over.
    """
    found: list[tuple[str, list[bytes]]] = []
    end = len(lines)
    for position in range(start, len(lines)):
        line = lines[position]
        if not line or (line.startswith(b"--") and _delimited(line, around) is not None):
            end = position + (not line)
            break
        if line[:1] in (b" ", b"\t") and found:
            found[-1][1].append(line)
        elif match := _FIELD.match(line):
            found.append((match[1].decode("ascii").lower(), [match[2]]))
    return [(name, b"".join(parts)) for name, parts in found], end


def _first(fields: Fields, name: str) -> bytes:
    return next((value for field_name, value in fields if field_name == name), b"").strip()


def _people(fields: Fields, name: str) -> tuple[Mailbox, ...]:
    """The mailboxes of all headers *name*. Addresses are found before words are decoded, so no word can forge one."""
    listed = ", ".join(decode_field(value) for field_name, value in fields if field_name == name)
    return tuple(Mailbox(clean(decode_words(found.name)), found.address) for found in mailboxes(listed))


# -- the text -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Leaf:
    """A part that may hold the sender's text. group: the nearest multipart/alternative around it, or its own number."""

    kind: str
    parameters: dict[str, str]
    encoding: str
    group: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def take(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            if self.size >= _MAX_TEXT_BYTES:
                break
            self.lines.append(line)
            self.size += len(line) + 1

    def add(self, line: bytes) -> None:
        if self.size < _MAX_TEXT_BYTES:
            self.lines.append(line)
            self.size += len(line) + 1


@dataclass(slots=True)
class _Multipart:
    delimiters: tuple[bytes, bytes]  # before a part, and after the last (RFC 2046 5.1.1)
    group: int | None
    digest: bool


def _text(fields: Fields, lines: Sequence[bytes], start: int) -> str:
    """The sender's own text: the first part that shows something, in its plain form if it has two (RFC 2046 5.1.4)."""
    leaves = _leaves(fields, lines, start)
    for leaf in leaves:
        versions = [other for other in leaves if other.group == leaf.group]
        for version in sorted(versions, key=lambda other: other.kind != "plain"):
            text = _read(version)
            version.lines.clear()  # never decoded twice
            if text.strip():
                return text[:MAX_TEXT]
    return ""


def _leaves(fields: Fields, lines: Sequence[bytes], start: int) -> list[_Leaf]:
    """The text parts of a message, in order; each line is looked at once, whatever the nesting."""
    around: list[_Multipart] = []
    leaves: list[_Leaf] = []
    leaf = _enter(fields, around, leaves, 0)
    position, parts = start, 1
    if leaf is not None and not around:  # one part that is all of the body, as most mails are
        leaf.take(lines[start:])
        return leaves
    while position < len(lines):
        line = lines[position]
        position += 1
        level = _delimited(line, around) if line.startswith(b"--") else None
        if level is None:
            if leaf is not None:
                leaf.add(line)
            continue
        closing = line.rstrip() != around[level].delimiters[0]
        del around[level + (0 if closing else 1) :]
        leaf = None
        if not closing:
            if parts == _MAX_PARTS:
                break
            part_fields, position = _fields(lines, position, around)
            leaf = _enter(part_fields, around, leaves, parts)
            parts += 1
    return leaves


def _delimited(line: bytes, around: Sequence[_Multipart]) -> int | None:
    """Which of the multiparts around, the innermost first, *line* delimits."""
    text = line.rstrip()
    return next((level for level in reversed(range(len(around))) if text in around[level].delimiters), None)


def _enter(fields: Fields, around: list[_Multipart], leaves: list[_Leaf], number: int) -> _Leaf | None:
    """Begin a part: a multipart joins *around*, a text joins *leaves* and is returned, all else is passed over."""
    kind, given = parameters(decode_field(_first(fields, "content-type")))
    if not _KIND.fullmatch(kind):  # RFC 2045 5.2: the default, also for what cannot be read
        kind = "message/rfc822" if around and around[-1].digest else "text/plain"
    boundary = given.get("boundary", "").rstrip().encode("utf-8", "replace")
    if kind.startswith("multipart/") and boundary:
        if len(around) < _MAX_DEPTH:
            outer = around[-1].group if around else None
            group = number if outer is None and kind == "multipart/alternative" else outer
            around.append(_Multipart((b"--" + boundary, b"--" + boundary + b"--"), group, kind == "multipart/digest"))
        return None
    if kind.startswith("multipart/"):
        kind = "text/plain"
    disposition, _ = parameters(decode_field(_first(fields, "content-disposition")))
    if kind not in ("text/plain", "text/html") or disposition == "attachment":
        return None
    outer = around[-1].group if around else None
    encoding = decode_field(_first(fields, "content-transfer-encoding")).lower()
    leaf = _Leaf(
        kind[5:], dict(given), (re.findall(r"[a-z0-9-]+", encoding) or [""])[0], number if outer is None else outer
    )
    leaves.append(leaf)
    return leaf


def _read(leaf: _Leaf) -> str:
    raw = b"\n".join(leaf.lines)
    if leaf.encoding == "base64":
        raw = decode_base64(raw)
    elif leaf.encoding == "quoted-printable":
        raw = binascii.a2b_qp(raw)
    text = _decode(raw, leaf.parameters.get("charset", ""), leaf.kind)
    if not text.isascii() or "\0" in text:
        text = _HALVES.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if leaf.kind == "html":
        return to_text(text)
    if leaf.parameters.get("format", "").lower() == "flowed":
        return _unflowed(text, leaf.parameters.get("delsp", "").lower() == "yes")
    return text


def _decode(raw: bytes, charset: str, kind: str) -> str:
    """*raw* as its charset says, or else, in this order: as HTML says itself, as UTF-8, as it looks like."""
    if (
        kind == "html"
        and not charset
        and (named := re.search(rb"<meta[^<>]{0,200}charset=[\"']?([\w.:-]{1,40})", raw[:8192]))
    ):
        charset = named[1].decode("ascii", "replace")
    text = decode_charset(raw, charset or "utf-8")
    if text is None:
        text = decode_charset(raw, "utf-8")
    return _guessed(raw) if text is None else text


def _guessed(raw: bytes) -> str:
    """*raw*, of an unknown charset, as it looks like; of few letters no guess is better than Western Europe's."""
    high = [position for position, octet in enumerate(raw) if octet > 0x7F]
    if len(high) < _ENOUGH:
        return decode_field(raw)
    start = max(0, high[0] - _SAMPLE // 4)
    guess = charset_normalizer.from_bytes(raw[start : start + _SAMPLE]).best()
    return raw.decode(guess.encoding if guess is not None else "cp1252", "replace")


def _unflowed(text: str, delete_space: bool) -> str:
    """RFC 3676 4: a line that ends with a blank goes on in the next one, unless that one is an option of its own."""
    whole: list[str] = []
    soft = False
    for raw in text.split("\n"):
        line = raw.removeprefix(" ")  # space-stuffing
        if soft and line.strip() and not _OPTION.match(line):
            whole.append(line)
        else:
            whole.append(f"\n{line}" if whole else line)
        soft = line.endswith(" ") and line != "-- " and bool(line.strip())
        if soft and delete_space:
            whole[-1] = whole[-1][:-1]
    return "".join(whole)
