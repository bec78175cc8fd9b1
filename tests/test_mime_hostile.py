"""Mails that are no mails: hostile ones, random ones, and those that others collected because programs failed on them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.address import Head
from gateway.core.errors import BadContent, NotYours, PliError
from gateway.mime import HEAD, check_headers, read_head
from tests.needs import need_shared

ME = {"me@example.org"}
B = b"Content-Type: multipart/mixed; boundary="
HOSTILE = {
    "1200 nested multiparts": b"".join(b"%sb%d\r\n\r\n--b%d\r\n" % (B, i, i) for i in range(1200)) + b"\r\nhello",
    "5000 parts": B + b"x\r\n\r\n" + b"--x\r\n\r\n\r\n" * 5000,
    "dashes": B + b"x\r\n\r\n" + b"--\r\n" * 60_000,
    "one boundary for all": B + b"x\r\n\r\n" + (b"--x\r\n" + B + b"x\r\n\r\n") * 5000,
    "long boundary": B + b"x" * 15_000 + b"\r\n\r\n" + (b"--" + b"x" * 15_000 + b"\r\n") * 15,
    "comments": b"From: " + b"(a" * 100_000, "angles": b"From: " + b"<\"" * 100_000,
    "quotes": b"To: " + b'"\\' * 100_000, "groups": b"To: " + b"a:" * 100_000,
    "words": b"Subject: " + b"=?utf-8?q?a?= " * 20_000, "open words": b"Subject: " + b"=?utf-8?q?" * 25_000,
    "people": b"To: " + b'"a" <a@b>, ' * 20_000,
    "parameters": b"Content-Type: text/plain" + b';a="' * 60_000, "folds": b"X: a\r\n" + b" \r\n" * 80_000,
    "garbage": b"garbage\r\n" * 28_000,
    "all octets": bytes(range(256)) * 1024, "high octets": b"Content-Type: text/plain\r\n\r\n" + bytes(range(128,
    256)) * 2000, "zeros": bytes(HEAD),
    "flowed": b"Content-Type: text/plain; format=flowed\r\n\r\n" + b"a \r\n" * 60_000,
    "html": b"Content-Type: text/html\r\n\r\n" + b"<a " * 80_000,
    "punycode": b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a" * 200_000,
    "base64": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"a=" * 100_000,
    "html parts": B + b"x\r\n\r\n" + b"--x\r\nContent-Type: text/html\r\n\r\n<a <a <a\r\n" * 200,
    "header words": b"From: " + b"=?a?b?=" * 30_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mails_take_no_time(name: str) -> None:
    start = time.process_time()
    read_head(HOSTILE[name][:HEAD])
    assert time.process_time() - start < 5


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes(raw: bytes) -> None:
    _sound(read_head(raw))


_NAMES = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Message-ID",
    "Bcc",
    "Date",
]
_VALUES = [b"text/plain", b"text/html; charset=", b"multipart/mixed; boundary=b",
    b"multipart/alternative; boundary=\"b", b"base64", b"quoted-printable", b"attachment",
           b"me@example.org", b"=?utf-8?q?=C3?=", b"text/plain; charset=utf-16",
           b"text/plain; charset=utf-7; format=flowed", b"a <b@c.de>, (", b"multipart/digest; boundary=c"]  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES) | st.binary(max_size=30)), max_size=6),
    st.lists(st.sampled_from([b"", b"--b", b"--b--", b"--c", b"Content-Type: text/html", b"To: a@b.c", b"<p>", b"=C3=",
        b"4pz="]) | st.binary(max_size=30), max_size=12),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_anything_that_looks_like_a_mail(headers: list[tuple[str, bytes]], body: list[bytes]) -> None:
    head = read_head(b"\r\n".join([*(name.encode() + b": " + value for name, value in headers), b"", *body]))
    _sound(head)
    try:
        check_headers(head, ME)
    except PliError as refused:
        assert isinstance(refused, (BadContent, NotYours))
        return
    assert len(head.from_) == 1
    assert not head.counts["bcc"]


def _sound(head: Head) -> None:
    """Whatever the mail was, what is read can be stored and shown."""
    for text in (head.subject, head.text, *(box.name for box in (*head.from_, *head.to, *head.cc))):
        text.encode()
        assert "\0" not in text
    assert "\n" not in head.subject


class TestCorpora:
    """Mails that others collected because programs failed on them."""

    def _files(self, folder: str, suffix: str) -> list[Path]:
        files = sorted(need_shared(f"corpora/{folder}").glob(f"*{suffix}"))
        assert len(files) > 50
        return files

    @pytest.mark.parametrize(("folder", "suffix"), [("mime4j", ".msg"), ("enmime", ".raw")])
    def test_never_a_crash_and_always_soon(self, folder: str, suffix: str) -> None:
        for file in self._files(folder, suffix):
            raw = file.read_bytes()
            for form in (raw, raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), raw[: len(raw) // 2]):
                start = time.process_time()
                _sound(read_head(form))
                assert time.process_time() - start < 5, file.name

    @pytest.mark.parametrize(
        ("name", "beginning"),
        [
            ("low-quality-html-only-inline", "Test of HTML section"),
            ("low-quality-incorrect-charset", "Using Unicode/UTF-8"), ("mail-mime-mixed-related", "html1"),
            ("parts-chardet-success-iso-8859-1", "DIE Drachenköpfe"), ("mail-attachment-only-text-attachment", ""),
            ("mail-mime-signed", "Section one"), ("parts-similar-boundary", "Section one"),
            ("mail-multipart-wo-boundary", "I'm  multipart message without boundary"),
            ("low-quality-bad-final-boundary", "A text section"),
            ("parts-missing-closing-param-quote", ""), ("mail-qp-utf8-header", "Lorem ipsum"),
            ("encode-parser-raw-content-text-option", "添付ファイル名テスト"),
        ],
    )  # fmt: skip
    def test_texts(self, name: str, beginning: str) -> None:
        head = read_head((need_shared("corpora/enmime") / f"{name}.raw").read_bytes())
        assert head.text.strip().startswith(beginning)
        assert beginning or not head.text.strip()
