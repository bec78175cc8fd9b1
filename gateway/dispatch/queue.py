"""The outgoing queue: one loop that leases owed mails, makes one attempt each, and records what the peer said.

An attempt is recorded before its connection; its outcome is settled in one transaction with what follows from it (a window
that begins, a letter that is undeliverable). A peer that vanished after the last dot is tried again under the same Message-ID.
Not here: what a mail says (mails.py), one connection (attempt.py), when to try again (core/retry.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from gateway.core.address import split
from gateway.core.errors import Deferred, OurFault, PliError
from gateway.core.evidence import instant
from gateway.core.letter import Event, State
from gateway.core.retry import next_attempt
from gateway.dispatch.attempt import attempt
from gateway.dispatch.dkim import Signer
from gateway.dispatch.lease import holder, is_dead
from gateway.dispatch.mails import Rendered, Scribe
from gateway.dispatch.route import Router
from gateway.office import Office
from gateway.postoffice import CODE, NOTICE, ORIGINAL, REMINDER, PostOffice
from gateway.register import Settled, Stale
from storage import outbox
from storage.rows import IntentRow, LetterRow

_log = structlog.get_logger("queue")
_LEASE = timedelta(seconds=60)
_BEAT = 5.0
"""Seconds between extensions of the leases that are worked on: several may fail, and the lease still holds."""
_PAUSE = 5.0
"""Seconds between looks at the table when nothing wakes the loop: a command or another process may have made mails owed."""
_AFTER_FAULT = timedelta(seconds=20)
_AGAIN = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds before another try to record how a mail ended: what is not recorded would be sent again."""
TAKEN, TEMPORARY, PERMANENT = "taken", "temporary", "permanent"


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended. at: when the peer answered."""

    verdict: str  # taken, temporary, permanent, unknown
    at: datetime
    facts: dict[str, Any]


@dataclass
class Queue:
    office: Office
    postoffice: PostOffice
    scribe: Scribe
    signer: Signer
    router: Router
    pause: float = _PAUSE
    _owner: str = field(default_factory=holder)
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _loops: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, *, alone: bool) -> None:
        """alone: no other process shares the database, so what is leased was leased by one that died."""
        if alone:
            await outbox.release_leases()
        register = self.office.register
        register.database.listen(register.changed.set)
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(self._run(), name="queue"), loop.create_task(self._hold(), name="leases")]

    async def stop(self, grace: float = 10.0) -> None:
        for task in self._loops[:1]:
            await _ended(task)
        if self._busy:
            _, late = await asyncio.wait(self._busy.values(), timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for task in self._loops[1:]:
            await _ended(task)
        with contextlib.suppress(Exception):  # a database that is away: the leases run out by themselves
            await outbox.release_leases(self._owner)

    async def _hold(self) -> None:
        """Keep the leases of what is worked on here, and free those of processes that died."""
        while True:
            try:
                for owner in await outbox.lease_owners():
                    if is_dead(owner):
                        freed = await outbox.release_leases(owner)
                        _log.warning("leases of a dead process freed", owner=owner, mails=freed)
                        self.office.register.changed.set()
                if self._busy:
                    await outbox.extend(list(self._busy), self._owner, self.office.clock.now() + _LEASE)
            except Exception as error:  # noqa: BLE001 - a database that is away: the next beat tries again
                _log.error("leases not kept", error=type(error).__name__, detail=str(error))
            await asyncio.sleep(_BEAT)

    @property
    def idle(self) -> bool:
        return not self._busy

    async def _run(self) -> None:
        changed = self.office.register.changed
        while True:
            changed.clear()
            try:
                claimed = await self._claim()
                # A full queue need not know what is due: the end of a mail wakes it.
                wait = 0.0 if claimed else self.pause if self._full else await self._until_next()
            except Exception as error:  # noqa: BLE001 - a database that is away must not end the queue
                _log.error("queue cannot look for work", error=type(error).__name__, detail=str(error))
                wait = 5.0
            if wait or self._full:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), max(wait, 0.05))

    @property
    def _full(self) -> bool:
        return len(self._busy) >= self.office.settings.dispatch.concurrency

    async def _claim(self) -> int:
        room = self.office.settings.dispatch.concurrency - len(self._busy)
        if room <= 0:
            return 0
        now = self.office.clock.now()
        found = await outbox.claim(self.office.vault, now, now + _LEASE, self._owner, room)
        # A clock that jumps (the demo's) may end a lease that is still worked on here.
        fresh = [intent for intent in found if intent.id not in self._busy]
        for intent in fresh:
            task = asyncio.get_running_loop().create_task(self._work(intent), name=f"mail {intent.id}")
            self._busy[intent.id] = task
            task.add_done_callback(partial(self._done, intent.id))
        return len(fresh)

    def _done(self, intent_id: str, _: asyncio.Task[None]) -> None:
        self._busy.pop(intent_id, None)
        self.office.register.changed.set()

    async def _until_next(self) -> float:
        now = self.office.clock.now()
        due = await outbox.next_due(now)
        if due is None:
            return self.pause
        # What is due and was not claimed waits for another mail, whose end wakes the loop.
        return min(self.pause, max(0.5, (due - now).total_seconds()))

    # -- one mail -----------------------------------------------------------------------------------------------------

    async def _work(self, intent: IntentRow) -> None:
        try:
            await self._send(intent)
        except Exception as error:  # noqa: BLE001 - our own failure: the mail stays owed
            detail = error.detail or str(error) if isinstance(error, PliError) else str(error)
            _log.error(
                "mail put back", letter=intent.letter_id, kind=intent.kind, error=type(error).__name__, detail=detail
            )
            with contextlib.suppress(Exception):  # a database that is away: the lease runs out by itself
                again = self.office.clock.now() + _AFTER_FAULT
                await outbox.postpone(intent.id, self._owner, again, outbox.OUR_FAULT)

    async def _send(self, intent: IntentRow) -> None:
        register, now = self.office.register, self.office.clock.now()
        row = await register.letter(id=intent.letter_id)
        if row is None or _pointless(intent, row, now):
            await outbox.settle(intent.id, outbox.CANCELLED, "cancelled", now)
            return
        mail = await self.scribe.render(intent, row, now)
        signed = await asyncio.to_thread(self.signer.sign, mail.message, mail.domain, now)
        attempt_id = secrets.token_hex(16)
        if mail.last_day is not None:
            await register.print_last_day(row.id, mail.last_day)
        digest = hashlib.sha256(signed).hexdigest()
        if not await outbox.begin(self.office.vault, attempt_id, intent.id, self._owner, now, digest, mail.last_day):
            _log.warning("mail left to another process", letter=row.id, kind=intent.kind)
            return
        result = await self._deliver(intent, mail, signed)
        _log.info("mail", letter=row.id, kind=intent.kind, verdict=result.verdict, host=result.facts.get("host"))
        await self._settle(intent, attempt_id, result)

    async def _deliver(self, intent: IntentRow, mail: Rendered, message: bytes) -> Result:
        _, domain = split(mail.to)
        try:
            hosts = await self.router.hosts(domain)
        except PliError as error:
            at = self.office.clock.now()
            verdict = TEMPORARY if isinstance(error, Deferred) else PERMANENT
            return Result(verdict, at, {"host": None, "reason": error.smtp_reply, "ended_at": instant(at)})
        outcome = await attempt(
            hosts,
            mail_from=self.office.returns.make(intent.id),
            rcpt_to=mail.to,
            message=message,
            local_hostname=self.office.settings.gateway.notice_domain,
            ca=self.office.settings.dispatch.ca,
            clock=self.office.clock,
        )
        return Result(outcome.verdict.value, outcome.ended, outcome.facts())

    async def _settle(self, intent: IntentRow, attempt_id: str, result: Result) -> None:
        tried = intent.attempts + 1
        if result.verdict not in (TAKEN, PERMANENT):
            # random: spreads retries, guards nothing
            again = next_attempt(intent.kind, tried, intent.created_at, result.at, random.random())  # noqa: S311
            if again is not None:
                await outbox.end(self.office.vault, attempt_id, result.at, result.verdict, result.facts)
                await outbox.postpone(intent.id, self._owner, again, result.verdict)
                return
        state = outbox.DONE if result.verdict == TAKEN else outbox.FAILED
        settled = Settled(intent.id, attempt_id, result.verdict, result.facts, state)
        for pause in _AGAIN:
            await asyncio.sleep(pause)
            if await self._recorded(intent, settled, result.at, tried):
                break
        else:
            raise OurFault(detail=f"the end of a mail could not be recorded: {result.verdict}")
        if intent.kind == CODE:
            await outbox.erase_details(self.office.vault, intent.id)

    async def _recorded(self, intent: IntentRow, settled: Settled, at: datetime, tried: int) -> bool:
        """Record the end of a mail; False where that is to be tried again."""
        try:
            row = await self.office.register.letter(id=intent.letter_id)
            try:
                if row is not None:
                    await self._conclude(intent, row, settled, at, tried)
            except Stale:
                # The letter moved while the mail was on its way: decide again. Or the mail was settled by a process that
                # took it over: then this attempt changed nothing, and is told for completeness.
                if not await outbox.is_settled(intent.id):
                    return False
                await outbox.end(self.office.vault, settled.attempt_id, at, settled.verdict, settled.facts)
            return True
        except Exception as error:  # noqa: BLE001 - a database that is away may come back before the lease ends
            _log.error(
                "end of a mail not recorded", letter=intent.letter_id, error=type(error).__name__, detail=str(error)
            )
            return False

    async def _conclude(self, intent: IntentRow, row: LetterRow, settled: Settled, at: datetime, tried: int) -> None:
        taken = settled.state == outbox.DONE
        if intent.kind == NOTICE and taken:
            await self.postoffice.notice_taken(row, at, settled)
        elif intent.kind == NOTICE:
            await self.postoffice.notice_failed(row, at, settled, tried)
        elif intent.kind == REMINDER and taken:
            await self.postoffice.reminder_taken(row, at, settled, int(intent.details["number"]))
        else:
            fact = Event.ORIGINAL_MAILED if intent.kind == ORIGINAL and taken else None
            await self.postoffice.mail_settled(row, settled, fact, at)
        if not taken:
            _log.warning("mail given up", letter=row.id, kind=intent.kind, verdict=settled.verdict)


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel until it ends: Python 3.11's wait_for forgets a cancellation that comes together with what it waits for."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)


def _pointless(intent: IntentRow, row: LetterRow, now: datetime) -> bool:
    """The letter moved on and this mail lost its reason before it left."""
    if intent.kind == NOTICE:
        return row.state != State.DEPOSITED
    if intent.kind == REMINDER:
        return row.state != State.NOTIFIED or row.closes_at is None or now >= row.closes_at
    if intent.kind == CODE:
        return "code" not in intent.details or instant(now) >= str(intent.details["expires_at"])
    return False
