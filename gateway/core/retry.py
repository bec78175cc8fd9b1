"""When a mail that could not be handed to its next server is tried again, and when it is given up.

One table; no clock and no chance of its own: the caller brings the time and the spread.
Not here: the queue (dispatch/), what giving up means for a letter (postoffice.py).
"""

from __future__ import annotations

from datetime import datetime, timedelta

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

# The first retries come sooner than the 30 minutes of RFC 5321 4.5.4.1, as its own "more sophisticated" strategy allows:
# greylisting and restarts pass within minutes. Then the interval grows, and the last delay repeats until the give-up time.
_PATIENT = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR)
_QUICK = (30, _MINUTE, 2 * _MINUTE, 4 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE)

DELAYS: dict[str, tuple[int, ...]] = {
    "notice": _PATIENT,
    "reminder": _PATIENT,
    "code": _QUICK,  # somebody sits before a page and waits
    "status": _PATIENT,
    "receipt": _PATIENT,
    "original": _PATIENT,
}
"""Seconds before the second, third, ... attempt, by kind of mail."""

GIVE_UP: dict[str, int] = {
    "notice": 5 * _DAY,  # RFC 5321 4.5.4.1: at least 4 to 5 days
    "reminder": _DAY,  # the next one, or the last day, is near
    "code": _HOUR,  # a code is worth nothing after it
    "status": 5 * _DAY,
    "receipt": 5 * _DAY,
    "original": 5 * _DAY,
}
"""Seconds after the first attempt from which there is none any more."""

JITTER = 0.1


def next_attempt(kind: str, attempts: int, first_at: datetime, now: datetime, spread: float = 0.5) -> datetime | None:
    """When to try again after *attempts* (1 or more) failed, the last one just *now*; None means give up.

    first_at: the first attempt. spread: 0 to 1, drawn by the caller, moves the delay by up to 10 % either way, so that mails
    that failed together are not retried together. What is returned is always later than *now*.
    """
    if kind not in DELAYS:
        raise ValueError(f"no retry table for {kind!r}")
    if attempts < 1 or not 0 <= spread <= 1:
        raise ValueError("attempts must be 1 or more, spread between 0 and 1")
    delays = DELAYS[kind]
    delay = delays[min(attempts, len(delays)) - 1]
    at = now + timedelta(seconds=delay * (1 + JITTER * (2 * spread - 1)))
    return at if at <= first_at + timedelta(seconds=GIVE_UP[kind]) else None
