"""Profiles and their windows: calendar days in the profile's zone, over clock changes, leap days and year ends."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.errors import Unusable
from gateway.core.profile import PROOF_MARGIN, Profile, from_data

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "profiles").glob("*.toml"))
PARIS = ZoneInfo("Europe/Paris")
DATA: dict[str, Any] = tomllib.loads((FILES[0].parent / "fr.toml").read_text())
FR = from_data(DATA)
ZONES = [
    "Europe/Paris",
    "UTC",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
]
INSTANTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_profile_file_loads(file: Path) -> None:
    profile = from_data(tomllib.loads(file.read_text()))
    assert profile.id == file.stem
    assert profile.qualified == (profile.level == "qualified")


def test_the_four_profiles_are_there() -> None:
    assert {file.stem for file in FILES} == {"fr", "fr-qualified", "eidas", "ch"}


def test_the_days_of_ch_are_seven() -> None:
    assert from_data(tomllib.loads((FILES[0].parent / "ch.toml").read_text())).window_days == 7


def test_the_reserved_words_come_with_the_qualified_profile_alone() -> None:
    reserved = ("recommandée électronique", "recommandé électronique", "LRE ", "(LRE)")
    for file in FILES:
        profile = from_data(tomllib.loads(file.read_text()))
        if not profile.qualified:
            assert not any(
                word in text for text in (*profile.title.values(), *profile.law.values()) for word in reserved
            )


def test_the_example_of_the_law() -> None:
    """CPCE R.53-3: notice on Sunday 1 March 2026 at 10:00, last day the 16th, proof on the 17th at the latest."""
    window = FR.window(datetime(2026, 3, 1, 10, 0, tzinfo=PARIS))
    assert (window.day, window.last_day) == (date(2026, 3, 1), date(2026, 3, 16))
    assert window.closes_at == datetime(2026, 3, 17, 0, 0, tzinfo=PARIS)
    assert window.proof_due_at == datetime(2026, 3, 18, 0, 0, tzinfo=PARIS)
    assert window.zone_name == "Europe/Paris"


@pytest.mark.parametrize(
    ("at", "last"),
    [
        (datetime(2026, 3, 1, 0, 0, tzinfo=PARIS), date(2026, 3, 16)),
        (datetime(2026, 3, 1, 23, 59, 59, tzinfo=PARIS), date(2026, 3, 16)),
        (datetime(2026, 2, 28, 23, 30, tzinfo=UTC), date(2026, 3, 16)),  # 1 March in Paris
        (datetime(2026, 3, 20, 12, 0, tzinfo=PARIS), date(2026, 4, 4)),  # over the last Sunday of March
        (datetime(2026, 10, 20, 12, 0, tzinfo=PARIS), date(2026, 11, 4)),  # over the last Sunday of October
        (datetime(2028, 2, 20, 12, 0, tzinfo=PARIS), date(2028, 3, 6)),  # a leap year
        (datetime(2027, 2, 20, 12, 0, tzinfo=PARIS), date(2027, 3, 7)),
        (datetime(2026, 12, 24, 12, 0, tzinfo=PARIS), date(2027, 1, 8)),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), date(2027, 1, 16)),  # the next year in Paris
    ],
)
def test_days_are_counted_in_the_zone(at: datetime, last: date) -> None:
    window = FR.window(at)
    assert window.last_day == last
    assert window.closes_at.astimezone(PARIS) == datetime.combine(last + timedelta(days=1), time(), PARIS)


@example(datetime(2048, 9, 27, 4, tzinfo=UTC), "America/Havana", 34, "next-day")
@given(INSTANTS, st.sampled_from(ZONES), st.integers(1, 40), st.sampled_from(["next-day", "second-day"]))
def test_a_window_in_any_zone(at: datetime, zone: str, days: int, start: str) -> None:
    """Never shorter than its days, closing never before the last day has ended, and the proof never due before the closing."""
    profile = replace(FR, zone=ZoneInfo(zone), window_days=days, start=start)
    window = profile.window(at)
    assert window.day == at.astimezone(profile.zone).date()
    assert (window.last_day - window.day).days == days + (start == "second-day")
    # Where midnight comes twice, the first does not close yet: up to an hour late, never early.
    before = window.closes_at - timedelta(hours=1, microseconds=1)
    assert before.astimezone(profile.zone).date() <= window.last_day or zone == "Pacific/Apia"
    for later in (timedelta(0), timedelta(minutes=59), timedelta(hours=2)):
        assert (window.closes_at + later).astimezone(profile.zone).date() > window.last_day
    assert window.closes_at.tzinfo is UTC
    assert window.closes_at < window.proof_due_at
    assert (
        timedelta(hours=21) <= window.proof_due_at - window.closes_at <= timedelta(hours=27) or zone == "Pacific/Apia"
    )


@given(INSTANTS, INSTANTS)
def test_a_later_notice_never_closes_earlier(first: datetime, second: datetime) -> None:
    first, second = sorted((first, second))
    assert FR.window(first).closes_at <= FR.window(second).closes_at


@given(INSTANTS)
def test_working_days(at: datetime) -> None:
    plain, moved = FR.window(at), replace(FR, closing="end-of-working-day").window(at)
    assert moved.last_day.weekday() < 5
    assert 0 <= (moved.last_day - plain.last_day).days <= 2
    assert (moved.last_day == plain.last_day) == (plain.last_day.weekday() < 5)


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda at: at.replace(tzinfo=UTC)),
    st.integers(-40, 40),
)
@example(datetime(2026, 10, 24, 22, 0, tzinfo=UTC), 8)
def test_a_printed_day_is_never_cut_short_and_moves_no_d(at: datetime, more: int) -> None:
    plain = FR.window(at)
    printed = plain.last_day + timedelta(days=more)
    window = FR.window(at, printed)
    assert window.day == plain.day
    assert window.last_day == max(printed, plain.last_day)
    assert window.closes_at.astimezone(FR.zone).date() == window.last_day + timedelta(days=1)
    assert window.proof_due_at > window.closes_at


def test_midnight_that_comes_twice_or_never() -> None:
    """Havana's 00:00 comes twice in autumn: a day ends with the second. Beirut skips it in spring: it ends at the change."""
    havana = replace(FR, zone=ZoneInfo("America/Havana"))
    window = havana.window(datetime(2026, 10, 16, 12, 0, tzinfo=ZoneInfo("America/Havana")))
    assert window.last_day == date(2026, 10, 31)
    assert window.closes_at == datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
    due = havana.window(datetime(2026, 10, 15, 12, 0, tzinfo=ZoneInfo("America/Havana"))).proof_due_at
    assert due == datetime(2026, 11, 1, 4, 0, tzinfo=UTC)
    beirut = replace(FR, zone=ZoneInfo("Asia/Beirut"))
    window = beirut.window(datetime(2026, 3, 13, 12, 0, tzinfo=ZoneInfo("Asia/Beirut")))
    assert window.closes_at == datetime(2026, 3, 28, 22, 0, tzinfo=UTC)


class TestReminders:
    def test_at_the_local_hour_of_their_days(self) -> None:
        window = FR.window(datetime(2026, 3, 20, 18, 0, tzinfo=PARIS))
        local = [at.astimezone(PARIS) for at in FR.reminders_due(window)]
        assert [(at.date() - window.day).days for at in local] == sorted(FR.reminders) == [7, 12, 14]
        assert {at.hour for at in local} == {FR.reminder_hour}  # the clocks changed on the 29th

    @given(INSTANTS, st.sets(st.integers(1, 15)), st.integers(0, 23), st.sampled_from(ZONES))
    def test_in_order_and_before_the_closing(self, at: datetime, days: set[int], hour: int, zone: str) -> None:
        profile = replace(FR, reminders=tuple(days), reminder_hour=hour, zone=ZoneInfo(zone))
        window = profile.window(at)
        due = profile.reminders_due(window)
        assert list(due) == sorted(due)
        assert all(window.day < one.astimezone(profile.zone).date() for one in due)
        assert all(one < window.closes_at for one in due)
        assert len(due) == len(days)

    def test_none_after_the_closing(self) -> None:
        window = FR.window(datetime(2026, 3, 1, tzinfo=PARIS))
        assert replace(FR, reminders=(16, 30)).reminders_due(window) == ()


class TestOpenUntil:
    window = FR.window(datetime(2026, 3, 1, 10, 0, tzinfo=PARIS))

    def test_an_hour_for_a_code(self) -> None:
        asked = self.window.closes_at - timedelta(seconds=1)
        assert FR.open_until(asked, self.window) == asked + timedelta(minutes=60)

    def test_the_grace_for_a_document(self) -> None:
        asked = self.window.closes_at - timedelta(seconds=1)
        assert FR.open_until(asked, self.window, by_document=True) == asked + timedelta(hours=12)

    @given(st.integers(0, 15 * 86400), st.booleans(), st.integers(1, 24), INSTANTS)
    def test_always_ends_in_time_for_the_proof(self, seconds: int, by_document: bool, hours: int, at: datetime) -> None:
        profile = replace(FR, identification_grace=timedelta(hours=hours))
        window = profile.window(at)
        asked = window.closes_at - timedelta(seconds=seconds)
        until = profile.open_until(asked, window, by_document=by_document)
        assert asked < until <= window.proof_due_at - PROOF_MARGIN
        assert until.tzinfo is UTC


def _mistakes(**changed: Any) -> str:
    data = {key: value for key, value in {**DATA, **changed}.items() if value is not ...}
    with pytest.raises(Unusable) as caught:
        from_data(data)
    return str(caught.value)


WRONG: list[tuple[str, Any]] = [
    ("id", "FR"), ("id", ""), ("id", 5), ("title", {"fr": " ", "en": "x"}), ("title", "x"),
    ("law", {"fr": 1, "en": "x"}),
    ("level", "best"), ("level", ["qualified"]), ("policy", "no uri"), ("zone", "Europe/Nowhere"),
    ("zone", "/etc/passwd"),
    ("zone", "../x"), ("zone", 5), ("zone", ""), ("zone", "Europe"),
    ("window_days", 0), ("window_days", 367), ("window_days", True),
    ("window_days", "15"), ("start", "today"), ("closing", "noon"), ("proof_due_days", 0), ("anonymous", 1),
    ("anonymous", "yes"),
    ("consent", "maybe"), ("sender_level", "none"), ("recipient_level", ""), ("retention_days", 364),
    ("content_retention_days", 0), ("reminders", [7, 7]), ("reminders", [0]), ("reminders", 7), ("reminders", "7"),
    ("reminder_hour", 24), ("late_bounce", "ignore"), ("code_minutes", 4), ("identification_grace_hours", 25),
    ("hold_days", 0), ("languages", []), ("languages", ["french"]), ("languages", ["fr", "fr"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}-{value!r}"[:40] for key, value in WRONG])
def test_a_wrong_value_is_named(key: str, value: Any) -> None:
    assert (
        f"profile {'?' if key == 'id' and value == ... else (value if key == 'id' else 'fr')}: {key}: must be"
        in _mistakes(**{key: value})
    )


@pytest.mark.parametrize("key", sorted(DATA.keys() - {"code_minutes"}))
def test_a_missing_key_is_named(key: str) -> None:
    assert f"{key}: is missing" in _mistakes(**{key: ...})


def test_code_minutes_have_a_default() -> None:
    data = {key: value for key, value in DATA.items() if key != "code_minutes"}
    assert from_data(data).code_minutes == 60


def test_all_mistakes_at_once() -> None:
    text = _mistakes(window_days=0, colour="red", policy=..., zone="Mars/Base", hold_days=-1)
    assert len(text.splitlines()) == 5
    assert "colour: unknown key" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"languages": ["fr", "de"]}, "title: lacks the language de"),
        ({"languages": ["fr", "de"]}, "law: lacks the language de"),
        ({"reminders": [16]}, "reminders: 16 is after the last day (D+15)"),
        ({"content_retention_days": 15}, "content_retention_days: must be longer than the window"),
        ({"content_retention_days": 4000}, "content_retention_days"),
        ({"start": "second-day", "content_retention_days": 16}, "content_retention_days"),
        ({"level": "qualified"}, "level qualified demands 'substantial'"),
        ({"level": "qualified"}, "consent: level qualified demands 'express'"),
        ({"level": "qualified", "anonymous": False}, "anonymous: level qualified demands True"),
    ],
)
def test_contradictions(changed: dict[str, Any], said: str) -> None:
    assert said in _mistakes(**changed)


def test_profiles_are_values() -> None:
    assert isinstance(FR, Profile)
    assert from_data(DATA) == FR
