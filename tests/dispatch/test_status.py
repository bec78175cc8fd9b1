"""Status mails: threaded to the sender's own mail, and true to the record that they speak of."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.core.letter import Event
from gateway.dispatch import compose
from gateway.dispatch.compose import Part
from tests.dispatch import samples
from tests.dispatch.samples import HOUSE, LANGUAGES, body, parsed


@pytest.mark.parametrize("event", list(samples.FACTS))
def test_a_status_is_threaded_and_says_what_happened(event: Event) -> None:
    for language in LANGUAGES:
        raw = compose.status(HOUSE, samples.status(event, language))
        message, text = parsed(raw), body(raw)
        assert message["In-Reply-To"] == message["References"] == "<mine@example.com>"
        assert message["Subject"] == "Re: Notice of termination: contract 42"
        assert (message["Pli-Event"], message["Pli-State"]) == (compose.event_name(event), "deposited")
        assert message["Pli-Letter"] == "0f8fad5bd9cb469fa16570867728950e"
        assert message["From"].addresses[0].addr_spec == "pli@pli.test"
        assert "Jane Roe <jane.roe@example.net>" in " ".join(text.split("\n\n")[0].split())
        assert "ABCD-EFGH-JKMN-PQRS" in text
        assert [part.get_filename() for part in message.iter_attachments()] == ["proof.pdf", "evidence.json"]
        assert "pli verify" in text


def test_status_mails_show_what_their_record_holds() -> None:
    def text(event: Event) -> str:
        return body(compose.status(HOUSE, samples.status(event)))

    assert all(
        words in text(Event.DEPOSIT) for words in ("ab" * 32, "1,234,567 bytes", "French", "Options understood: fr")
    )
    assert all(words in text(Event.HOLD) for words in ('"papr" is not known', '"en" came second', '"word" could not'))
    notified = text(Event.NOTICE_TAKEN)
    for words in (
        "mx.example.net [192.0.2.25]",
        "250 2.0.0 Ok: queued",
        "TLSv1.3",
        "Thursday 10 December 2026",
        "11 December 2026, 00:00:00",
    ):
        assert words in notified
    assert "550 5.1.2 The recipient's domain does not exist." in " ".join(text(Event.NOTICE_FAILED).split())
    assert "smtp; 550 5.2.1 disabled" in text(Event.BOUNCE)
    assert "hold period ended" in text(Event.DISCARD)
    assert "file (letter.eml)" in text(Event.HAND_OVER)


def test_a_record_without_a_seal_is_not_called_sealed() -> None:
    record = Part("evidence.json", "application/json", b"{}")
    for language, words in (("en", "not sealed by itself"), ("fr", "pas scellé par lui-même")):
        text = " ".join(body(compose.status(HOUSE, samples.status(Event.ACCEPT, language, parts=[record]))).split())
        assert words in text
        assert "pdfsig" not in text
        assert "pli verify" not in body(compose.status(HOUSE, samples.status(Event.ACCEPT, language, parts=[])))


def test_a_subject_gets_one_re_and_none_is_said() -> None:
    long = [
        (text, f"Re: {text}")
        for text in ("word " * 60 + "end", "é" * 300, "à la fin du mois, =?x?= et plus " * 9 + ".")
    ]
    for subject, wanted in (
        ("RE: re : Hello", "Re: Hello"),
        ("", "Re: (no subject)"),
        ("Été {x}", "Re: Été {x}"),
        *long,
    ):
        assert parsed(compose.status(HOUSE, samples.status(Event.HOLD, subject=subject)))["Subject"] == wanted


@pytest.mark.parametrize(
    ("event", "attempt", "wanted", "never"),
    [
        (Event.NOTICE_TAKEN, {"via": "mx"}, "the mail server of Jane Roe <jane.roe@example.net> has taken", "relay"),
        (
            Event.NOTICE_TAKEN,
            {"via": "relay"},
            "our outgoing relay mx.example.net took the notice of your letter for Jane Roe <jane.roe@example.net>",
            "Recipient's mail server",
        ),
        (Event.LAPSE, {"via": "relay"}, "is not known to us", "Recipient's mail server"),
        (Event.NOTICE_FAILED, {"verdict": "permanent"}, "the mail server of Jane Roe", "relay"),
        (
            Event.NOTICE_FAILED,
            {"verdict": "permanent", "via": "relay"},
            "our outgoing relay mx.example.net refused",
            "the mail server of",
        ),
        (Event.NOTICE_FAILED, {"verdict": "temporary"}, "no mail server confirmed that it took", "refused the notice"),
        (Event.NOTICE_FAILED, {"verdict": "unknown"}, "The server may have taken it", "refused the notice"),
        (Event.NOTICE_FAILED, {"host": None}, "no mail server was found", "refused the notice"),
    ],
)
def test_a_status_claims_no_more_than_was_heard(event: Event, attempt: dict[str, str], wanted: str, never: str) -> None:
    mail = samples.status(event)
    facts = {**mail.record["facts"], "attempt": {**samples.ATTEMPT, **attempt}}
    for language in LANGUAGES:
        made = replace(mail, record={**mail.record, "facts": facts}, language=language)
        text = " ".join(body(compose.status(HOUSE, made)).split())
        if language == "en":
            assert wanted in text
            assert never not in text
        else:
            assert ("relais" in text) == (attempt.get("via") == "relay")


def test_reports_of_returns_are_not_told_as_facts() -> None:
    for event in (Event.BOUNCE, Event.BOUNCE_CLOSES, Event.LAPSE_UNREACHED):
        for language, words in (("en", "not authenticated"), ("fr", "pas authentifié")):
            text = " ".join(body(compose.status(HOUSE, samples.status(event, language))).split())
            assert words in text
            assert not re.search(r"came back|est revenu\b|no notice .* reached|aucun avis", text.split("Recipient")[0])
