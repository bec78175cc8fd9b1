"""The recipient's side of the post office: the Counter that the portal talks to.

Looking changes nothing; a choice mails a code; a right code makes the decision; only an identified session sees the letter.
Not here: pages and cookies (web/portal), what a decision leads to (postoffice.py), codes (identity/).
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway.archive import Archive
from gateway.core.errors import (
    NotAllowed,
    NotFound,
    NotIdentified,
    OurFault,
    PliError,
    Refused,
    TooManyAttempts,
    WindowClosed,
    WrongCode,
)
from gateway.core.evidence import instant
from gateway.core.letter import Event, State
from gateway.counter import CHOICES, Asked, Content, Decided, NotHandedOver, Showing, Visitor
from gateway.faults import ours
from gateway.identity import codes
from gateway.links import token_digest, typed
from gateway.office import Office
from gateway.postoffice import CODE, ORIGINAL, PostOffice, network
from gateway.register import Entry, Mail, Move, Stale
from storage import outbox
from storage.rows import IntentRow, LetterRow

_log = structlog.get_logger("counter")
_UNKNOWN = frozenset({State.HELD, State.WITHDRAWN, State.DISCARDED})
"""States whose letter no recipient has heard of."""
_OPENED = frozenset({State.ACCEPTED, State.HANDED_OVER})
_SESSION = timedelta(hours=12)
_MOST_FETCHES = 20
_MOST_DOWNLOADS = 50
_MOST_FAILURES = 20
_MOST_ORIGINALS = 5
"""Mails of one letter's original, of which all but the last failed for good."""
_GUESSES = 20
_FORM, _ORIGINAL_FORM = "form", "original"
"""Purposes of form nonces. The second stands on the letter's own page alone, so nobody has one from before his decision."""
_BAD_FORM = "This form is no longer valid. Please go back to the letter's page and try again."


@dataclass
class Guesses:
    """Wrong references and access codes per visitor address, within an hour; in memory, bounded."""

    wrong: dict[str, list[datetime]] = field(default_factory=dict)

    def check(self, who: str, now: datetime) -> None:
        recent = [at for at in self.wrong.get(who, []) if now - at < timedelta(hours=1)]
        if len(recent) >= _GUESSES:
            raise TooManyAttempts
        if recent:
            self.wrong[who] = recent
        else:
            self.wrong.pop(who, None)

    def add(self, who: str, now: datetime) -> None:
        if len(self.wrong) > 10_000:
            self.wrong.pop(next(iter(self.wrong)))
        self.wrong.setdefault(who, []).append(now)


@dataclass(frozen=True)
class RecipientCounter:
    """Implements gateway.counter.Counter."""

    office: Office
    postoffice: PostOffice
    archive: Archive
    guesses: Guesses = field(default_factory=Guesses)

    @ours
    async def find(self, reference: str, access_code: str, visitor: Visitor) -> str:
        now = self.office.clock.now()
        self.guesses.check(visitor.address, now)
        row = await self.office.register.letter(reference=typed(reference))
        known = row is not None and row.state not in _UNKNOWN
        letter_id, generation = (row.id, row.generation) if row is not None and known else ("0" * 32, 0)
        right = hmac.compare_digest(self.office.links.access_code(letter_id, generation), typed(access_code))
        if not (known and right):
            self.guesses.add(visitor.address, now)
            raise NotFound("No letter has this reference and access code. Please compare them with your notice.")
        return self.office.links.token(letter_id, generation)

    @ours
    async def show(self, token: str, visitor: Visitor) -> Showing:
        row = await self._row(token)
        await self._bounded_fact(row, Event.LINK_FETCHED, _MOST_FETCHES, {"method": visitor.method}, visitor)
        return self._showing(row, token)

    @ours
    async def choose(self, token: str, choice: str, nonce: str, visitor: Visitor) -> Asked | Showing:
        # The POST is the request time (DESIGN.md 3), however often we have to begin again.
        now = self.office.clock.now()
        self._check_form(token, nonce)
        if choice not in CHOICES:
            raise Refused("Please choose to accept or to refuse.")
        for _ in range(5):
            row = await self._row(token)
            if choice != "read" and row.decision is not None:
                return self._showing(row, token)
            try:
                return await self._ask(row, token, choice, now, visitor)
            except Stale:
                continue
        raise OurFault(detail="the letter kept changing")

    @ours
    async def decide(self, token: str, choice: str, code: str, nonce: str, visitor: Visitor) -> Decided:
        now = self.office.clock.now()
        row = await self._row(token)
        if choice != "read" and row.decision is not None:
            return Decided(self._showing(row, token), None, first=False)
        if choice != "read":
            _check_open(row, now)
        try:
            identified = await codes.check(self.office.links, row.id, choice, code, nonce, now)
            if choice == "read":
                if not await outbox.end_code(identified.code_id, "used"):
                    raise WrongCode
            elif choice == "accept":
                await self.postoffice.accept(row, identified, now, visitor)
            else:
                await self.postoffice.refuse(row, identified, now, visitor)
        except (Stale, WrongCode) as error:
            return await self._not_first(token, choice, error, visitor)
        session = await self._open_session(row, identified.facts(), now)
        return Decided(self._showing(await self._row(token), token), session, first=True)

    @ours
    async def content(self, token: str, session: str, visitor: Visitor, *, whole: bool = True) -> Content:
        row, now = await self._row(token), self.office.clock.now()
        await self._session(row, session, now)
        _check_opened(row, handed_over=not whole)
        deposit, raw = await self.archive.original(row, row.id)
        subject = row.details["subject"]
        return Content(
            showing=self._showing(row, token),
            sender_name=subject["sender"]["name"],
            sender_address=subject["sender"]["address"],
            subject=deposit.details["subject"],
            deposited_at=row.deposited_at or row.created_at,
            sha256=deposit.details["sha256"],
            size=deposit.size,
            raw=raw,
            original=_so_far(await self._originals(row)),
            nonce=self.office.links.nonce(token, _ORIGINAL_FORM, now),
        )

    @ours
    async def handed_over(self, token: str, session: str, form: str, began: datetime, visitor: Visitor) -> None:
        for _ in range(5):
            row, now = await self._row(token), self.office.clock.now()
            # Who was identified when it began has the letter, even where his session ended on the way.
            identified = await self._session(row, session, began)
            if row.state == State.HANDED_OVER:
                facts = {"form": form}
                return await self._bounded_fact(row, Event.DOWNLOAD_REPEATED, _MOST_DOWNLOADS, facts, visitor)
            try:
                return await self.postoffice.hand_over(row, identified, form, began, now, visitor)
            except Stale:
                continue
        raise OurFault(detail="the letter kept changing")

    @ours
    async def hand_over_failed(
        self, token: str, session: str, form: str, sent: int, total: int, visitor: Visitor
    ) -> None:
        row, now = await self._row(token), self.office.clock.now()
        await self._session(row, session, now)
        if row.state == State.ACCEPTED and await self._count(row, Event.HAND_OVER_FAILED) < _MOST_FAILURES:
            await self.postoffice.hand_over_failed(row, form, sent, total, now, visitor)

    @ours
    async def mail_original(self, token: str, session: str, nonce: str, visitor: Visitor) -> Showing:
        self._check_form(token, nonce, _ORIGINAL_FORM)
        row, now = await self._row(token), self.office.clock.now()
        await self._session(row, session, now)
        _check_opened(row, handed_over=True)
        mailed = await self._originals(row)
        if _so_far(mailed) in ("none", "failed"):
            if len(mailed) >= _MOST_ORIGINALS:
                raise TooManyAttempts("The original could not be mailed, several times over.")
            # A Stale says that the same form was sent twice, and that the other one was faster.
            with suppress(Stale):
                await self.postoffice.mail_original(row, len(mailed) + 1, now)
        return self._showing(row, token)

    @ours
    async def receipt(self, token: str, session: str) -> bytes:
        row = await self._row(token)
        await self._session(row, session, self.office.clock.now())
        if row.state == State.ACCEPTED:
            raise NotHandedOver
        return await self.archive.receipt(row)

    # -- steps --------------------------------------------------------------------------------------------------------

    async def _ask(self, row: LetterRow, token: str, choice: str, now: datetime, visitor: Visitor) -> Asked:
        if choice == "read":
            if row.decision is None:
                raise NotAllowed("No decision has been made yet.")
            asked_at, until = now, now + codes.LIFE
            columns: dict[str, Any] = {}
        else:
            asked_at, until = self._time_for(row, now)
            columns = {"asked_at": asked_at, "open_until": until}
        closes_at = None if choice == "read" else row.closes_at
        made = await codes.make(self.office.links, row.id, choice, now, until, closes_at)
        facts = {"choice": choice, "asked_at": instant(asked_at), "open_until": instant(until)}
        entry = Entry(Event.CODE_SENT, State(row.state), now, facts, network(visitor))
        details = {"code": made.code, "choice": choice, "expires_at": instant(made.row.expires_at)}
        message_id = self.office.message_id(to_recipient=True)
        mail = Mail(CODE, message_id, now, key=made.row.id, details=details)
        await self.office.register.commit([Move(row, [entry], columns, [mail], code_made=made.row, exact=True)])
        fresh = await self._row(token)
        return Asked(self._showing(fresh, token), choice, made.nonce, made.row.expires_at)

    def _time_for(self, row: LetterRow, now: datetime) -> tuple[datetime, datetime]:
        """When a choice posted *now* counts as asked for, and until when it may be completed (DESIGN.md 3)."""
        if row.state == State.DEPOSITED:
            raise NotAllowed("Your notice is still on its way. Please try again in a few minutes.")
        window = self.postoffice.stored_window(row) if row.state == State.NOTIFIED else None
        if window is None:
            raise WindowClosed
        if now < window.closes_at:
            return now, self.office.profile.open_until(now, window)
        # A choice posted in time whose code did not arrive: another code, within the same hour.
        if row.asked_at is not None and row.open_until is not None and now < row.open_until:
            return row.asked_at, row.open_until
        raise WindowClosed

    async def _not_first(self, token: str, choice: str, error: PliError, visitor: Visitor) -> Decided:
        """A decision form that decided nothing: an earlier decision is shown, else the error is the visitor's answer."""
        row = await self._row(token)
        if isinstance(error, codes.Locked):
            await self._bounded_fact(row, Event.CODE_LOCKED, _MOST_FETCHES, {"choice": choice}, visitor)
        if choice != "read" and row.decision is not None:
            return Decided(self._showing(row, token), None, first=False)
        if isinstance(error, Stale):
            raise WrongCode from error
        raise error

    async def _open_session(self, row: LetterRow, identified: dict[str, Any], now: datetime) -> str:
        secret = secrets.token_urlsafe(32)
        await outbox.add_session(self.office.vault, token_digest(secret), row.id, now, now + _SESSION, identified)
        return secret

    async def _session(self, row: LetterRow, secret: str, at: datetime) -> dict[str, Any]:
        found = await outbox.session(self.office.vault, token_digest(secret), row.id, at)
        if found is None:
            raise NotIdentified
        return found

    async def _row(self, token: str) -> LetterRow:
        row = await self.office.register.letter(token_digest=token_digest(token)) if len(token) <= 64 else None
        if row is None or row.state in _UNKNOWN:
            raise NotFound
        return row

    async def _bounded_fact(
        self, row: LetterRow, event: Event, most: int, facts: dict[str, Any], visitor: Visitor
    ) -> None:
        """Record a fact at most so many times; looking must work even where nothing can be written."""
        try:
            if await self._count(row, event) < most:
                await self.postoffice.fact(row, event, self.office.clock.now(), facts, visitor)
        except PliError as error:
            _log.warning("fact not recorded", letter=row.id, fact=event.value, error=error.detail or str(error))

    async def _count(self, row: LetterRow, event: Event) -> int:
        return sum(found is event for _, found in await self.office.register.events(row.id))

    async def _originals(self, row: LetterRow) -> list[IntentRow]:
        """The mails with the original, oldest first."""
        return await outbox.intents(self.office.vault, letter_id=row.id, kind=ORIGINAL)

    def _check_form(self, token: str, nonce: str, purpose: str = _FORM) -> None:
        if not self.office.links.nonce_holds(nonce, token, purpose, self.office.clock.now()):
            raise WrongCode(_BAD_FORM)

    def _showing(self, row: LetterRow, token: str) -> Showing:
        now = self.office.clock.now()
        in_time = row.closes_at is not None and now < row.closes_at
        return Showing(
            reference=row.reference,
            language=row.language,
            recipient=masked(row.details["recipient"]["address"]),
            state=State(row.state),
            profile_level=self.office.profile.level,
            notice_day=row.notice_day,
            last_day=row.last_day,
            closes_at=row.closes_at,
            zone=row.details["zone"],
            open=row.state == State.NOTIFIED and in_time,
            decision=row.decision,
            decided_at=row.decided_at,
            nonce=self.office.links.nonce(token, _FORM, now),
        )


def _check_open(row: LetterRow, now: datetime) -> None:
    """A choice may still be completed, or the visitor learns which of two things ended it."""
    if row.state != State.NOTIFIED or row.closes_at is None:
        raise WindowClosed
    if now >= row.closes_at and (row.open_until is None or now >= row.open_until):
        raise WindowClosed


def _check_opened(row: LetterRow, *, handed_over: bool) -> None:
    """The letter is its recipient's: accepted, or handed over already where that is asked for."""
    if row.state not in _OPENED:
        raise NotAllowed("This letter was not accepted.")
    if handed_over and row.state != State.HANDED_OVER:
        raise NotHandedOver


def _so_far(mails: list[IntentRow]) -> str:
    """What came of mailing the original; one that failed for good gives way to the next."""
    states = {mail.state for mail in mails}
    if not states:
        return "none"
    if states == {outbox.FAILED}:
        return "failed"
    return "mailed" if outbox.DONE in states else "owed"


def masked(address: str) -> str:
    """j•••@example.org: enough to recognise one's own mailbox, and no more."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"
