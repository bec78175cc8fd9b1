"""A profile: the legal parameters under which a letter lives, and the window arithmetic they lead to.

The numbers and rules are data (conf/profiles/*.toml); this module only holds them to their form and counts calendar days
in the profile's zone, never spans of 24 hours (law.md 1.4, CPCE R.53-3).
Not here: reading files and refusing to start (gateway/settings.py), which step is allowed when (core/letter.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from gateway.core.errors import Unusable

NON_QUALIFIED = "non-qualified"
QUALIFIED = "qualified"
LEVELS = (NON_QUALIFIED, QUALIFIED)
STARTS = {"next-day": 0, "second-day": 1}
"""Days that the rule adds: day 1 is D+1, or D+2 for readers of "from the next day" who leave D+1 out."""
CLOSINGS = ("end-of-last-day", "end-of-working-day")
"""The last day as counted, or, where that is a Saturday or Sunday, the Monday after it."""
CONSENTS = ("none", "declared", "express")
SENDER_LEVELS = (  # weakest first, DESIGN.md 5
    "dkim",
    "password",
    "dkim-confirmed",
    "password-confirmed",
    "openpgp",
    "smime",
    "client-certificate",
    "substantial",
)
RECIPIENT_LEVELS = ("code", "passkey", "oidc", "document", "substantial")
LATE_BOUNCES = ("record", "close")

PROOF_MARGIN = timedelta(hours=1)
"""An open decision ends this long before the proof is due, so that a lapse after it can still be proved in time."""


@dataclass(frozen=True, slots=True)
class Window:
    """The time a recipient has, frozen by the first 250 for a notice.

    day: D, the zone's date of that 250. last_day: the last date on which a decision may be begun. closes_at: the first
    instant at which none may be begun. proof_due_at: the proof of non-claim must exist before it. Instants are UTC.
    """

    day: date
    last_day: date
    closes_at: datetime
    proof_due_at: datetime
    zone_name: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Legal parameters; the meaning of each key stands beside it in conf/profiles/fr.toml."""

    id: str
    title: dict[str, str]
    level: str
    policy: str
    zone: ZoneInfo
    window_days: int
    start: str
    closing: str
    proof_due_days: int
    anonymous: bool
    consent: str
    sender_level: str
    recipient_level: str
    retention_days: int
    content_retention_days: int
    reminders: tuple[int, ...]
    reminder_hour: int
    late_bounce: str
    identification_grace: timedelta
    hold_days: int
    languages: tuple[str, ...]
    law: dict[str, str]
    code_minutes: int = 60

    @property
    def qualified(self) -> bool:
        return self.level == QUALIFIED

    def window(self, at: datetime, printed: date | None = None) -> Window:
        """The window of a letter whose first notice was taken at *at* (aware). It never ends before the day *printed*."""
        day = at.astimezone(self.zone).date()
        last_day = day + timedelta(days=self.window_days + STARTS[self.start])
        while self.closing == "end-of-working-day" and last_day.weekday() >= 5:
            last_day += timedelta(days=1)
        last_day = max(last_day, printed or last_day)
        due = last_day + timedelta(days=1 + self.proof_due_days)
        return Window(
            day=day,
            last_day=last_day,
            closes_at=max(_midnights(last_day + timedelta(days=1), self.zone)),  # never early
            proof_due_at=min(_midnights(due, self.zone)),  # never late
            zone_name=self.zone.key,
        )

    def reminders_due(self, window: Window) -> tuple[datetime, ...]:
        """When reminders go out, in order, UTC; none on or after the closing. They never move the window (R32)."""
        hours = (
            datetime.combine(window.day + timedelta(days=days), time(self.reminder_hour), self.zone).astimezone(UTC)
            for days in sorted(self.reminders)
        )
        return tuple(at for at in hours if at < window.closes_at)

    def open_until(self, asked_at: datetime, window: Window, *, by_document: bool = False) -> datetime:
        """Until when a choice posted at *asked_at* may be completed: by code, or by a document check (exclusive, UTC)."""
        grace = self.identification_grace if by_document else timedelta(minutes=self.code_minutes)
        return min(asked_at.astimezone(UTC) + grace, window.proof_due_at - PROOF_MARGIN)


def _midnights(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Both readings of 00:00 on *day*, UTC: they differ where clocks change across midnight.

    A skipped midnight (fold 0) is the instant of the change itself; of a repeated one, only after the second has the day
    before ended for good. So the later of the two is never early.
    """
    midnight = datetime.combine(day, time(), zone)
    return midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)


def from_data(data: Mapping[str, Any]) -> Profile:
    """The profile that *data* (a parsed profile file) describes; raises Unusable with one line per mistake."""
    known = {field.name for field in fields(Profile)} - {"identification_grace"} | {"identification_grace_hours"}
    name = data.get("id", "?")
    mistakes = [f"{key}: unknown key" for key in sorted(data.keys() - known)]
    mistakes += [f"{key}: is missing" for key in sorted(known - data.keys() - {"code_minutes"})]
    mistakes += [
        f"{key}: {words} (got {data[key]!r})" for key, (test, words) in _FORM.items() if _fails(data, key, test)
    ]
    if not mistakes:
        mistakes = _contradictions(data)
    if mistakes:
        raise Unusable("\n".join(f"profile {name}: {mistake}" for mistake in mistakes))
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
              for key, value in data.items()}  # fmt: skip
    grace = timedelta(hours=values.pop("identification_grace_hours"))
    zone = ZoneInfo(values.pop("zone"))
    return Profile(zone=zone, identification_grace=grace, **values)


def _fails(data: Mapping[str, Any], key: str, test: Callable[[Any], bool]) -> bool:
    return key in data and not test(data[key])


def _whole(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    def fits(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    return fits, f"must be a whole number from {low} to {high}"


def _one_of(words: Sequence[str]) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: isinstance(value, str) and value in words), f"must be one of {', '.join(words)}"


def _matches(pattern: str, words: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None), words


def _list_of(fits: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(fits, value)) and len(set(value)) == len(value)


def _is_zone(value: Any) -> bool:
    try:
        ZoneInfo(value)
    except (TypeError, ValueError, OSError, KeyError):  # a name that is none, a path, a directory, an unknown zone
        return False
    return True


def _is_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) and text.strip() for text in value.values())


_LANGUAGE, _LANGUAGE_WORDS = _matches(r"[a-z]{2}", "")
_DAY, _ = _whole(1, 366)
_FORM: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": _matches(r"[a-z][a-z0-9-]{0,31}", "must be a short name of a-z, 0-9 and -"),
    "title": (_is_texts, "must be a table of texts by language"),
    "law": (_is_texts, "must be a table of texts by language"),
    "level": _one_of(LEVELS),
    "policy": _matches(r"[a-z][a-z0-9+.-]*:[!-~]+", "must be an absolute URI"),
    "zone": (_is_zone, "must be a time zone such as Europe/Paris"),
    "window_days": _whole(1, 366),
    "start": _one_of(tuple(STARTS)),
    "closing": _one_of(CLOSINGS),
    "proof_due_days": _whole(1, 30),
    "anonymous": (lambda value: isinstance(value, bool), "must be true or false"),
    "consent": _one_of(CONSENTS),
    "sender_level": _one_of(SENDER_LEVELS),
    "recipient_level": _one_of(RECIPIENT_LEVELS),
    "retention_days": _whole(365, 36525),  # a year at the least: CPCE R.53-2, R.53-3
    "content_retention_days": _whole(1, 36525),
    "reminders": (lambda value: _list_of(_DAY, value), "must be a list of different whole numbers, days after D"),
    "reminder_hour": _whole(0, 23),
    "late_bounce": _one_of(LATE_BOUNCES),
    "code_minutes": _whole(5, 60 * 12),
    "identification_grace_hours": _whole(1, 24),
    "hold_days": _whole(1, 90),
    "languages": (lambda value: _list_of(_LANGUAGE, value) and value, "must be a list of two-letter language codes"),
}


def _contradictions(data: Mapping[str, Any]) -> list[str]:
    """What is wrong between keys that are each well-formed."""
    mistakes = [
        f"{key}: lacks the language {language}"
        for key in ("title", "law")
        for language in data["languages"]
        if language not in cast("Mapping[str, str]", data[key])
    ]
    last = data["window_days"] + STARTS[data["start"]]
    mistakes += [f"reminders: {day} is after the last day (D+{last})" for day in data["reminders"] if day > last]
    if not last < data["content_retention_days"] <= data["retention_days"]:
        mistakes.append("content_retention_days: must be longer than the window, at most retention_days")
    if data["level"] == QUALIFIED:
        demands = {
            "anonymous": True,
            "consent": "express",
            "sender_level": "substantial",
            "recipient_level": "substantial",
        }
        mistakes += [f"{k}: level qualified demands {v!r} (CPCE R.53-1)" for k, v in demands.items() if data[k] != v]
    return mistakes
