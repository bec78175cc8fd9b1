"""Reading the beginning of a mail, whatever its bytes are: its headers, and the text where option lines stand.

Our own scan, in linear time and without recursion: the standard library's parser fails on 1200 nested multiparts. The mail itself
is never changed or written anew; what is read here serves to understand it. Not here: what it means (core/address.py),
byte rules of SMTP (intake/data.py), the letter page (web/portal/).
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
_FIELDS = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*(?:\n[ \t].*)*)", re.MULTILINE)
"""The same with the lines that continue it."""
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,500}>")
_ONCE = ("date", "subject", "to", "message-id", "content-type", "content-transfer-encoding")  # RFC 5322 3.6, RFC 2045
_BLIND = ("bcc", "resent-bcc")
_KIND = re.compile(r"[!-.0-~]+/[!-.0-~]+")
_TOKEN = re.compile(r"[a-z0-9-]+")
_OPTION = re.compile(r"\s*\w{1,20}\s*:")
_HALVES = re.compile("[\0\ud800-\udfff]")
"""NUL, and half characters of UTF-16, which no row and no record can hold."""

Fields = Sequence[tuple[str, bytes]]
First = Mapping[str, bytes]
"""The first field of each name."""


def read_head(head: bytes) -> Head:
    """What the first octets of a mail (its first 256 KiB are enough) say. Raises nothing, whatever they are."""
    data = head[:HEAD].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    fields, body = _fields(data, 0)
    first = _first(fields)
    message_id = _MESSAGE_ID.search(decode_field(first.get("message-id", b"")))
    return Head(
        message_id=message_id.group() if message_id else None,
        subject=clean(decode_words(decode_field(first.get("subject", b"").strip()))),
        from_=_people(fields, "from"),
        to=_people(fields, "to"),
        cc=_people(fields, "cc") if "cc" in first else (),
        text=_text(first, data, body),
        counts=Counter([name for name, _ in fields]),
        complete=body <= len(data) or len(head) < HEAD,
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


def _fields(data: bytes, start: int, around: Sequence[_Multipart] = ()) -> tuple[Fields, int]:
    """The header fields from *start* on, unfolded, and where the body begins, or the next part if there is no body.

    data: with lines that end in LF. A line that is no field is passed over. Where nothing follows, the body begins past the end.
    """
    if data.startswith(b"\n", start):
        return [], start + 1
    blank = data.find(b"\n\n", start)
    end, body = (blank, blank + 2) if blank >= 0 else (len(data), len(data) + 1)
    if around and (delimiter := _delimiter(data, start, end, around)):
        body = delimiter[0]
        end = body - 1
    section = data[start:end].removesuffix(b"\n")
    found = _FIELDS.findall(section)
    if sum([1 + value.count(b"\n") for _, value in found]) != section.count(b"\n") + 1:
        return _fields_among_others(section), body
    return [(name.decode("ascii").lower(), value.replace(b"\n", b"")) for name, value in found], body


def _fields_among_others(section: bytes) -> Fields:
    """The fields of a section where some lines are none; a line that continues such a one continues the field before it."""
    found: list[tuple[str, list[bytes]]] = []
    for line in section.split(b"\n"):
        if line[:1] in (b" ", b"\t") and found:
            found[-1][1].append(line)
        elif match := _FIELD.match(line):
            found.append((match[1].decode("ascii").lower(), [match[2]]))
    return [(name, b"".join(parts)) for name, parts in found]


def _first(fields: Fields) -> First:
    return dict(reversed(fields))


def _people(fields: Fields, name: str) -> tuple[Mailbox, ...]:
    """The mailboxes of all headers *name*. Addresses are found before words are decoded, so no word can forge one."""
    listed = ", ".join([decode_field(value) for field_name, value in fields if field_name == name])
    return tuple(
        [Mailbox(clean(decode_words(box.name)), box.address) if box.name else box for box in mailboxes(listed)]
    )


# -- the text -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Leaf:
    """A part that may hold the sender's text. group: the nearest multipart/alternative around it, or its own number.

    start, stop: where its body stands.
    """

    kind: str
    parameters: Mapping[str, str]
    encoding: str
    group: int
    start: int = 0
    stop: int = 0

    def content(self, data: bytes) -> bytes:
        """The whole lines with which _MAX_TEXT_BYTES are reached."""
        end = data.find(b"\n", self.start + _MAX_TEXT_BYTES - 1, self.stop)
        return data[self.start : self.stop if end < 0 else end]


@dataclass(slots=True)
class _Multipart:
    delimiters: tuple[bytes, bytes]  # before a part, and after the last (RFC 2046 5.1.1)
    group: int | None
    digest: bool


def _text(first: First, data: bytes, start: int) -> str:
    """The sender's own text: the first part that shows something, in its plain form if it has two (RFC 2046 5.1.4)."""
    for versions in _groups(first, data, start):
        for version in sorted(versions, key=lambda one: one.kind != "plain"):
            text = _read(version, version.content(data))
            if text and not text.isspace():
                return text[:MAX_TEXT]
    return ""


def _groups(first: First, data: bytes, start: int) -> Iterator[list[_Leaf]]:
    """The text parts of a message, in order, those of one group together, as soon as no other can join them.

    The body is scanned once, whatever the nesting.
    """
    around: list[_Multipart] = []
    leaf = _enter(first, around, 0)
    group: list[_Leaf] = [leaf] if leaf is not None else []  # one part that is all of the body, as most mails are
    if leaf is not None:
        leaf.start = start
    position, parts = start, 1
    while around and (found := _delimiter(data, position, len(data), around)):
        at, end, level = found
        if leaf is not None:
            leaf.stop = at - 1
            leaf = None
        closing = data[at:end].rstrip() != around[level].delimiters[0]
        del around[level + (0 if closing else 1) :]
        position = end + 1
        if group and (not around or around[-1].group != group[0].group):
            yield group
            group = []
        if not closing:
            if parts == _MAX_PARTS:
                break
            fields, position = _fields(data, position, around)
            leaf = _enter(_first(fields), around, parts)
            parts += 1
            if leaf is not None:
                leaf.start = position
                group.append(leaf)
    if leaf is not None:
        leaf.stop = len(data)
    if group:
        yield group


def _delimiter(data: bytes, start: int, stop: int, around: Sequence[_Multipart]) -> tuple[int, int, int] | None:
    """The next line from the one at *start* on, begun before *stop*, that delimits one of *around*: its ends, and which."""
    at = data.find(b"\n--", start - 1, stop) + 1
    while at > 0:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        level = _delimited(data[at:end], around)
        if level is not None:
            return at, end, level
        at = data.find(b"\n--", end, stop) + 1
    return None


def _delimited(line: bytes, around: Sequence[_Multipart]) -> int | None:
    """Which of the multiparts around, the innermost first, *line* delimits."""
    text = line.rstrip()
    return next((level for level in reversed(range(len(around))) if text in around[level].delimiters), None)


def _enter(first: First, around: list[_Multipart], number: int) -> _Leaf | None:
    """Begin a part: a multipart joins *around*, a text is returned, all else is passed over."""
    kind, given = parameters(decode_field(first.get("content-type", b"").strip()))
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
    disposition, _ = parameters(decode_field(first.get("content-disposition", b"").strip()))
    if kind not in ("text/plain", "text/html") or disposition == "attachment":
        return None
    outer = around[-1].group if around else None
    encoding = _TOKEN.search(decode_field(first.get("content-transfer-encoding", b"")).lower())
    return _Leaf(kind[5:], given, encoding.group() if encoding else "", number if outer is None else outer)


def _read(leaf: _Leaf, raw: bytes) -> str:
    if leaf.encoding == "base64":
        raw = decode_base64(raw)
    elif leaf.encoding == "quoted-printable":
        raw = binascii.a2b_qp(raw)
    text = _decode(raw, leaf.parameters.get("charset", ""), leaf.kind)
    if not text.isascii() or "\0" in text:
        text = _HALVES.sub("", text)
    if "\r" in text:
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
