"""Mails to look at and to compare: a house, parties, and one mail of each kind with everything in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from gateway.core.evidence import instant
from gateway.core.letter import Event
from gateway.dispatch import compose
from gateway.dispatch.compose import CodeMail, House, NoticeMail, OriginalMail, Part, Party, ReceiptMail, StatusMail

AT = datetime(2026, 11, 25, 8, 14, 3, tzinfo=UTC)
LANGUAGES = ("en", "fr")
TO = Party("Jane Roe", "jane.roe@example.net")
SENDER = Party("John Doe", "john.doe@example.com")
TOKEN = "abcdefghijklmnopqrstuvwxyz234567"

HOUSE = House(
    operator_name="Pli Demo",
    operator_address="1 Example Street, 75000 Example",
    operator_phone="+33 1 99 00 00 00",
    operator_email="help@pli.test",
    operator_site="https://pli.test/about",
    domain="pli.test",
    notice_domain="avis.test",
    public_url="https://pli.test",
    zone="Europe/Paris",
    profile_title={
        "fr": "Pli électronique avec preuve (non qualifié)",
        "en": "Electronic letter with proof (non-qualified)",
    },
    profile_level="non-qualified",
    law={"fr": "Règlement (UE) n° 910/2014, art. 43, § 1.", "en": "Regulation (EU) No 910/2014, art. 43(1)."},
    anonymous=True,
)


def notice(language: str = "en", **changes: Any) -> NoticeMail:
    values: dict[str, Any] = {
        "to": TO,
        "message_id": "<0123456789abcdef@avis.test>",
        "at": AT,
        "language": language,
        "reference": "ABCDEFGHJK",
        "link": f"https://pli.test/l/{TOKEN}",
        "access_code": "ABCDEFGH2345",
        "portal_url": "https://pli.test",
        "last_day": date(2026, 12, 10),
        "days_left": 15,
    }
    return NoticeMail(**{**values, **changes})


def reminder(language: str = "en") -> NoticeMail:
    return notice(language, number=1, message_id="<second@avis.test>", first_message_id="<0123456789abcdef@avis.test>")


def code(language: str = "en", choice: str = "accept") -> CodeMail:
    return CodeMail(TO, "<code@avis.test>", AT, language, choice, "042137", AT + timedelta(hours=1), "ABCDEFGHJK")


def receipt(language: str = "en", kind: str = "accept") -> ReceiptMail:
    part = Part("receipt.pdf", "application/pdf", b"%PDF-1.7 sample")
    return ReceiptMail(
        TO, "<receipt@avis.test>", AT, language, kind, "ABCDEFGHJK", [part], "<0123456789abcdef@avis.test>"
    )


def original(language: str = "en", raw: bytes = b"Subject: x\r\n\r\nhello\r\n") -> OriginalMail:
    return OriginalMail(TO, "<original@avis.test>", AT, language, "ABCDEFGHJK", raw)


ATTEMPT = {
    "host": "mx.example.net",
    "address": "192.0.2.25",
    "port": 25,
    "reason": "250 2.0.0 Ok: queued as 4XyZ12",
    "tls": {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "certificate_sha256": "0" * 64,
        "verified": False,
    },
}
_WINDOW = {
    "notice_day": "2026-11-25",
    "last_day": "2026-12-10",
    "closes_at": "2026-12-10T23:00:00.000000Z",
    "zone": "Europe/Paris",
}
_UNDERSTOOD = {"tags": ["fr"], "language": "fr", "gesture": "address"}
FACTS: Mapping[Event, Mapping[str, Any]] = {
    Event.HOLD: {**_UNDERSTOOD, "problems": [["unknown_tag", "papr"], ["language_conflict", "en"], ["newer", "word"]]},
    Event.DISCARD: {"reason": "the hold period ended and nothing was added"},
    Event.DEPOSIT: _UNDERSTOOD,
    Event.NOTICE_TAKEN: {**_WINDOW, "attempt": ATTEMPT},
    Event.NOTICE_FAILED: {
        "attempts": 3,
        "attempt": {"host": None, "reason": "550 5.1.2 The recipient's domain does not exist."},
    },
    Event.BOUNCE: {"bounce": {"status": "5.2.1", "action": "failed", "diagnostic": "smtp; 550 5.2.1 disabled"}},
    Event.BOUNCE_CLOSES: {"bounce": {"status": None, "action": "failed", "diagnostic": None}},
    Event.ACCEPT: {**_WINDOW, "identification": {"level": "mailed_code"}},
    Event.HAND_OVER: {**_WINDOW, "form": "eml", "accepted_at": instant(AT), "identification": {"level": "mailed_code"}},
    Event.REFUSE: {**_WINDOW, "identification": {"level": "document"}},
    Event.LAPSE: {**_WINDOW, "notices": 4, "bounced": 0, "reminders": 3},
    Event.LAPSE_UNREACHED: {**_WINDOW, "notices": 4, "bounced": 4, "reminders": 3},
    Event.WITHDRAW: {},
}


def status(event: Event, language: str = "en", **changes: Any) -> StatusMail:
    name = compose.event_name(event)
    assert name is not None
    record = {
        "event": event.value,
        "at": instant(AT),
        "deposited_at": None if event in (Event.HOLD, Event.DISCARD) else instant(AT),
        "content": {"sha256": "ab" * 32, "size": 1234567, "message_id": "<mine@example.com>"},
        "facts": FACTS[event],
    }
    parts = [Part("proof.pdf", "application/pdf", b"%PDF-1.7"), Part("evidence.json", "application/json", b"{}")]
    values: dict[str, Any] = {
        "to": SENDER,
        "message_id": "<status@pli.test>",
        "at": AT,
        "language": language,
        "event": name,
        "state": "deposited",
        "letter": "0f8fad5bd9cb469fa16570867728950e",
        "consignment": "ABCDEFGHJKMNPQRS",
        "subject": "Notice of termination: contract 42",
        "recipient": TO,
        "in_reply_to": "<mine@example.com>",
        "record": record,
        "parts": parts,
    }
    return StatusMail(**{**values, **changes})


def all_mails(language: str) -> dict[str, bytes]:
    """One of every kind, by a name for it."""
    made = {
        "notice": compose.notice(HOUSE, notice(language)),
        "reminder": compose.notice(HOUSE, reminder(language)),
        "original": compose.original(HOUSE, original(language)),
    }
    made |= {f"code-{choice}": compose.code(HOUSE, code(language, choice)) for choice in ("accept", "refuse", "read")}
    made |= {f"receipt-{kind}": compose.receipt(HOUSE, receipt(language, kind)) for kind in ("accept", "refuse")}
    made |= {f"status-{event}": compose.status(HOUSE, status(event, language)) for event in FACTS}
    return made


def parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body(raw: bytes, kind: str = "plain") -> str:
    part = parsed(raw).get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")
