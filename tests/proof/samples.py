"""Records as a running gateway makes them: one letter's chain for each of its ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.evidence import Place, digest, instant, make_record, parse_instant
from gateway.core.letter import STEPS, Event, State

LETTER = b"From: Jane Doe <jane.doe@example.org>\r\nTo: x\r\nSubject: Notice\r\n\r\nDear recipient,\r\n"
START = datetime(2026, 3, 1, 9, 0, 12, 345678, UTC)
LAW = {"en": "Non-qualified.", "fr": "Non qualifié."}

_TLS = {
    "version": "TLSv1.3",
    "cipher": "TLS_AES_256_GCM_SHA384",
    "certificate_sha256": hashlib.sha256(b"certificate").hexdigest(),
    "verified": True,
}
ATTEMPT: dict[str, Any] = {
    "host": "mx1.example.net",
    "address": "192.0.2.25",
    "port": 25,
    "verdict": "taken",
    "reason": "250 2.0.0 Ok: queued as 4XyZ123abc",
    "tls": _TLS,
    "tls_trouble": [],
    "extensions": ["8bitmime", "pipelining", "size"],
    "replies": [
        {"command": "", "code": 220, "text": "mx1.example.net ESMTP"},
        {"command": "EHLO", "code": 250, "text": "mx1.example.net"},
        {"command": "RCPT", "code": 250, "text": "2.1.5 Ok"},
    ],
    "began_at": instant(START + timedelta(seconds=2)),
    "ended_at": instant(START + timedelta(seconds=3)),
    "tried": [],
}
REFUSED = {
    **ATTEMPT,
    "verdict": "permanent",
    "reason": "550 5.1.1 <nobody@bounce.example.net>: Recipient address rejected: User unknown",
    "tried": [{"host": "mx0.example.net", "address": "192.0.2.24", "port": 25, "reason": "no answer", "ended_at": "x"}],
}
WINDOW = {
    "notice_day": "2026-03-01",
    "last_day": "2026-03-16",
    "closes_at": instant(datetime(2026, 3, 16, 23, tzinfo=UTC)),
    "zone": "Europe/Paris",
}
IDENTIFIED = {
    "level": "mailed_code",
    "method": "one-time code mailed to the notified address",
    "at": instant(START + timedelta(days=2, minutes=3)),
}
ASKED = {
    "asked_at": instant(START + timedelta(days=2)),
    "open_until": instant(START + timedelta(days=2, hours=1)),
    "identification": IDENTIFIED,
    **WINDOW,
}
DEPOSIT = {
    "gesture": "encoded",
    "mail_from": "jane.doe@example.org",
    "envid": None,
    "tags": ["fr"],
    "language": "fr",
    "changes": [],
    "origin": {
        "peer": "198.51.100.7",
        "helo": "[192.168.1.5]",
        "listener": "submissions",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "mechanism": "PLAIN",
    },
}
BOUNCE = {
    "bounce": {
        "verdict": "failed",
        "action": "failed",
        "status": "5.2.2",
        "diagnostic": "smtp; 552 5.2.2 mailbox full",
        "reporting_mta": "mx1.example.net",
        "remote_mta": None,
    }
}
_NOTICE = (Event.NOTICE_TAKEN, timedelta(seconds=3), {**WINDOW, "attempt": ATTEMPT})
_CLOSED = timedelta(days=15, hours=15)
Step = tuple[Event, timedelta, Mapping[str, Any]]

PATHS: dict[Event, Sequence[Step]] = {
    Event.DEPOSIT: [],
    Event.HAND_OVER: [
        _NOTICE,
        (Event.PAGE_SHOWN, timedelta(days=1), {"form": "choice"}),
        (Event.ACCEPT, timedelta(days=2, minutes=3), ASKED),
        (Event.CONSIGN, timedelta(days=2, minutes=4), {"form": "page"}),
        (
            Event.HAND_OVER,
            timedelta(days=2, minutes=4, seconds=1),
            {
                "form": "page",
                "accepted_at": instant(START + timedelta(days=2, minutes=3)),
                "identification": IDENTIFIED,
                **WINDOW,
            },
        ),
    ],
    Event.REFUSE: [_NOTICE, (Event.REFUSE, timedelta(days=2, minutes=3), ASKED)],
    Event.LAPSE: [
        _NOTICE,
        *((Event.REMINDER_TAKEN, timedelta(days=d), {"number": d, "attempt": ATTEMPT}) for d in (7, 12, 14)),
        (Event.LAPSE, _CLOSED, {**WINDOW, "notices": 4, "bounced": 0, "reminders": 3}),
    ],
    Event.NOTICE_FAILED: [(Event.NOTICE_FAILED, timedelta(seconds=9), {"attempts": 1, "attempt": REFUSED})],
    Event.BOUNCE_CLOSES: [_NOTICE, (Event.BOUNCE_CLOSES, timedelta(hours=1), BOUNCE)],
    Event.LAPSE_UNREACHED: [
        _NOTICE,
        (Event.BOUNCE, timedelta(hours=1), BOUNCE),
        (Event.LAPSE_UNREACHED, _CLOSED, {**WINDOW, "notices": 1, "bounced": 1, "reminders": 0}),
    ],
}


def subject(**over: Any) -> dict[str, Any]:
    """What is the same in all records of the sample letter; *over* replaces whole keys."""
    return {
        "consignment": "ABCDEFGHJKMNPQRS",
        "letter": "0123456789abcdef0123456789abcdef",
        "profile": {
            "id": "fr",
            "level": "non-qualified",
            "policy": "urn:pli:policy:fr:1",
            "title": {
                "fr": "Pli électronique avec preuve (non qualifié)",
                "en": "Electronic letter with proof (non-qualified)",
            },
        },
        "issuer": {"name": "Pli Demo", "domain": "pli.test", "address": "1 Example Street, 75000 Example"},
        "sender": {
            "name": "Jane Doe",
            "address": "jane.doe@example.org",
            "authentication": "SMTP AUTH PLAIN with an app password, under TLS",
        },
        "recipient": {"name": "John Doe", "address": "john.doe@example.net"},
        "content": {
            "sha256": hashlib.sha256(LETTER).hexdigest(),
            "size": len(LETTER),
            "message_id": "<0123456789@example.org>",
        },
        "deposited_at": instant(START),
        **over,
    }


def chain(end: Event, **over: Any) -> list[bytes]:
    """All records of a letter that came to *end*, first to last."""
    place, state, records = Place(), State.DEPOSITED, list[bytes]()
    steps: Sequence[Step] = [(Event.DEPOSIT, timedelta(0), DEPOSIT), *PATHS[end]]
    for event, after, facts in steps:
        state = STEPS.get((None if not records else state, event), state)
        record = make_record(subject(**over), place, event, state, START + after, facts)
        records.append(record)
        place = place.then(digest(record))
    return records


def last_at(records: Sequence[bytes]) -> datetime:
    import json

    return parse_instant(json.loads(records[-1])["at"])
