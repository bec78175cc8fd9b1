"""The life of one letter: its states, the events that move it, and nothing else.

`STEPS` is the whole truth (DESIGN.md section 3); `after` is the only reader of it. The diagram in docs/ is made from it.
Not here: time windows (core/profile.py), what an event must record (core/evidence.py), who acts (postoffice.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.core.errors import NotAllowed, WindowClosed


class State(StrEnum):
    HELD = "held"  # taken, but something is missing; nobody has been told
    DEPOSITED = "deposited"  # taken; the notice is on its way
    NOTIFIED = "notified"  # the recipient's server took a notice; the window runs
    ACCEPTED = "accepted"  # the identified recipient accepted; the bytes may still be on their way
    HANDED_OVER = "handed_over"  # the last byte went to the identified recipient
    REFUSED = "refused"
    UNCLAIMED = "unclaimed"  # the window closed without a decision
    UNDELIVERABLE = "undeliverable"  # no notice reached the recipient's server
    WITHDRAWN = "withdrawn"  # by the sender, before any notice was taken
    DISCARDED = "discarded"  # held, and never completed
    PRINTED = "printed"
    POSTED = "posted"
    PAPER_DELIVERED = "paper_delivered"
    PAPER_REFUSED = "paper_refused"
    PAPER_UNCLAIMED = "paper_unclaimed"
    PAPER_RETURNED = "paper_returned"


class Event(StrEnum):
    """What can happen to a letter. Everything here becomes evidence; only events in STEPS move a letter."""

    REJECT = "reject"  # an account's deposit was refused: evidence of its own, and never a letter
    HOLD = "hold"
    DISCARD = "discard"
    DEPOSIT = "deposit"
    NOTICE_TAKEN = "notice_taken"
    NOTICE_FAILED = "notice_failed"
    REMINDER_TAKEN = "reminder_taken"
    BOUNCE = "bounce"  # a notice came back after its 250; the profile says late_bounce = record
    BOUNCE_CLOSES = "bounce_closes"  # the same where the profile says late_bounce = close
    ACCEPT = "accept"
    CONSIGN = "consign"  # content made available to the identified recipient
    HAND_OVER = "hand_over"
    HAND_OVER_FAILED = "hand_over_failed"
    REFUSE = "refuse"
    LAPSE = "lapse"
    LAPSE_UNREACHED = "lapse_unreached"  # the window closed and every notice had bounced
    WITHDRAW = "withdraw"
    PRINT = "print"
    POST = "post"
    PAPER_DELIVER = "paper_deliver"
    PAPER_REFUSE = "paper_refuse"
    PAPER_LAPSE = "paper_lapse"
    PAPER_RETURN = "paper_return"
    # Facts: they are recorded and move nothing.
    LINK_FETCHED = "link_fetched"  # never called "read": link scanners fetch too
    PAGE_SHOWN = "page_shown"
    CODE_SENT = "code_sent"
    CODE_LOCKED = "code_locked"
    DOWNLOAD_REPEATED = "download_repeated"
    ORIGINAL_MAILED = "original_mailed"
    OUTAGE_BEGAN = "outage_began"
    OUTAGE_ENDED = "outage_ended"
    PROOF_REISSUED = "proof_reissued"


STEPS: dict[tuple[State | None, Event], State] = {
    (None, Event.REJECT): State.DISCARDED,
    (None, Event.HOLD): State.HELD,
    (State.HELD, Event.DISCARD): State.DISCARDED,
    (State.HELD, Event.DEPOSIT): State.DEPOSITED,
    (None, Event.DEPOSIT): State.DEPOSITED,
    (State.DEPOSITED, Event.NOTICE_TAKEN): State.NOTIFIED,
    (State.DEPOSITED, Event.NOTICE_FAILED): State.UNDELIVERABLE,
    (State.NOTIFIED, Event.BOUNCE): State.NOTIFIED,
    (State.NOTIFIED, Event.BOUNCE_CLOSES): State.UNDELIVERABLE,
    (State.NOTIFIED, Event.REMINDER_TAKEN): State.NOTIFIED,
    (State.NOTIFIED, Event.ACCEPT): State.ACCEPTED,
    (State.ACCEPTED, Event.CONSIGN): State.ACCEPTED,
    (State.ACCEPTED, Event.HAND_OVER): State.HANDED_OVER,
    (State.ACCEPTED, Event.HAND_OVER_FAILED): State.ACCEPTED,
    (State.NOTIFIED, Event.REFUSE): State.REFUSED,
    (State.NOTIFIED, Event.LAPSE): State.UNCLAIMED,
    (State.NOTIFIED, Event.LAPSE_UNREACHED): State.UNDELIVERABLE,
    (State.HELD, Event.WITHDRAW): State.WITHDRAWN,
    (State.DEPOSITED, Event.WITHDRAW): State.WITHDRAWN,
    (State.UNCLAIMED, Event.PRINT): State.PRINTED,
    (State.UNDELIVERABLE, Event.PRINT): State.PRINTED,
    (State.PRINTED, Event.POST): State.POSTED,
    (State.POSTED, Event.PAPER_DELIVER): State.PAPER_DELIVERED,
    (State.POSTED, Event.PAPER_REFUSE): State.PAPER_REFUSED,
    (State.POSTED, Event.PAPER_LAPSE): State.PAPER_UNCLAIMED,
    (State.POSTED, Event.PAPER_RETURN): State.PAPER_RETURNED,
}

FACTS = frozenset(Event) - {event for _, event in STEPS}
"""Events that are recorded in any state and move nothing."""

DECISIONS = frozenset({Event.ACCEPT, Event.REFUSE})
LAPSES = frozenset({Event.LAPSE, Event.LAPSE_UNREACHED})


@dataclass(frozen=True, slots=True)
class Letter:
    """What `after` needs to know of a letter.

    closes_at: the first instant at which no decision may be begun, or None before the first notice was taken.
    asked_at: when the recipient posted the choice that is being completed, or None.
    open_until: until when that choice may be completed (DESIGN.md 3), or None.
    """

    state: State | None
    closes_at: datetime | None = None
    asked_at: datetime | None = None
    open_until: datetime | None = None


def after(letter: Letter, event: Event, at: datetime) -> State:
    """The state that *event* at *at* leads to.

    Raises WindowClosed for a decision that was asked for too late, NotAllowed for every step outside STEPS and for a
    lapse before its time (CPCE R.53-3: the window closes by itself, never early).
    """
    if event in FACTS:
        if letter.state is None:
            raise NotAllowed(detail=f"{event} without a letter")
        return letter.state
    try:
        state = STEPS[letter.state, event]
    except KeyError:
        raise NotAllowed(detail=f"{event} in {letter.state}") from None
    if event in DECISIONS:
        _in_time(letter, at)
    if event in LAPSES:
        _due(letter, at)
    return state


def _in_time(letter: Letter, at: datetime) -> None:
    if letter.closes_at is None or letter.asked_at is None or letter.open_until is None:
        raise NotAllowed(detail="a decision without a window or without a choice")
    if letter.asked_at >= letter.closes_at or at >= letter.open_until:
        raise WindowClosed


def _due(letter: Letter, at: datetime) -> None:
    if letter.closes_at is None or at < letter.closes_at:
        raise NotAllowed(detail="the window is still open")
    if letter.open_until is not None and at < letter.open_until:
        raise NotAllowed(detail="a decision is being completed")
