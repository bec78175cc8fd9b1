"""Reading by slices finds what reading line by line finds: a slow reader, and random mails of which both must say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import mime
from gateway.core.address import Head
from gateway.core.mailbox import Mailbox, mailboxes
from gateway.core.mime_fields import clean, decode_field, decode_words
from gateway.core.options import MAX_TEXT

_Part = tuple["mime._Leaf", list[bytes]]


def _slow(head: bytes) -> Head:
    lines = head[: mime.HEAD].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    fields, body = _fields(lines, 0)
    first = _first(fields)
    message_id = mime._MESSAGE_ID.search(decode_field(first.get("message-id", b"")))
    return Head(
        message_id=message_id.group() if message_id else None,
        subject=clean(decode_words(decode_field(first.get("subject", b"").strip()))),
        from_=_people(fields, "from"),
        to=_people(fields, "to"),
        cc=_people(fields, "cc"),
        text=_text(_parts(first, lines, body)),
        counts=Counter(name for name, _ in fields),
        complete=body < len(lines) or len(head) < mime.HEAD,
    )


def _people(fields: mime.Fields, name: str) -> tuple[Mailbox, ...]:
    listed = ", ".join(decode_field(value) for field_name, value in fields if field_name == name)
    return tuple(Mailbox(clean(decode_words(found.name)), found.address) for found in mailboxes(listed))


def _fields(
    lines: Sequence[bytes], start: int, around: Sequence[mime._Multipart] = ()
) -> tuple[list[tuple[str, bytes]], int]:
    found: list[tuple[str, bytes]] = []
    end = len(lines)
    for position in range(start, len(lines)):
        line = lines[position]
        if not line or (line.startswith(b"--") and mime._delimited(line, around) is not None):
            end = position + (not line)
            break
        if line[:1] in (b" ", b"\t") and found:
            found[-1] = (found[-1][0], found[-1][1] + line)
        elif match := mime._FIELD.match(line):
            found.append((match[1].decode("ascii").lower(), match[2]))
    return found, end


def _first(fields: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    first: dict[str, bytes] = {}
    for name, value in fields:
        first.setdefault(name, value)
    return first


def _parts(first: mime.First, lines: Sequence[bytes], position: int) -> list[_Part]:
    """The text parts, in order, each with its lines."""
    around: list[mime._Multipart] = []
    leaf = mime._enter(first, around, 0)
    parts: list[_Part] = [(leaf, [])] if leaf is not None else []
    number, size = 1, 0
    while position < len(lines):
        line = lines[position]
        position += 1
        level = mime._delimited(line, around) if line.startswith(b"--") else None
        if level is None:
            if leaf is not None and size < mime._MAX_TEXT_BYTES:
                parts[-1][1].append(line)
                size += len(line) + 1
            continue
        closing = line.rstrip() != around[level].delimiters[0]
        del around[level + (0 if closing else 1) :]
        leaf, size = None, 0
        if not closing:
            if number == mime._MAX_PARTS:
                break
            fields, position = _fields(lines, position, around)
            leaf = mime._enter(_first(fields), around, number)
            number += 1
            if leaf is not None:
                parts.append((leaf, []))
    return parts


def _text(parts: Sequence[_Part]) -> str:
    for leaf, _ in parts:
        versions = [part for part in parts if part[0].group == leaf.group]
        for version, lines in sorted(versions, key=lambda part: part[0].kind != "plain"):
            text = mime._read(version, b"\n".join(lines))
            if text.strip():
                return text[:MAX_TEXT]
    return ""


_END = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"\n\r", b"\r\r\n", b""])
_LINE = st.sampled_from([
    b"", b"", b" ", b"\t", b" folded", b"--", b"--a", b"--a ", b"--a--", b"--a-- \t", b"--b", b"--b--", b"--c", b"--c--",
    b"--ab", b"-", b"---a", b" --a", b"From: A <me@example.org>", b"To: a@b.c, \"x\" <d@e.f>", b"to :a@b.c", b"Cc: <a@b>",
    b"Subject: =?utf-8?q?=C3=A9?= x", b"Subject: y", b"Message-ID: <1@x>", b"Content-Type: text/plain",
    b"Content-Type: text/plain; format=flowed", b"Content-Type: text/html", b"Content-Type: application/pdf",
    b"Content-Type: multipart/mixed; boundary=a", b"Content-Type: multipart/alternative; boundary=b",
    b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: multipart/alternative;", b" boundary=c",
    b"Content-Type: multipart/digest; boundary=\"c\"", b"Content-Transfer-Encoding: base64", b"YWJj", b"=C3=",
    b"Content-Transfer-Encoding: quoted-printable", b"Content-Disposition: attachment", b"no field", b": none", b"\xe9",
    b"<p>html", b"text ", b"To: a@b.c",
]) | st.binary(max_size=6)  # fmt: skip
_SOUP = st.lists(st.tuples(_LINE, _END), max_size=40).map(lambda rows: b"".join(line + end for line, end in rows))


@pytest.mark.parametrize("most_text", [mime._MAX_TEXT_BYTES, 12, 1])
@settings(max_examples=400, deadline=None)
@given(raw=_SOUP)
def test_slices_and_lines_say_the_same(most_text: int, raw: bytes) -> None:
    with mock.patch.object(mime, "_MAX_TEXT_BYTES", most_text), mock.patch.object(mime, "_MAX_PARTS", 4):
        assert mime.read_head(raw) == _slow(raw)


@settings(max_examples=200, deadline=None)
@given(raw=_SOUP, size=st.integers(1, 300))
def test_also_where_the_mail_is_cut_off(raw: bytes, size: int) -> None:
    with mock.patch.object(mime, "HEAD", size):
        assert mime.read_head(raw) == _slow(raw)
        assert mime.read_head(raw[:size]) == _slow(raw[:size])


@pytest.mark.parametrize("kind", ["alternative", "mixed"])
@settings(max_examples=300, deadline=None)
@given(body=_SOUP)
def test_inside_a_multipart(kind: str, body: bytes) -> None:
    raw = b"From: a@b.c\r\nContent-Type: multipart/" + kind.encode() + b"; boundary=a\r\n\r\n--a\r\n" + body
    assert mime.read_head(raw) == _slow(raw)


@pytest.mark.parametrize("line", [b"x" * 76, b"", b"x" * 300_000, "é".encode() * 40])
def test_long_bodies(line: bytes) -> None:
    for head in (b"Subject: x\r\n\r\n", b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n"):
        raw = head + (line + b"\r\n") * (300_000 // (len(line) + 2) + 1)
        assert mime.read_head(raw) == _slow(raw)
