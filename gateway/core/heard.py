"""What may be said of an attempt to hand over a notice: no more than was heard, and from whom.

Mails and proofs say it in their own words; both decide here which ones. Not here: making attempts (dispatch/attempt.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from gateway.core.letter import Event


class Heard(StrEnum):
    """How the last attempt ended, of those that led to no taking."""

    REFUSED = "refused"  # a server answered with a permanent refusal
    NO_SERVER = "no_server"  # the DNS names no server that takes mail, or was not to be asked
    NOT_TAKEN = "not_taken"  # refusals for the time being, or no answer, until the time for retries was over
    UNKNOWN = "unknown"  # everything was sent and no answer came: it may have been taken


def heard(attempt: Mapping[str, Any]) -> Heard:
    """What the facts of a failed attempt allow to be said."""
    verdict = attempt.get("verdict")
    if verdict == "unknown":
        return Heard.UNKNOWN
    if not attempt.get("host"):
        return Heard.NO_SERVER
    return Heard.REFUSED if verdict == "permanent" else Heard.NOT_TAKEN


def by_relay(attempt: Mapping[str, Any]) -> bool:
    """Whether the one that was spoken with was our own relay, and not a server of the recipient's."""
    return attempt.get("via") == "relay"


def variants(event: Event, facts: Mapping[str, Any]) -> list[str]:
    """The names of the words that fit a record better than the common ones, the best first: "unknown", "refused_relay"."""
    attempt = facts.get("attempt")
    if not isinstance(attempt, Mapping):
        return []
    relay = by_relay(attempt)
    if event is not Event.NOTICE_FAILED:
        return ["relay"] if relay else []
    found = heard(attempt).value
    return [f"{found}_relay", found] if relay else [found]
