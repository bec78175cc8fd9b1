"""When a mail is tried again: the table, in minutes, as an operator would read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.retry import DELAYS, GIVE_UP, next_attempt

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
PATIENT = [1, 5, 15, 30, 60, 120, 240, 240, 240]
QUICK = [0.5, 1, 2, 4, 5, 10, 10, 10, 10]
DAYS = {"notice": 5, "reminder": 1, "code": 1 / 24, "status": 5, "receipt": 5, "original": 5}


def _attempts(kind: str, spread: float = 0.5) -> list[datetime]:
    """All attempts of a mail that always fails at once."""
    times = [START]
    while at := next_attempt(kind, len(times), START, times[-1], spread):
        times.append(at)
    return times


@pytest.mark.parametrize("kind", sorted(DELAYS))
def test_the_table(kind: str) -> None:
    times = _attempts(kind)
    minutes = [(later - earlier).total_seconds() / 60 for earlier, later in pairwise(times)]
    assert minutes[:9] == (QUICK if kind == "code" else PATIENT)
    assert set(minutes[6:]) == {10 if kind == "code" else 240}


@pytest.mark.parametrize("kind", sorted(DELAYS))
@pytest.mark.parametrize("spread", [0, 0.5, 1])
def test_it_ends_at_the_give_up_time_and_not_long_before(kind: str, spread: float) -> None:
    last = _attempts(kind, spread)[-1] - START
    assert last <= timedelta(days=DAYS[kind])
    assert last > timedelta(days=DAYS[kind]) - timedelta(hours=4.4)


def test_every_kind_has_both_tables() -> None:
    assert DELAYS.keys() == GIVE_UP.keys() == DAYS.keys()


def test_four_days_at_least_for_what_the_law_counts_on() -> None:
    """RFC 5321 4.5.4.1: the give-up time generally needs to be at least 4 to 5 days."""
    assert _attempts("notice")[-1] - START > timedelta(days=4)


@given(
    st.sampled_from(sorted(DELAYS)), st.integers(1, 100), st.integers(0, 10**6), st.floats(0, 1, allow_nan=False),
)  # fmt: skip
def test_always_later_than_now_and_within_a_tenth(kind: str, attempts: int, seconds: int, spread: float) -> None:
    now = START + timedelta(seconds=seconds)
    at = next_attempt(kind, attempts, START, now, spread)
    if at is not None:
        middle = next_attempt(kind, attempts, START - timedelta(days=0), now, 0.5)
        assert at > now
        if middle is not None:
            assert abs((at - middle) / (middle - now)) <= 0.1 + 1e-6
    else:
        assert seconds + 1.1 * DELAYS[kind][-1] > GIVE_UP[kind]


@pytest.mark.parametrize(
    "wrong", [("letter", 1, 0.5), ("code", 0, 0.5), ("code", -1, 0.5), ("code", 1, 1.5), ("code", 1, -0.1)]
)
def test_what_makes_no_sense_is_an_error(wrong: tuple[str, int, float]) -> None:
    kind, attempts, spread = wrong
    with pytest.raises(ValueError, match=r"retry table|attempts must be"):
        next_attempt(kind, attempts, START, START, spread)
