"""One-time codes: mailed after a choice, bound to it, and checked before anything happens.

Five tries a code, sixty minutes, at most three codes an hour and ten a day, one live code per letter (DESIGN.md 7). A lock takes
no right away: the next code can be asked for as soon as the hour allows, and no day's limit reaches past the end of the window.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core.errors import TooManyAttempts, WrongCode
from gateway.identity.identified import Identified, by_mailed_code
from gateway.links import Links, token_digest
from storage import outbox
from storage.rows import CodeRow

TRIES = 5
LIFE = timedelta(minutes=60)
AN_HOUR, A_DAY = 3, 10
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class Locked(WrongCode):
    """The last try of a code was wrong."""

    sentence = "Wrong code. This code is locked now: ask for a new one."


class TooManyToday(TooManyAttempts):
    """As many codes were mailed as a day allows."""

    sentence = "Ten codes were mailed within the last 24 hours. Please use the newest one, or come back tomorrow."


@dataclass(frozen=True, slots=True)
class Made:
    """A new code: its row, and the two secrets that leave the house (code by mail, nonce in the form)."""

    row: CodeRow
    code: str
    nonce: str


async def make(
    links: Links, letter_id: str, choice: str, now: datetime, until: datetime, closes_at: datetime | None
) -> Made:
    """A new code, not yet stored. until: no later end than this. closes_at: of the window, where it is for a decision.

    Raises TooManyAttempts.
    """
    # In the window's last 24 hours a day's limit could outlive it, and then it would take a right away.
    last_day = closes_at is not None and now >= closes_at - _DAY
    if not last_day and await outbox.codes_since(letter_id, now - _DAY) >= A_DAY:
        raise TooManyToday
    if await outbox.codes_since(letter_id, now - _HOUR) >= AN_HOUR:
        raise TooManyAttempts("Three codes were mailed within the last hour. Please wait before asking for another.")
    code_id, code, nonce = secrets.token_hex(16), f"{secrets.randbelow(1_000_000):06}", secrets.token_urlsafe(24)
    row = CodeRow(
        id=code_id,
        letter_id=letter_id,
        choice=choice,
        state="live",
        tries=0,
        code_digest=links.code_digest(code_id, code),
        nonce_digest=token_digest(nonce),
        asked_at=now,
        expires_at=min(now + LIFE, until),
    )
    return Made(row, code, nonce)


async def check(links: Links, letter_id: str, choice: str, code: str, nonce: str, now: datetime) -> Identified:
    """Check a mailed code, taking one of its tries. The code is used up by the step that takes the result.

    Raises WrongCode for a wrong, foreign, replaced or expired code or nonce, Locked when that was the last try.
    """
    row = await outbox.live_code(letter_id)
    if row is None or row.choice != choice or now >= row.expires_at:
        raise WrongCode
    if not hmac.compare_digest(row.nonce_digest, token_digest(nonce)):
        raise WrongCode("This form is no longer valid. Please begin again.")
    # The try is taken before the comparison, so that parallel guesses cannot share one.
    taken = await outbox.count_try(row.id, TRIES)
    digits = "".join(c for c in code[:32] if c.isdigit() and c.isascii())
    if taken <= TRIES and hmac.compare_digest(row.code_digest, links.code_digest(row.id, digits)):
        return by_mailed_code(letter_id, row.id, now)
    # Only the last wrong try locks: requests that found no try left must not take the code from a right one in flight.
    if taken == TRIES and await outbox.end_code(row.id, "locked"):
        raise Locked
    raise WrongCode("Wrong code. Please check the digits and try again.")
