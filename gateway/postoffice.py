"""The post office: the verbs of a letter's life. Every edge (SMTP, portal, timers, commands) calls these and nothing deeper.

Each verb decides by core/letter.py and core/profile.py, says what becomes evidence and which mails are owed, and hands one
step to the register. Not here: how a deposit is understood (deposits.py), sending (dispatch/), identification (identity/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.errors import NotAllowed
from gateway.core.evidence import instant, parse_record
from gateway.core.letter import FACTS, Event, Letter, State, after
from gateway.core.profile import Window
from gateway.counter import Visitor
from gateway.identity.identified import Identified
from gateway.office import Office
from gateway.register import Entry, Mail, Move, Settled, Stale
from storage.rows import LetterRow

NOTICE, REMINDER, STATUS, CODE, RECEIPT, ORIGINAL = "notice", "reminder", "status", "code", "receipt", "original"
UNSENT = (NOTICE, REMINDER, CODE)
"""Mails to the recipient that lose their reason when a letter's wait ends."""


def view(row: LetterRow) -> Letter:
    """What core/letter.py needs to know of a stored letter."""
    return Letter(State(row.state), row.closes_at, row.asked_at, row.open_until)


def window_facts(row: LetterRow) -> dict[str, Any]:
    """The window as it stands in records; empty before the first notice was taken."""
    if row.notice_day is None or row.last_day is None or row.closes_at is None:
        return {}
    zone = row.details["zone"]
    return {
        "notice_day": row.notice_day.isoformat(),
        "last_day": row.last_day.isoformat(),
        "closes_at": instant(row.closes_at),
        "zone": zone,
    }


def network(visitor: Visitor | None) -> dict[str, Any] | None:
    """A visitor's network facts, for the evidence body alone (DESIGN.md 6)."""
    return None if visitor is None else {"address": visitor.address, "agent": visitor.agent[:500]}


@dataclass(frozen=True)
class PostOffice:
    office: Office

    # -- mails that were sent -----------------------------------------------------------------------------------------

    async def notice_taken(self, row: LetterRow, at: datetime, settled: Settled) -> None:
        """The recipient's server answered 250 to a notice: the window begins (CPCE R.53-3 I)."""
        if row.state != State.DEPOSITED:
            return await self._settle_only(row, settled)
        window = self.office.profile.window(at, row.printed_last_day)
        reminders = [when for when in self.office.profile.reminders_due(window) if when > at]
        columns = {
            "notice_day": window.day,
            "last_day": window.last_day,
            "closes_at": window.closes_at,
            "proof_due_at": window.proof_due_at,
            "next_reminder_at": reminders[0] if reminders else None,
            "notices_taken": row.notices_taken + 1,
        }
        facts = {
            "notice_day": window.day.isoformat(),
            "last_day": window.last_day.isoformat(),
            "closes_at": instant(window.closes_at),
            "proof_due_at": instant(window.proof_due_at),
            "zone": row.details["zone"],
            "attempt": settled.facts,
        }
        entry = self._entry(row, Event.NOTICE_TAKEN, at, facts)
        return await self._commit(Move(row, [entry], columns, [self._status(at)], settled=settled))

    async def notice_failed(self, row: LetterRow, at: datetime, settled: Settled, attempts: int) -> None:
        """The notice was refused for good, or ran out of retries."""
        if row.state != State.DEPOSITED:
            return await self._settle_only(row, settled)
        facts = {"attempts": attempts, "attempt": settled.facts}
        entry = self._entry(row, Event.NOTICE_FAILED, at, facts)
        return await self._commit(Move(row, [entry], {}, [self._status(at)], cancel=UNSENT, settled=settled))

    async def reminder_taken(self, row: LetterRow, at: datetime, settled: Settled, number: int) -> None:
        if row.state != State.NOTIFIED:
            return await self._settle_only(row, settled)
        columns = {"notices_taken": row.notices_taken + 1}
        entry = self._entry(row, Event.REMINDER_TAKEN, at, {"number": number, "attempt": settled.facts})
        return await self._commit(Move(row, [entry], columns, settled=settled, exact=True))

    async def mail_settled(self, row: LetterRow, settled: Settled, fact: Event | None, at: datetime) -> None:
        """Any other mail came to its end; *fact* is recorded where that is evidence (the original mailed)."""
        entries = [] if fact is None else [self._entry(row, fact, at, {"attempt": settled.facts})]
        await self._retry_facts(row, entries, settled)

    async def bounced(
        self, row: LetterRow, at: datetime, intent_id: str, bounce: Mapping[str, Any], peer: Mapping[str, Any]
    ) -> None:
        """Somebody reported that a notice or reminder came back after its 250; nothing proves who that was.

        peer: where the report came from, for a court alone. Each mail counts once; before and after the wait it is no event.
        """
        if row.state != State.NOTIFIED:
            return
        closes = self.office.profile.late_bounce == "close"
        event, facts = Event.BOUNCE_CLOSES if closes else Event.BOUNCE, {"bounce": dict(bounce), "authenticated": False}
        entry = self._entry(row, event, at, facts, {"peer": dict(peer)})
        columns = {"notices_bounced": row.notices_bounced + 1}
        cancel = UNSENT if closes else ()
        mails = [self._status(at)]
        await self._commit(Move(row, [entry], columns, mails, cancel=cancel, bounced=intent_id, exact=True))

    # -- the recipient ------------------------------------------------------------------------------------------------

    async def accept(self, row: LetterRow, identified: Identified, at: datetime, visitor: Visitor) -> None:
        await self._decide(row, identified, Event.ACCEPT, at, visitor)

    async def refuse(self, row: LetterRow, identified: Identified, at: datetime, visitor: Visitor) -> None:
        await self._decide(row, identified, Event.REFUSE, at, visitor)

    async def _decide(
        self, row: LetterRow, identified: Identified, event: Event, at: datetime, visitor: Visitor
    ) -> None:
        if row.asked_at is None or row.open_until is None:
            raise NotAllowed(detail="no choice was asked for")
        facts = {
            "asked_at": instant(row.asked_at),
            "open_until": instant(row.open_until),
            "identification": identified.facts(),
            **window_facts(row),
        }
        entry = self._entry(row, event, at, facts, network(visitor))
        mails = [self._status(at)]
        if event is Event.REFUSE:
            mails.append(self._to_recipient(RECEIPT, at))
        columns = {"decision": event.value, "decided_at": at, "next_reminder_at": None}
        await self._commit(Move(row, [entry], columns, mails, cancel=UNSENT, code_used=identified.code_id))

    async def hand_over(
        self, row: LetterRow, identified: Mapping[str, Any], form: str, began: datetime, at: datetime, visitor: Visitor
    ) -> None:
        """The last byte of *form* (page, eml, zip), asked for at *began*, went to the identified recipient: his reception."""
        if row.state == State.HANDED_OVER:
            return await self.fact(row, Event.DOWNLOAD_REPEATED, at, {"form": form}, visitor)
        accepted = instant(row.decided_at) if row.decided_at else None
        facts = {"form": form, "accepted_at": accepted, "identification": dict(identified), **window_facts(row)}
        entries = [
            self._entry(row, Event.CONSIGN, at, {"form": form, "began_at": instant(began)}),
            self._entry(row, Event.HAND_OVER, at, facts, network(visitor)),
        ]
        mails = [self._status(at), self._to_recipient(RECEIPT, at)]
        return await self._commit(Move(row, entries, {"handed_over_at": at}, mails))

    async def hand_over_failed(
        self, row: LetterRow, form: str, sent: int, total: int, at: datetime, visitor: Visitor
    ) -> None:
        """The connection ended before the last byte. sent: octets given to it, of which the peer may have taken fewer."""
        if row.state == State.ACCEPTED:
            facts = {"form": form, "sent": sent, "total": total}
            entry = self._entry(row, Event.HAND_OVER_FAILED, at, facts, network(visitor))
            await self._retry_facts(row, [entry], None)

    async def mail_original(self, row: LetterRow, number: int, at: datetime) -> None:
        """Queue the original to the recipient's own mailbox, for the *number*-th time (once, unless that mail failed for good).

        That is a fact, and never the hand-over, which comes before it (DESIGN.md 3). Raises NotAllowed, Stale.
        """
        if row.state != State.HANDED_OVER:
            raise NotAllowed
        mail = Mail(ORIGINAL, self.office.message_id(to_recipient=True), at, key=str(number))
        await self._commit(Move(row, [], {}, [mail]))

    async def fact(
        self, row: LetterRow, event: Event, at: datetime, facts: Mapping[str, Any], visitor: Visitor | None
    ) -> None:
        """Record something that moves nothing."""
        await self._retry_facts(row, [self._entry(row, event, at, facts, network(visitor))], None)

    # -- time ---------------------------------------------------------------------------------------------------------

    async def remind(self, row: LetterRow, at: datetime) -> None:
        """Queue the next reminder and set the one after it; reminders never move D."""
        if row.notice_day is None:
            raise NotAllowed(detail="no window")
        window = self.stored_window(row)
        number = row.reminders + 1
        later = [when for when in self.office.profile.reminders_due(window) if when > at]
        columns = {"reminders": number, "next_reminder_at": later[0] if later else None}
        mail = Mail(
            REMINDER,
            self.office.message_id(to_recipient=True),
            at,
            key=str(number),
            details={"number": number},
        )
        await self._commit(Move(row, [], columns, [mail]))

    async def lapse(self, row: LetterRow, at: datetime) -> None:
        """The window closed without a decision: non-claim, or non-delivery where every notice came back."""
        unreached = row.notices_bounced >= row.notices_taken
        event = Event.LAPSE_UNREACHED if unreached else Event.LAPSE
        facts = {
            **window_facts(row),
            "notices": row.notices_taken,
            "bounced": row.notices_bounced,
            "reminders": row.reminders,
            "attempt": await self._first_notice(row),  # what the recipient's server said on D
        }
        entry = self._entry(row, event, at, facts)
        # Exactly as it was read: a choice posted in time may be on its way into the register at this moment.
        columns, mails = {"next_reminder_at": None}, [self._status(at)]
        await self._commit(Move(row, [entry], columns, mails, cancel=UNSENT, exact=True))

    async def _first_notice(self, row: LetterRow) -> Any:
        """The facts of the attempt that began the window."""
        register = self.office.register
        n = next((n for n, event in await register.events(row.id) if event is Event.NOTICE_TAKEN), None)
        return None if n is None else parse_record(await register.record(row.id, n))["facts"]["attempt"]

    # -- the sender and the operator ----------------------------------------------------------------------------------

    async def discard(self, row: LetterRow, at: datetime, reason: str) -> None:
        entry = self._entry(row, Event.DISCARD, at, {"reason": reason})
        await self._commit(Move(row, [entry], {"hold_until": None}, [self._status(at)]))

    async def release(self, row: LetterRow, at: datetime) -> None:
        """A held letter goes its way as it was understood; the operator vouches for what was missing."""
        entry = self._entry(row, Event.DEPOSIT, at, {**row.details["deposit_facts"], "released": "operator"})
        mails = [self._status(at), self._to_recipient(NOTICE, at)]
        await self._commit(Move(row, [entry], {"hold_until": None, "deposited_at": at}, mails))

    async def withdraw(self, row: LetterRow, at: datetime) -> None:
        entry = self._entry(row, Event.WITHDRAW, at, {})
        columns = {"hold_until": None, "next_reminder_at": None}
        await self._commit(Move(row, [entry], columns, [self._status(at)], cancel=UNSENT))

    # -- the making of steps ------------------------------------------------------------------------------------------

    def _entry(
        self,
        row: LetterRow,
        event: Event,
        at: datetime,
        facts: Mapping[str, Any],
        private: Mapping[str, Any] | None = None,
    ) -> Entry:
        return Entry(event, after(view(row), event, at), at, facts, private)

    def _status(self, at: datetime) -> Mail:
        return Mail(STATUS, self.office.message_id(to_recipient=False), at)

    def _to_recipient(self, kind: str, at: datetime) -> Mail:
        return Mail(kind, self.office.message_id(to_recipient=True), at)

    async def _commit(self, step: Move) -> None:
        await self.office.register.commit([step])

    async def _settle_only(self, row: LetterRow, settled: Settled) -> None:
        await self._retry_facts(row, [], settled)

    async def _retry_facts(self, row: LetterRow, entries: list[Entry], settled: Settled | None) -> None:
        """Commit what moves nothing; where the letter moved meanwhile, say the same of its new state."""
        for _ in range(5):
            try:
                return await self._commit(Move(row, entries, settled=settled))
            except Stale:
                fresh = await self.office.register.letter(id=row.id)
                if fresh is None or fresh.state == row.state:
                    raise
                row = fresh
                entries = [
                    Entry(e.event, State(row.state), e.at, e.facts, e.private) for e in entries if e.event in FACTS
                ]
        raise Stale

    def stored_window(self, row: LetterRow) -> Window:
        if row.notice_day is None or row.last_day is None or row.closes_at is None or row.proof_due_at is None:
            raise NotAllowed(detail="no window")
        return Window(row.notice_day, row.last_day, row.closes_at, row.proof_due_at, row.details["zone"])
