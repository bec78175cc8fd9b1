"""Encoded words, parameters and clean text, whatever programs wrote."""

from __future__ import annotations

import time
import unicodedata
from email.header import Header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.mime_fields import (
    clean,
    decode_base64,
    decode_charset,
    decode_field,
    decode_words,
    is_unsafe,
    parameters,
)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"), ("=?utf-8?q?caf=C3=A9?=", "café"), ("=?UTF-8?B?Y2Fmw6k=?=", "café"),
        ("=?iso-8859-1?q?caf=E9_au_lait?= x", "café au lait x"),
        ("a =?utf-8?q?b?= =?utf-8?q?c?= d", "a bc d"), ("=?utf-8?q?b?=\n\t=?iso-8859-1?q?=E9?=", "bé"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        ("=?utf-8?b?w6?= =?utf-8?b?n?=", "\ufffd"), ("=?utf-8*fr?q?=C3=A9?=", "é"), ("=?x-none?q?abc?=", "abc"),
        ("=?x-none?q?=E9?=", "\ufffd"),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="), ("=?utf-8?q?a b?=", "=?utf-8?q?a b?="), ("=?utf-8?q??=", ""),
        ("=?utf-8?q?abc", "=?utf-8?q?abc"),
        ("=?utf-8?b?!!!?=", ""), ("=?utf-8?b?YQ?=", "a"), ('"=?utf-8?q?=C3=A9?="', '"é"'),
        ("=?windows-1252?q?=80?=", "€"), ("=?iso-8859-1?q?=80?=", "€"),
        ("=?gb2312?b?xOO6ww==?=", "你好"), ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?utf-8?q?a?=b=?utf-8?q?c?=", "abc"),
    ],
)  # fmt: skip
def test_encoded_words(raw: str, text: str) -> None:
    assert decode_words(raw) == text


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=120))
def test_what_another_library_wrote_is_read(text: str) -> None:
    if "=?" not in text and not text.isascii():
        assert decode_words(Header(text, "utf-8").encode()) == text


@given(st.text(max_size=200) | st.text("=?utf-8qbQB_ =C3A9", max_size=80))
def test_any_words(text: str) -> None:
    decode_words(text)


@pytest.mark.parametrize("piece", ["=?", "=?utf-8?q?", "=?utf-8?q?a?= ", "=?a*b?q?c", "=?utf-8?b?YQ==?="])
def test_words_in_linear_time(piece: str) -> None:
    start = time.process_time()
    decode_words(piece * (250_000 // len(piece)))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"caf\xc3\xa9", "utf-8", "café"), (b"caf\xc3", "utf-8", None), (b"\xc3\xa9\xc3", "utf-8", "é"),
        (b"\xc3caf", "utf-8", None), (b"caf\xe9", "iso-8859-1", "café"),
        (b"caf\xe9", "us-ascii", None), (b"x", "", None), (b"x", "no-such", None), (b"x", "idna", None),
        (b"x", "punycode", None), (b"x", "hex", None),
        (b"x", "rot13", None), (b"x", "raw-unicode-escape", None), (b"x", "a\0b", None), (b"x", "x" * 100, None),
        (b"x", '"UTF-8" ', "x"), (b"x", "../x", None),
        (b"x", "undefined", None), (b"\xa4\xe9\xa4", "big5", b"\xa4\xe9".decode("big5")), (b"a\0", "utf-16-le", "a"),
        (b"a\0b", "utf-16-le", None),
        (b"\xff\xfe\0\xd8", "utf-16", ""), (b"\x81", "cp1252", None), (b"x", "aliases", None), (b"x", "mbcs", None),
    ],
)  # fmt: skip
def test_charsets(data: bytes, charset: str, text: str | None) -> None:
    assert decode_charset(data, charset) == text


def test_raw_fields() -> None:
    assert decode_field("café".encode()) == "café"
    assert decode_field(b"caf\xe9 \x80") == "café €"
    assert decode_field(b"\x81\xe9") == "\x81é"


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"YWJj", b"abc"),
        (b"YW\r\nJj", b"abc"),
        (b"YWI=", b"ab"),
        (b"YWI", b"ab"),
        (b"YQ", b"a"),
        (b"Y", b""),
        (b"", b""),
        (b"YQ==Yg==YWJj", b"ababc"),
        (b"YW!Jj", b"abc"),
        (b"====", b""),
        (b"YWJjY", b"abc"),
    ],
)
def test_base64(raw: bytes, data: bytes) -> None:
    assert decode_base64(raw) == data


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb\tc", "a b c"), ("  a\u00a0 b ", "a b"), ("a\0b\x1bc", "a b c"), ("exe\u202efdp.", "exefdp."),
    ("a\u200bb", "ab"), ("\ud800a", "a"),
     ("👩\u200d🚀", "👩\u200d🚀"), ("abc" * 500, ("abc" * 500)[:1000]), ("", "")],
)  # fmt: skip
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(max_size=100))
def test_clean_is_one_printable_line(text: str) -> None:
    shown = clean(text)
    assert len(shown.splitlines()) <= 1
    assert clean(shown) == shown
    shown.encode()


@given(
    st.text(max_size=60) | st.text(" abc\t\n\0\x1c\x7f\u00a0\u2028\u3000\u200b\u200d\u00e9", max_size=20),
    st.integers(0, 30),
)
def test_clean_looks_at_each_character(text: str, longest: int) -> None:
    """What has nothing to replace is cleaned in a shorter way, with the same result."""
    kept = "".join(" " if c.isspace() or unicodedata.category(c) == "Cc" else c for c in text if not is_unsafe(c))
    assert clean(text, longest) == " ".join(kept.split())[:longest].rstrip()


@pytest.mark.parametrize(
    ("value", "word", "given_parameters"),
    [
        ("text/plain", "text/plain", {}), ("TEXT/Plain; Charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
        ("", "", {}), (";a=b", "", {"a": "b"}),
        ('a/b; c="d;\\"e"; f = g ;h', "a/b", {"c": 'd;"e', "f": "g"}), ("a/b; c=1; C=2", "a/b", {"c": "1"}),
        ("text/plain (hi)", "text/plain", {}),
        ('a/b; boundary*0="ab"; boundary*1=cd', "a/b", {"boundary*0": "ab", "boundary*1": "cd", "boundary": "abcd"}),
        ('a/b; c="open', "a/b", {"c": "open"}),
        ("a/b; c*=utf-8''x", "a/b", {"c": "utf-8''x"}), ('a/b; c="', "a/b", {"c": ""}),
        ('a/b; c*0*=x', "a/b", {"c*0": "x", "c": "x"}),
    ],
)  # fmt: skip
def test_parameters(value: str, word: str, given_parameters: dict[str, str]) -> None:
    assert parameters(value) == (word, given_parameters)


@given(st.text(max_size=100) | st.text('a;="\\/* ', max_size=60))
def test_any_parameters(value: str) -> None:
    parameters(value)
