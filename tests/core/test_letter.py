"""The life of a letter: every state against every event, compared with the table of the design written out a second time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.errors import NotAllowed, WindowClosed
from gateway.core.letter import DECISIONS, FACTS, LAPSES, STEPS, Event, Letter, State, after

# Written from the design page, row by row, in its own words: from | event | to.
TABLE = """
nothing       reject            discarded
nothing       hold              held
held          discard           discarded
nothing       deposit           deposited
held          deposit           deposited
deposited     notice_taken      notified
deposited     notice_failed     undeliverable
notified      bounce            notified
notified      bounce_closes     undeliverable
notified      reminder_taken    notified
notified      accept            accepted
accepted      consign           accepted
accepted      hand_over         handed_over
accepted      hand_over_failed  accepted
notified      refuse            refused
notified      lapse             unclaimed
notified      lapse_unreached   undeliverable
held          withdraw          withdrawn
deposited     withdraw          withdrawn
unclaimed     print             printed
undeliverable print             printed
printed       post              posted
posted        paper_deliver     paper_delivered
posted        paper_refuse      paper_refused
posted        paper_lapse       paper_unclaimed
posted        paper_return      paper_returned
"""
EXPECTED = {(row.split()[0], row.split()[1]): row.split()[2] for row in TABLE.strip().splitlines()}
RECORDED_ONLY = {
    "link_fetched", "page_shown", "code_sent", "code_locked", "download_repeated", "original_mailed",
    "outage_began", "outage_ended", "proof_reissued",
}  # fmt: skip

CLOSES = datetime(2026, 3, 16, 23, 0, tzinfo=UTC)
ASKED = CLOSES - timedelta(minutes=10)
OPEN_UNTIL = ASKED + timedelta(hours=1)
SECOND = timedelta(microseconds=1)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", [None, *State])
def test_every_state_against_every_event(state: State | None, event: Event) -> None:
    """With the clock on its side, a step succeeds exactly if the table has it."""
    letter = Letter(state, CLOSES, ASKED, OPEN_UNTIL)
    at = OPEN_UNTIL if event in LAPSES else ASKED
    expected = EXPECTED.get((state or "nothing", event))
    if event.value in RECORDED_ONLY and state is not None:
        expected = state.value
    if expected is None:
        with pytest.raises(NotAllowed):
            after(letter, event, at)
    else:
        assert after(letter, event, at) == expected


def test_nothing_else_is_in_the_table() -> None:
    assert {(s or "nothing", e.value): t.value for (s, e), t in STEPS.items()} == EXPECTED
    assert {event.value for event in FACTS} == RECORDED_ONLY
    assert len(State) == 16


def test_every_state_can_be_reached_and_the_ends_are_ends() -> None:
    reached: set[State | None] = {None}
    while new := {to for (start, _), to in STEPS.items() if start in reached} - reached:
        reached |= new
    assert reached == {None, *State}
    ends = set(State) - {start for start, _ in STEPS}
    assert {end.value for end in ends} == {
        "handed_over", "refused", "withdrawn", "discarded",
        "paper_delivered", "paper_refused", "paper_unclaimed", "paper_returned",
    }  # fmt: skip


@pytest.mark.parametrize("event", sorted(DECISIONS))
class TestDecision:
    def test_is_in_time_to_the_last_instant(self, event: Event) -> None:
        letter = Letter(State.NOTIFIED, CLOSES, CLOSES - SECOND, OPEN_UNTIL)
        assert after(letter, event, OPEN_UNTIL - SECOND) == STEPS[State.NOTIFIED, event]

    def test_begun_at_the_closing_is_too_late(self, event: Event) -> None:
        """However long it may still be completed: the post of the choice is the request time."""
        with pytest.raises(WindowClosed):
            after(Letter(State.NOTIFIED, CLOSES, CLOSES, CLOSES + timedelta(hours=1)), event, CLOSES)

    def test_completed_after_its_time_is_too_late(self, event: Event) -> None:
        with pytest.raises(WindowClosed):
            after(Letter(State.NOTIFIED, CLOSES, ASKED, OPEN_UNTIL), event, OPEN_UNTIL)

    @pytest.mark.parametrize("missing", ["closes_at", "asked_at", "open_until"])
    def test_needs_window_and_choice(self, event: Event, missing: str) -> None:
        known = {"closes_at": CLOSES, "asked_at": ASKED, "open_until": OPEN_UNTIL, missing: None}
        with pytest.raises(NotAllowed):
            after(Letter(State.NOTIFIED, **known), event, ASKED)


@pytest.mark.parametrize("event", sorted(LAPSES))
class TestLapse:
    def test_at_the_closing_and_never_before(self, event: Event) -> None:
        letter = Letter(State.NOTIFIED, CLOSES)
        assert after(letter, event, CLOSES) == STEPS[State.NOTIFIED, event]
        with pytest.raises(NotAllowed):
            after(letter, event, CLOSES - SECOND)

    def test_waits_for_an_open_decision(self, event: Event) -> None:
        letter = Letter(State.NOTIFIED, CLOSES, ASKED, OPEN_UNTIL)
        with pytest.raises(NotAllowed):
            after(letter, event, OPEN_UNTIL - SECOND)
        assert after(letter, event, OPEN_UNTIL) == STEPS[State.NOTIFIED, event]

    def test_not_without_a_window(self, event: Event) -> None:
        with pytest.raises(NotAllowed):
            after(Letter(State.NOTIFIED), event, CLOSES)


def test_decision_and_lapse_never_both_succeed() -> None:
    """At any one instant a letter with an open choice can be decided or can lapse, not both, and one of them always can."""
    letter = Letter(State.NOTIFIED, CLOSES, ASKED, OPEN_UNTIL)
    for minutes in range(-30, 120):
        at = CLOSES + timedelta(minutes=minutes)
        outcomes = []
        for event in (Event.ACCEPT, Event.LAPSE):
            try:
                outcomes.append(after(letter, event, at))
            except (NotAllowed, WindowClosed):
                continue
        assert len(outcomes) == 1
