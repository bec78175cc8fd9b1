"""Addresses and lists of mailboxes, as RFC 5321, 5322 and 6531 write them."""

from __future__ import annotations

import time
from email.headerregistry import Address
from email.utils import formataddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import mailbox
from gateway.core.errors import BadRecipient
from gateway.core.mailbox import Mailbox, check_address, comparison_form, mailboxes, quote, split, unquote


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("jane.doe@example.org", "jane.doe@example.org"), ("Jane.Doe@EXAMPLE.org", "Jane.Doe@example.org"),
        ("jane+lists@example.org", "jane+lists@example.org"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
        ('"jane doe"@example.org', '"jane doe"@example.org'), ('"jane.doe"@example.org', "jane.doe@example.org"),
        (r'"j\a\"n\\e"@example.org', r'"ja\"n\\e"@example.org'), ('"a@b"@example.org', '"a@b"@example.org'),
        ('"a..b"@example.org', '"a..b"@example.org'), ("jérôme@bücher.example", "jérôme@xn--bcher-kva.example"),
        ("用户@例え.テスト", "用户@xn--r8jz45g.xn--zckzah"), ("a" * 64 + "@example.org", "a" * 64 + "@example.org"),
    ],
)  # fmt: skip
def test_addresses(written: str, form: str) -> None:
    assert check_address(written) == form


@pytest.mark.parametrize(
    "written",
    [
        "", "@", "jane", "jane@", "@example.org", "jane@@example.org", "jane..doe@example.org", ".jane@example.org",
        "jane.@example.org", "jane doe@example.org", "jane(x)@example.org", "<jane@example.org>", "jane@[127.0.0.1]",
        '""@example.org', '"jane@example.org', 'ja"ne@example.org', '"jane"doe@example.org', "a" * 65 + "@example.org",
        "é" * 33 + "@example.org", "ja\nne@example.org", '"ja\r\nne"@example.org', "ja\0ne@example.org",
        "ja\u202ene@example.org",
        "ja\u200bne@example.org", "ja\u00a0ne@example.org", "ja\ud800ne@example.org", "jane@example", "a,b@example.org",
        "a:b@example.org", "\x7f@example.org", '"ja\tne"@example.org',
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(BadRecipient):
        check_address(written)


@pytest.mark.parametrize(
    "same",
    [
        ["jane.doe@example.org", "JANE.DOE@Example.ORG", '"jane.doe"@example.org', '"jan\\e.doe"@example.org'],
        ["jérôme@bücher.example", "JE\u0301RO\u0302ME@xn--bcher-kva.example",
        "je\u0301ro\u0302me@BU\u0308CHER.example"],
        ["straße@a.example", "STRAßE@a.example"],
    ],
)  # fmt: skip
def test_spellings_of_one_address(same: list[str]) -> None:
    assert len({comparison_form(address) for address in same}) == 1


def test_two_people_stay_two() -> None:
    different = ["jane@example.org", "jane+a@example.org", "jan.e@example.org", "jane@example.net",
                 "jane@straße.example", "jane@strasse.example", '"jane "@example.org']  # fmt: skip
    assert len({comparison_form(address) for address in different}) == len(different)


@given(st.text(min_size=1, max_size=30))
def test_quote_and_unquote(text: str) -> None:
    """Whatever an address says, its writing says it again."""
    try:
        assert unquote(quote(text)) == text
    except BadRecipient:
        assert any(not c.isprintable() for c in text)


@given(st.text(max_size=60))
def test_a_form_is_its_own_form(text: str) -> None:
    try:
        form = check_address(text)
    except BadRecipient:
        return
    assert check_address(form) == form
    assert comparison_form(comparison_form(form)) == comparison_form(form) == comparison_form(text)
    assert split(form)[1].isascii()
    assert "\n" not in form
    assert "\r" not in form


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []), (" , ;, ", []), ("a@b.c", [("", "a@b.c")]), ("<a@b.c>", [("", "a@b.c")]),
        ("Jane Doe <a@b.c>", [("Jane Doe", "a@b.c")]),
        ('"Doe, Jane" <a@b.c>, d@e.f', [("Doe, Jane", "a@b.c"), ("", "d@e.f")]),
        ("A <a@b.c>; B <b@b.c>", [("A", "a@b.c"), ("B", "b@b.c")]),
        (r'"a\"b\\c" <a@b.c>', [(r'a"b\c', "a@b.c")]), ("a@b.c (Jane (the) Doe)", [("Jane (the) Doe", "a@b.c")]),
        ("(x) <a@b.c> (y)", [("x y", "a@b.c")]), ("N (x) <a@b.c>", [("N", "a@b.c")]), ("undisclosed-recipients:;", []),
        ("Team: A <a@b.c>, b@b.c;, c@b.c", [("A", "a@b.c"), ("", "b@b.c"), ("", "c@b.c")]),
        ('"a b"@b.c', [("", '"a b"@b.c')]),
        ('N <"a>b"@b.c>', [("N", '"a>b"@b.c')]), ("N < a@b.c >", [("N", "a@b.c")]),
        ("Jane\n  Doe <a@b.c>", [("Jane Doe", "a@b.c")]),
        ("whom it may concern", [("", "whom it may concern")]), ("<>", [("", "")]), ("N <>", [("N", "")]),
        ("<a@b.c> junk", [("", "")]), ("<a@b.c> <d@e.f>", [("", "")]), ('"open <a@b.c>', [("", "")]),
        ("(open a@b.c", [("", "")]),
        ("<a@b.c, d@e.f", [("", "")]), ("a@b.c, \"open, x@y.z", [("", "a@b.c"), ("", "")]), ("a@b.c)", [("", "")]),
        (r"(a\)b) a@b.c", [(r"a\)b", "a@b.c")]),
        ("(only a comment)", [("only a comment", "")]),
        ("=?utf-8?q?J=C3=A9?= <a@b.c>", [("=?utf-8?q?J=C3=A9?=", "a@b.c")]),
    ],
)  # fmt: skip
def test_lists(text: str, found: list[tuple[str, str]]) -> None:
    assert mailboxes(text) == tuple(Mailbox(*one) for one in found)


@given(
    st.lists(
        st.tuples(
            st.text("abc .,;:<>()\"\\'@", max_size=12),
            st.sampled_from(["a@example.org", "b.c@example.net", '"x y"@z.example']),
        ),
        max_size=5,
    )
)
def test_what_another_library_wrote_is_read(people: list[tuple[str, str]]) -> None:
    """email.utils.formataddr quotes the name; the list reads back as it was meant."""
    text = ", ".join(formataddr(one) for one in people)
    assert [box.address for box in mailboxes(text)] == [address for _, address in people]
    assert [box.name for box in mailboxes(text)] == [" ".join(name.split()) for name, _ in people]


def test_a_group_of_the_standard_library() -> None:
    one = str(Address("Jane, Doe", addr_spec="jane@example.org"))
    assert mailboxes(f"Friends: {one};") == (Mailbox("Jane, Doe", "jane@example.org"),)


@given(st.text(max_size=100) | st.text('"\\<>(),;:@ a', max_size=60))
def test_no_list_raises(text: str) -> None:
    for box in mailboxes(text):
        assert isinstance(box, Mailbox)


@given(st.text(max_size=60) | st.text('"\\\\<>(),;:@ a\n', max_size=30) | st.text("<>,; a@", max_size=20))
def test_plain_lists_are_read_like_any(text: str) -> None:
    assert list(mailboxes(text)) == mailbox._any_mailboxes(text)


@given(st.text('aZ.@"\\\\é ', max_size=20).map(lambda text: f"{text}@Example.org") | st.text(max_size=20))
def test_an_address_that_is_known_reads_as_before(text: str) -> None:
    for read in (check_address, comparison_form):
        try:
            form = read.__wrapped__(text)
        except BadRecipient:
            for _ in range(2):
                with pytest.raises(BadRecipient):
                    read(text)
            continue
        assert (read(text), read(text)) == (form, form)


def test_long_texts_are_not_kept() -> None:
    for text in ("a" * 100_000 + "@example.org", '"' + "\\a" * 65 + '"@example.org', "a@" + "a." * 600 + "org"):
        before = check_address.cache_info().currsize
        with pytest.raises(BadRecipient):
            check_address(text)
        assert check_address.cache_info().currsize == before


@pytest.mark.parametrize("piece", ["(", "<", '"', "\\", "(a", '<a"', '"\\', "((a)", "a:", ",", "<a@b.c>,", "a (b) "])
def test_time_is_linear(piece: str) -> None:
    start = time.process_time()
    mailboxes(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 5
