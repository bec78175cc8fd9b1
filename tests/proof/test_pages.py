"""What a proof's page says: everything the law asks for, nothing more than is proven, whatever names and replies hold."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import NotFound
from gateway.core.evidence import canonical, digest, parse_record
from gateway.core.letter import Event
from gateway.proof import foreign
from gateway.proof.page import PROVEN
from gateway.proof.words import words
from tests.needs import need
from tests.proof.conftest import House
from tests.proof.samples import ATTEMPT, PATHS, REFUSED, chain, last_at

RESERVED = re.compile(r"lettre recommandée|recommandé électronique|\bLRE\b", re.IGNORECASE)
LANGUAGES = ("fr", "en")


def text_of(pdf: bytes, tmp_path: Path, *options: str) -> str:
    pdftotext = need("pdftotext", "apt-get install poppler-utils")
    path = tmp_path / "page.pdf"
    path.write_bytes(pdf)
    done = subprocess.run([pdftotext, *options, str(path), "-"], capture_output=True, check=True)
    return done.stdout.decode()


def plain(text: str) -> str:
    return " ".join(text.split())


def make(house: House, end: Event, language: str) -> tuple[bytes, bytes]:
    """Record and PDF."""
    records = chain(end)
    parts = house.press.make(records[-1], language, last_at(records))
    assert parts["evidence.json"] == records[-1]
    return records[-1], parts["proof.pdf"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("end", list(PATHS))
def test_a_proof_says_all_that_it_must(house: House, end: Event, language: str, tmp_path: Path) -> None:
    raw, pdf = make(house, end, language)
    text, record = plain(text_of(pdf, tmp_path, "-layout")), parse_record(raw)
    title = words(language)["title"][end.value]
    for wanted in (
        title,
        {"fr": "NON QUALIFIÉ", "en": "NON-QUALIFIED"}[language],  # eIDAS 43(1): never more than it is
        record["sender"]["name"],  # CPCE R.53-2 1°
        record["sender"]["address"],
        record["recipient"]["name"],  # 2°
        record["recipient"]["address"],
        "ABCD-EFGH-JKMN-PQRS",  # 3°
        {"fr": "1er mars 2026 à 10:00:12", "en": "1 March 2026 at 10:00:12"}[language],  # 4°
        house.keys.seal.name,  # 5°
        house.keys.seal.fingerprint,
        house.keys.seal.root_fingerprint,
        record["content"]["sha256"],
        record["content"]["message_id"],
        digest(raw),
        *record["chain"],
        record["event_uri"],
        {"fr": "art. 43, § 1", "en": "art. 43(1)"}[language],
        "pli verify proof.pdf --trust ca.pem --letter letter.eml",
    ):
        assert wanted in text, wanted
    assert not RESERVED.search(text)
    assert "\u200b" not in text  # what is copied from the page is what it shows


@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (
            Event.HAND_OVER,
            ["3 March 2026 at 10:04:13", "16 March 2026", "one-time code", "the letter's page", "read or"],
        ),
        (Event.REFUSE, ["3 March 2026 at 10:03:12", "16 March 2026", "one-time code", "3 March 2026 at 10:00:12"]),
        (Event.LAPSE, ["17 March 2026 at 01:00:12", "1 March 2026", "16 March 2026", "17 March 2026 at 00:00:00"]),
        (
            Event.NOTICE_FAILED,
            [REFUSED["reason"], "mx1.example.net (192.0.2.25:25)", "TLSv1.3", "mx0.example.net", "EHLO: 250 mx1"],
        ),
        (Event.BOUNCE_CLOSES, ["smtp; 552 5.2.2 mailbox full", "5.2.2", "not authenticated"]),
        (Event.LAPSE_UNREACHED, ["16 March 2026", "reported as undeliverable", "not authenticated"]),
        (Event.DEPOSIT, ["the recipient's address inside the address", "bytes are kept as they were received"]),
    ],
)
def test_each_kind_tells_its_own_facts(house: House, end: Event, wanted: list[str], tmp_path: Path) -> None:
    text = plain(text_of(make(house, end, "en")[1], tmp_path, "-layout"))
    assert [item for item in wanted if item not in text] == []


@pytest.mark.parametrize(
    ("end", "attempt", "wanted", "never"),
    [
        (Event.LAPSE, {"via": "mx"}, "The recipient's mail server took the notice", "relay"),
        (Event.LAPSE, {"via": "relay"}, "Issuer's own relay mx1.example.net", "recipient's mail server took"),
        (Event.LAPSE, {"via": "relay"}, "The issuer's outgoing relay took the notice", "The recipient was notified"),
        (Event.NOTICE_FAILED, {"via": "mx"}, "server of the recipient's domain refused the notice", "relay"),
        (Event.NOTICE_FAILED, {"via": "relay"}, "outgoing relay refused the notice", "the recipient's domain refused"),
        (Event.NOTICE_FAILED, {"host": None}, "No mail server was found", "refused the notice"),
        (Event.NOTICE_FAILED, {"verdict": "temporary"}, "No mail server confirmed that it took", "refused the notice"),
        (Event.NOTICE_FAILED, {"verdict": "unknown"}, "it may have been taken without an answer", "refused the notice"),
        (Event.NOTICE_FAILED, {"verdict": "unknown", "via": "relay"}, "was taken is not known", "did not take"),
    ],
)
def test_a_page_claims_no_more_than_was_heard(
    house: House, end: Event, attempt: dict[str, str], wanted: str, never: str, tmp_path: Path
) -> None:
    raw = chain(end)[-1]
    record = parse_record(raw)
    record["facts"]["attempt"] = {**(ATTEMPT if end is Event.LAPSE else REFUSED), **attempt}
    pdf = house.press.make(canonical(record), "en", last_at([raw]))["proof.pdf"]
    text = plain(text_of(pdf, tmp_path, "-layout"))
    assert wanted in text
    assert never not in text
    french = plain(text_of(house.press.make(canonical(record), "fr", last_at([raw]))["proof.pdf"], tmp_path))
    assert ("relais" in french.lower()) == (attempt.get("via") == "relay")


def test_other_events_get_the_record_alone(house: House) -> None:
    for raw in [*chain(Event.HAND_OVER), *chain(Event.LAPSE)]:
        parts = house.press.make(raw, "en", last_at([raw]))
        proven = parse_record(raw)["event"] in PROVEN
        assert set(parts) == ({"evidence.json", "proof.pdf"} if proven else {"evidence.json"})


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_anonymous_receipt_knows_no_sender(house: House, language: str, tmp_path: Path) -> None:
    raw = chain(Event.REFUSE)[-1]
    pdf = house.press.receipt(raw, language, last_at([raw]), anonymous=True)
    qpdf = need("qpdf", "apt-get install qpdf")
    (tmp_path / "receipt.pdf").write_bytes(pdf)
    command = [
        qpdf,
        "--qdf",
        "--object-streams=disable",
        "--stream-data=uncompress",
        str(tmp_path / "receipt.pdf"),
        "-",
    ]
    inside = subprocess.run(command, capture_output=True, check=True).stdout
    text, record = text_of(pdf, tmp_path), parse_record(raw)
    assert record["recipient"]["address"] in text
    assert "ABCD-EFGH-JKMN-PQRS" in text
    hidden = [
        record["recipient"]["name"],  # as the sender called him
        *record["sender"].values(),
        record["content"]["sha256"],
        record["content"]["message_id"].strip("<>"),
        record["deposited_at"][:19],
        record["letter"],
        digest(raw),
        *record["chain"],
    ]
    assert [secret for secret in hidden if secret in text or secret.encode() in inside] == []


def test_a_receipt_of_what_was_received_names_the_sender(house: House, tmp_path: Path) -> None:
    raw = chain(Event.HAND_OVER)[-1]
    text = text_of(house.press.receipt(raw, "en", last_at([raw])), tmp_path)
    assert "Jane Doe" in text
    assert parse_record(raw)["content"]["sha256"] in text


def test_there_is_no_receipt_of_what_the_recipient_did_not_do(house: House) -> None:
    for end in (Event.DEPOSIT, Event.LAPSE):
        raw = chain(end)[-1]
        with pytest.raises(NotFound):
            house.press.receipt(raw, "en", last_at([raw]))


@pytest.mark.parametrize("end", list(PATHS))
def test_qpdf_and_pdfdetach_agree(house: House, end: Event, tmp_path: Path) -> None:
    qpdf = need("qpdf", "apt-get install qpdf")
    pdfdetach = need("pdfdetach", "apt-get install poppler-utils")
    raw, pdf = make(house, end, "fr")
    path, out = tmp_path / "proof.pdf", tmp_path / "evidence.json"
    path.write_bytes(pdf)
    done = subprocess.run([qpdf, "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run([pdfdetach, "-save", "1", "-o", str(out), str(path)], check=True, capture_output=True)
    assert out.read_bytes() == raw
    marks = subprocess.run([qpdf, "--qdf", "--object-streams=disable", str(path), "-"], capture_output=True, check=True)
    assert b"/AFRelationship /Data" in marks.stdout
    assert b"<pdfaid:part>3</pdfaid:part>" in marks.stdout.replace(b"\n", b"")
    assert b"/Lang (fr)" in marks.stdout


def test_the_words_of_both_languages_are_the_same_in_kind() -> None:
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return len(value) if isinstance(value, list) else sorted(re.findall(r"\{\w+\}", str(value)))

    assert shape(words("fr").table) == shape(words("en").table)
    assert not RESERVED.search(str(words("fr").table))
    assert words("de").language == "en"


NASTY = st.one_of(
    st.text(max_size=80),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=30).map(lambda text: text * 20),
    st.sampled_from(
        [
            "\u202eevil\u2066 محمد عبد الله שלום",
            "👩‍👩‍👧‍👦 名前 ไทย \ufffd\ue000\U000f0000",
            "Z" + "\u0301\u0302\u0303" * 60,
            '#eval("1") *b* $x$ @ref <lab> `r` \\ // /* [x]\n\n= Heading',
            "W" * 500,
            "a\x00\x1b[31m\r\n\u2028b",
            "",
        ]
    ),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NASTY, address=NASTY, reply=NASTY)
def test_no_foreign_text_breaks_a_page(house: House, tmp_path: Path, name: str, address: str, reply: str) -> None:
    """A PDF is made, its layout stands, and nothing runs over the margin."""
    raw = chain(
        Event.NOTICE_FAILED,
        sender={"name": name, "address": address, "authentication": reply},
        recipient={"name": name or None, "address": address},
    )[-1]
    pdf = house.press.make(raw, "en", last_at([raw]))["proof.pdf"]
    text = text_of(pdf, tmp_path, "-bbox")
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    widest = max(float(x) for x in re.findall(r'xMax="([0-9.]+)"', text))
    assert widest <= 595.28 - 55, "text runs into the margin"
    assert "Consignment" in text and "evidence.json" in text


@given(st.text())
def test_shown_text_is_bounded_and_on_one_line(text: str) -> None:
    shown = foreign.clean(text, 100)
    assert len(shown) <= 100 + 12 + 1
    assert shown.isprintable() or set(shown) - set("\u00a0\u202f") == {c for c in shown if c.isprintable()}
    assert foreign.clean("plain é ü", 100) == "plain é ü"


def test_pieces_are_the_text() -> None:
    for value in ("a" * 500, "x" * 64, "Jean-Luc de la Fontaine", "W" * 100 + " " + "z" * 100):
        assert "".join(foreign.pieces(value)) == value
    assert foreign.pieces("0" * 64, mono=True) == ["0" * 64]  # a digest stays whole


def test_times_are_those_of_the_letter_s_zone(house: House, tmp_path: Path) -> None:
    """Without a profile that is known, nothing but UTC is claimed."""
    from gateway.proof.bundle import Press

    raw = chain(Event.DEPOSIT)[-1]
    pdf = Press(house.keys.seal).make(raw, "en", last_at([raw]) + timedelta(seconds=1))["proof.pdf"]
    text = text_of(pdf, tmp_path)
    assert "1 March 2026 at 09:00:12" in text
    assert "Europe/Paris" not in text
