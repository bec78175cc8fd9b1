"""Mails say the same in text and HTML, in both languages, hide the sender where they must, and are bytes that survive the way."""

from __future__ import annotations

import quopri
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import parseaddr
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.letter import Event
from gateway.dispatch import compose, compose_mime
from gateway.dispatch.compose import Party
from gateway.dispatch.compose_texts import texts
from tests.dispatch import samples
from tests.dispatch.samples import HOUSE, LANGUAGES, body, parsed

TEXTS = Path(compose.__file__).with_name("texts")
FORBIDDEN = re.compile(r"lettre\s+recommand|\bLRE\b|recommandée?s?\s+électronique|recommandé", re.IGNORECASE)
PRESSURE = re.compile(
    r"\burgent|immediately|immédiat|as soon as possible|act now|without delay|sans délai|last chance|click here|cliquez",
    re.IGNORECASE,
)
MAILS = [(f"{language}-{name}", raw) for language in LANGUAGES for name, raw in samples.all_mails(language).items()]
each_mail = pytest.mark.parametrize("raw", [raw for _, raw in MAILS], ids=[name for name, _ in MAILS])


_TAGS = {"html", "head", "meta", "title", "body", "div", "h2", "p", "ul", "li", "a", "hr", "strong", "span"}
_USUAL = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Pli-Notice", "MIME-Version", "Content-Language",
    "Content-Type",
}  # fmt: skip


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._title = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self._title = False

    def handle_data(self, data: str) -> None:
        if not self._title:
            self.words += data.split()


def html_of(raw: bytes) -> _Words:
    parser = _Words()
    parser.feed(body(raw, "html"))
    return parser


# -- the texts ------------------------------------------------------------------------------------------------------------


def keys(value: Any, path: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Every key, with the words in braces of its text."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from keys(item, f"{path}.{name}")
    else:
        yield path, frozenset(re.findall(r"{(\w+)}", str(value)))


def test_all_languages_have_the_same_keys_with_the_same_values_to_fill_in() -> None:
    files = {path.stem: dict(keys(tomllib.loads(path.read_text("utf-8")))) for path in TEXTS.glob("*.toml")}
    assert set(files) == set(LANGUAGES)
    assert files["fr"] == files["en"]


@pytest.mark.parametrize(
    "path", [*TEXTS.glob("*.toml"), *Path(compose.__file__).parent.glob("*.py")], ids=lambda path: path.name
)
def test_no_text_uses_reserved_words_or_presses_anybody(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not FORBIDDEN.search(text)
    assert not PRESSURE.search(text)


def test_the_guards_above_can_fail() -> None:
    assert FORBIDDEN.search("une Lettre  recommandée électronique")
    assert PRESSURE.search("Please act now")


def test_every_status_event_has_its_texts_and_every_text_its_event() -> None:
    named = {event.value for event in Event if compose.event_name(event)}
    for language in LANGUAGES:
        sections = {name for name, item in texts(language).get("status").items() if "headline" in item}
        assert sections == named
    assert set(samples.FACTS) == {Event(name) for name in named}
    words = "held deposited notified bounced accepted handed-over refused unclaimed undeliverable withdrawn discarded"
    assert {compose.event_name(event) for event in Event} - {None} == set(words.split())


def test_dates_and_numbers() -> None:
    assert texts("fr").long_date(date(2026, 5, 1)) == "vendredi 1er mai 2026"
    assert texts("en").long_date(date(2026, 5, 1)) == "Friday 1 May 2026"
    assert texts("en").moment(samples.AT, "Europe/Paris") == "25 November 2026, 09:14:03 (Paris time)"
    assert texts("fr").moment(samples.AT, "UTC") == "25 novembre 2026 à 08:14:03 (UTC)"
    assert texts("fr").size(1234567) == "1\u00a0234\u00a0567 octets"
    assert texts("de").language == texts("../x").language == "en"


# -- bytes ----------------------------------------------------------------------------------------------------------------


@each_mail
def test_mails_are_well_formed(raw: bytes) -> None:
    assert raw.isascii()
    assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
    assert raw.endswith(b"\r\n")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 200
    message = parsed(raw)
    for part in message.walk():
        assert not part.defects, part.defects
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Auto-Submitted"):
        assert len(message.get_all(name, [])) == 1, name
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == samples.AT
    assert "{" not in message["Subject"]


@each_mail
def test_html_says_what_the_text_says_and_fetches_nothing(raw: bytes) -> None:
    page = html_of(raw)
    plain = [re.sub(r"\s+", "", word) for word in body(raw).split() if not re.fullmatch(r"-+", word)]
    squeezed = {re.sub(r"[:\s]", "", "".join(words)) for words in (plain, page.words)}
    assert len(squeezed) == 1 or "Code:" in body(raw)
    assert {tag for tag, _ in page.tags} <= _TAGS
    source = body(raw, "html")
    assert not re.search(r"src=|url\(|@import|<link|<img|<script|<form|javascript:", source, re.IGNORECASE)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(link in body(raw) for link in links if link)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=300).map(str.strip))
def test_quoted_printable_is_what_others_read(text: str) -> None:
    coded = compose_mime._quoted_printable(text)
    assert quopri.decodestring(coded.encode("ascii")).decode("utf-8") == text
    assert all(len(line) <= 76 and not line.endswith(" ") for line in coded.split("\r\n"))


def test_what_is_to_be_typed_or_opened_stands_whole_in_the_source() -> None:
    for language in LANGUAGES:
        raw = compose.notice(HOUSE, samples.notice(language))
        assert raw.count(samples.TOKEN.encode()) == 3  # text, link and its words
        assert raw.count(b"ABCDE-FGHJK") == 9, language
        assert raw.count(b"ABCD-EFGH-2345") == 2


def test_the_same_input_gives_the_same_bytes_and_another_message_id_another_boundary() -> None:
    assert dict(MAILS) == {f"{lang}-{name}": raw for lang in LANGUAGES for name, raw in samples.all_mails(lang).items()}
    first, second = (compose.notice(HOUSE, samples.notice(message_id=f"<{n}@avis.test>")) for n in "ab")
    boundaries = [parsed(raw).get_boundary() for raw in (first, second)]
    assert boundaries[0] != boundaries[1]


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=200), st.text(max_size=500), st.text(max_size=100))
def test_no_name_and_no_subject_breaks_a_mail(name: str, subject: str, message_id: str) -> None:
    mail = samples.status(
        Event.DEPOSIT, subject=subject, in_reply_to=message_id, recipient=Party(name, "a@example.net")
    )
    raw = compose.status(HOUSE, replace(mail, to=Party(name, "john@example.com")))
    head = raw.split(b"\r\n\r\n", 1)[0]
    assert raw.isascii()
    assert all(re.match(rb"[A-Za-z-]+: |[ \t]\S", line) for line in head.split(b"\r\n")), head
    assert all(len(line) < 998 for line in head.split(b"\r\n"))
    message = parsed(raw)
    assert [address.addr_spec for address in message["To"].addresses] == ["john@example.com"]
    assert message["Pli-Event"] == "deposited"
    assert b"\x00" not in raw
    compose.notice(HOUSE, samples.notice(to=Party(name, "a@example.net")))


@pytest.mark.parametrize(
    "name", ["Doe, Jane", 'Jane "J" Doe', "Jörg Müßig", "李 明", "a\\b", "=?utf-8?q?x?=", "é" * 100], ids=range(7)
)
def test_names_arrive_as_they_were(name: str) -> None:
    raw = compose.status(HOUSE, samples.status(Event.HOLD, to=Party(name, "a@example.net")))
    # the older reader: the newer one puts a blank between two encoded words of a name
    shown, address = parseaddr(str(message_from_bytes(raw, policy=policy.compat32)["To"]))
    assert str(make_header(decode_header(shown))) == name
    assert address == "a@example.net"


def test_an_international_address_stands_in_the_header_as_it_is() -> None:
    raw = compose.code(HOUSE, replace(samples.code(), to=Party("Jös", "jös@example.net")))
    assert "\r\nTo: jös@example.net\r\n".encode() in raw


# -- mails to the recipient -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["notice", "reminder"])
def test_a_notice_has_everything_in_its_text(language: str, kind: str) -> None:
    mail = samples.reminder(language) if kind == "reminder" else samples.notice(language)
    raw = compose.notice(HOUSE, mail)
    text = body(raw)
    for needed in (
        mail.link, "pli.test\n", "ABCDE-FGHJK", "ABCD-EFGH-2345", "Pli Demo", "1 Example Street", "+33 1 99 00 00 00",
        "help@pli.test", "https://pli.test/about", "pli@avis.test", "DKIM",
    ):  # fmt: skip
        assert needed in text, needed
    assert re.search(r"^https://\S+/l/[a-z2-7]{32}$", text, re.MULTILINE)
    assert ("jeudi 10 décembre 2026" if language == "fr" else "Thursday 10 December 2026") in text
    assert text.rstrip().endswith("ABCDE-FGHJK")
    message = parsed(raw)
    assert "ABCDE-FGHJK" in message["Subject"]
    assert message["From"].addresses[0].addr_spec == "pli@avis.test"
    assert not list(message.iter_attachments())
    assert mail.link not in message.as_string().split("\n\n", 1)[0]


def test_headers_to_a_recipient_are_few() -> None:
    for language in LANGUAGES:
        made = {name: parsed(raw) for name, raw in samples.all_mails(language).items() if not name.startswith("status")}
        for name, message in made.items():
            more = {"References"} if name == "reminder" or name.startswith("receipt") else set()
            more |= {"Pli-Event"} if name.startswith("code") else set()
            more |= {"Content-Transfer-Encoding"} if name == "original" else set()
            assert set(message.keys()) == _USUAL | more, name
            assert message["Pli-Notice"] == "ABCDE-FGHJK"
        assert made["reminder"]["References"] == made["notice"]["Message-ID"]


def test_the_code_has_its_line_in_every_language() -> None:
    for language in LANGUAGES:
        for choice in ("accept", "refuse", "read"):
            raw = compose.code(HOUSE, samples.code(language, choice))
            assert re.findall(r"^Code: ([0-9]{6})\r?$", body(raw), re.MULTILINE) == ["042137"]
            assert parsed(raw)["Pli-Event"] == "code"
            assert "042137" not in parsed(raw)["Subject"]
            assert "10:14:03" in body(raw)


def test_only_an_anonymous_profile_speaks_of_an_unknown_sender() -> None:
    for language, words in (("en", "unknown"), ("fr", "inconnu")):
        assert words in body(compose.notice(HOUSE, samples.notice(language)))
        assert words not in body(compose.notice(replace(HOUSE, anonymous=False), samples.notice(language)))


@pytest.mark.parametrize(
    "name",
    [
        "Call 0900 123456",
        "see www.evil.test",
        "http://evil.test",
        "a@b.example",
        "x" * 61,
        "",
        "Jane <b>",
        "win at evil.example",
        "you owe us a lot of money and must pay",
        "Jane (Acme & Sons)",
        "=?utf-8?q?x?=",
    ],
)
def test_what_is_no_name_is_no_greeting(name: str) -> None:
    text = body(compose.notice(HOUSE, samples.notice(to=Party(name, "a@example.net"))))
    assert text.startswith("Hello,\n")


@pytest.mark.parametrize(
    "name", ["Jane Roe", "J. R. Müller-Lüdenscheidt", "Niamh O'Connor", "李 明", "राम शर्मा", "de Souza, Ana"]
)
def test_names_are_greeted(name: str) -> None:
    assert body(compose.notice(HOUSE, samples.notice(to=Party(name, "a@example.net")))).startswith(f"Hello {name},\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_header_to_a_recipient_holds_what_the_sender_wrote(language: str) -> None:
    """The name is the sender's choice, and could say who he is or what it is about."""
    to = Party("Pay Acme Corp 500 euros", "a@example.net")
    mails = [
        compose.notice(HOUSE, replace(samples.notice(language), to=to)),
        compose.notice(HOUSE, replace(samples.reminder(language), to=to)),
        compose.code(HOUSE, replace(samples.code(language), to=to)),
        compose.receipt(HOUSE, replace(samples.receipt(language, "refuse"), to=to)),
        compose.original(HOUSE, replace(samples.original(language), to=to)),
    ]
    for raw in mails:
        assert parsed(raw)["To"] == "a@example.net"
        assert b"Acme" not in raw


def test_the_foot_says_what_kind_of_service_this_is() -> None:
    for language, words in (("en", "Regulation (EU) No"), ("fr", "Règlement (UE) n°")):
        for name, raw in samples.all_mails(language).items():
            assert words in " ".join(body(raw).split()), name
    house = replace(HOUSE, law={})
    assert "Electronic letter with proof (non-qualified)" in body(compose.notice(house, samples.notice()))


def test_an_operator_without_telephone_and_site_leaves_no_gap() -> None:
    house = replace(HOUSE, operator_phone="", operator_site="", operator_address="", operator_email="")
    for language in LANGUAGES:
        text = body(compose.notice(house, samples.notice(language)))
        assert "https://pli.test." in text
        assert not re.search(r"Telephone|Téléphone|: \n|\(\)", text)
    assert parsed(compose.status(house, samples.status(Event.HOLD)))["Reply-To"] is None


def test_a_receipt_carries_its_pdf() -> None:
    message = parsed(compose.receipt(HOUSE, samples.receipt("fr", "refuse")))
    [part] = message.iter_attachments()
    assert (part.get_filename(), part.get_content_type()) == ("receipt.pdf", "application/pdf")
    assert part.get_content() == b"%PDF-1.7 sample"


@pytest.mark.parametrize(
    "inner",
    [
        b"Subject: x\r\n\r\nhello\r\n",
        "Subject: été\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.dot\r\n--=_x\r\nété\r\n".encode(),
        b"Subject: x\r\nX: \xff\xfe\r\n\r\n\xe9\r\n\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nunclosed\r\n" + b"x" * 5000 + b"\r\n",
    ],
)
def test_an_original_is_attached_byte_for_byte(inner: bytes) -> None:
    raw = compose.original(HOUSE, samples.original(raw=inner))
    marker = b"Content-Type: message/rfc822\r\n"
    _, found = raw.split(marker)[1].split(b"\r\n\r\n", 1)
    boundary = parsed(raw).get_boundary()
    assert boundary
    assert found == inner + f"\r\n--{boundary}--\r\n".encode()
    encoding = "7bit" if inner.isascii() else "8bit"
    assert parsed(raw)["Content-Transfer-Encoding"] == encoding
    part = next(part for part in parsed(raw).walk() if part.get_content_type() == "message/rfc822")
    assert part["Content-Transfer-Encoding"] == encoding


def test_notices_depend_on_ids_and_dates_alone() -> None:
    """There is no way for a sender into a notice: its input has no field that could hold one."""
    fields = set(compose.NoticeMail.__dataclass_fields__)
    assert fields == {
        "to", "message_id", "at", "language", "reference", "link", "access_code", "portal_url", "last_day", "number",
        "first_message_id", "days_left",
    }  # fmt: skip
    one = compose.notice(HOUSE, samples.notice())
    later = samples.notice(
        message_id="<fedcba9876543210@avis.test>", at=samples.AT + timedelta(0), reference="ZZZZZZZZZZ",
        link=f"https://pli.test/l/{'z' * 32}", access_code="Z" * 12,
    )  # fmt: skip
    two = compose.notice(HOUSE, later)

    def neutral(raw: bytes) -> bytes:
        raw = raw.replace(b"0123456789abcdef", b"ID").replace(b"fedcba9876543210", b"ID")
        raw = re.sub(rb"ABCDE-FGHJK|ZZZZZ-ZZZZZ", b"REF", raw)
        raw = re.sub(rb"ABCD-EFGH-2345|ZZZZ-ZZZZ-ZZZZ", b"CODE", raw)
        return re.sub(rb"=_[0-9a-f]{32}|/l/(?:[a-z2-7]|=\r\n)+", b"X", raw)

    assert one != two
    assert neutral(one) == neutral(two)
