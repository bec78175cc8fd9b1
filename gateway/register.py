"""The register: the one writer of letters and evidence, and the reader that the rest of the gateway asks.

A step changes a letter's state by compare-and-set, adds its evidence and the mails it makes owed, in one transaction. Steps that
arrive together share a transaction and its sync, deposits even their statements; a failed step fails alone.
Not here: what may happen (core/letter.py), what it means (postoffice.py), message bytes (storage/blobs.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.core.errors import NotAllowed, PliError
from gateway.core.evidence import Place
from gateway.core.letter import Event, State
from gateway.core.merkle import tree_hash
from gateway.faults import fault
from gateway.steps import (
    Deposited,
    Entry,
    Mail,
    Move,
    Opening,
    Rejected,
    Settled,
    Step,
    about,
    evidence_of,
    intents_of,
    keys_of,
    lock_order,
    owes_mail,
)
from storage import ledger, letters, outbox, triggers
from storage.bulk import Rows, commit, insert
from storage.database import Conflict, Database, Failure
from storage.rows import Body, DepositRow, LedgerRow, LetterRow, NewEvidence

__all__ = [
    "Deposited",
    "Entry",
    "Exists",
    "Mail",
    "Move",
    "Opening",
    "Register",
    "Rejected",
    "Settled",
    "Stale",
    "Step",
]

_log = structlog.get_logger("register")
_MOST = 64
"""Steps that share one transaction."""


class Stale(NotAllowed):
    """Somebody was faster: the letter, the code or the mail is no longer what the step was decided on."""


class Exists(NotAllowed):
    """The deposit, or a letter in it, is in the register already."""


@dataclass
class Register:
    """See the module. Make it after the database is open, in the loop that will use it."""

    database: Database
    clock: Clock
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after every commit; whoever waits for work clears it."""
    _waiting: list[tuple[Step, asyncio.Future[None]]] = field(default_factory=list)
    _writer: asyncio.Task[None] | None = None

    async def commit(self, steps: Sequence[Step]) -> None:
        """Make *steps* durable, each whole or not at all. Raises the first failure, after all have been tried.

        Stale and Exists say that the world had moved on; OurFault and StorageFull that the database failed.
        """
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in steps]
        self._waiting.extend(zip(steps, futures, strict=True))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write_all())
        # A caller that goes away takes only its futures with it: the writer's task is its own.
        if len(futures) == 1:
            await futures[0]
            return
        for result in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _batch_of(self) -> list[tuple[Step, asyncio.Future[None]]]:
        """The next steps that share a transaction: deposits with deposits, which are many and short, and others with others."""
        deposits = isinstance(self._waiting[0][0], Deposited)
        batch = [entry for entry in self._waiting if isinstance(entry[0], Deposited) is deposits][:_MOST]
        if len(batch) == len(self._waiting):
            self._waiting.clear()
        else:
            taken = set(map(id, batch))
            self._waiting[:] = [entry for entry in self._waiting if id(entry) not in taken]
        return batch

    async def _write_all(self) -> None:
        while self._waiting:
            batch = self._batch_of()
            try:
                failures = await self._write([step for step, _ in batch])
            except Exception as error:  # noqa: BLE001 - the commit itself failed: nobody's step is durable
                _log.error("commit failed", error=type(error).__name__, detail=str(error))
                failures = [fault(error) for _ in batch]
            self.changed.set()
            if any(owes_mail(step) for step, _ in batch):
                self.database.notify()
            for (_, future), failure in zip(batch, failures, strict=True):
                if future.done():
                    continue  # nobody waits any more
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)

    async def _write(self, steps: Sequence[Step]) -> list[PliError | None]:
        deposits = [step for step in steps if isinstance(step, Deposited)]
        if deposits and len(deposits) == len(steps):
            try:
                await self._together(deposits)
                return [None] * len(steps)
            except (PliError, Failure):
                pass  # nobody can tell whose: once more, one by one
        return await self._one_by_one(steps)

    async def _together(self, steps: Sequence[Deposited]) -> None:
        """Deposits alone, as most of them come: one statement a table for all of them."""
        batch_id = secrets.token_hex(16)
        rows, commitments = self._deposits(steps, batch_id)
        await commit(*rows, self._batch(batch_id, commitments), first=_bytes_of(steps))

    async def _one_by_one(self, steps: Sequence[Step]) -> list[PliError | None]:
        batch_id = secrets.token_hex(16)
        failures: dict[int, PliError | None] = {}
        commitments: list[str] = []
        for write in _bytes_of([step for step in steps if isinstance(step, Deposited)]):
            await asyncio.to_thread(write)
        async with self.database.transaction():
            # In one order in every process: of two transactions that want the same rows, one waits for the other, never both.
            for number in sorted(range(len(steps)), key=lambda number: lock_order(steps[number])):
                failures[number] = await self._alone(steps[number], batch_id, commitments)
            if commitments:
                await insert(self._batch(batch_id, commitments))
        return [failures[number] for number in range(len(steps))]

    def _batch(self, batch_id: str, commitments: Sequence[str]) -> Rows:
        root = tree_hash([bytes.fromhex(c) for c in commitments]).hex()
        return ledger.new_batch(batch_id, self.clock.now(), len(commitments), root)

    async def _alone(self, step: Step, batch_id: str, commitments: list[str]) -> PliError | None:
        """One step in a savepoint of its own; what made it fail."""
        try:
            async with self.database.transaction():
                commitments += await self._one(step, batch_id)
        except PliError as error:
            return error
        except Conflict as error:
            _log.warning("step in conflict", detail=str(error))
            return Exists(detail=str(error)) if isinstance(step, Deposited) else fault(error)
        except Failure as error:
            _log.error("step failed", error=type(error).__name__, detail=str(error))
            return fault(error)
        return None

    async def _one(self, step: Step, batch_id: str) -> list[str]:
        if isinstance(step, Deposited):
            rows, commitments = self._deposits([step], batch_id)
            await insert(*rows)
            return commitments
        if isinstance(step, Rejected):
            made = evidence_of(step.chain, step.subject, None, Place(), [step.entry])
            await insert(*ledger.new_rows(self.database.vault, batch_id, made))
            return [row.commitment for row in made]
        return await self._move(step, batch_id)

    def _deposits(self, steps: Sequence[Deposited], batch_id: str) -> tuple[list[Rows], list[str]]:
        """What deposits write, in one order in every process, and the commitments of their evidence."""
        vault, steps = self.database.vault, sorted(steps, key=lock_order)
        openings = [opening for step in steps for opening in step.letters]
        evidence: list[NewEvidence] = []
        mails: list[outbox.NewIntent] = []
        for opening in openings:
            made = evidence_of(*about(opening.row), Place(), opening.entries)
            evidence += made
            mails += intents_of(opening.row.id, made, opening.mails)
        rows = [
            letters.new_deposits(vault, [step.deposit for step in steps if step.deposit is not None]),
            letters.new_letters(vault, [opening.row for opening in openings]),
            letters.new_bytes([piece for step in steps if step.placed for piece in step.placed.pieces]),
            letters.new_keys(vault, [key for step in steps for key in keys_of(step)]),
            *ledger.new_rows(vault, batch_id, evidence),
            outbox.new_intents(vault, mails, self.clock.now()),
        ]
        return rows, [row.commitment for row in evidence]

    async def _move(self, step: Move, batch_id: str) -> list[str]:
        vault, row, now = self.database.vault, step.letter, self.clock.now()
        state = step.entries[-1].state if step.entries else State(row.state)
        # The compare-and-set comes first: it takes the write lock, so that what follows reads a settled chain.
        length = row.chain_length if step.exact else None
        if not await letters.move(row.id, row.state, state, len(step.entries), step.columns, length):
            raise Stale
        if step.code_used is not None and not await outbox.end_code(step.code_used, "used"):
            raise Stale
        if step.bounced is not None and not await outbox.mark_bounced(step.bounced):
            raise Stale
        if step.settled is not None:
            await self._settle(step.settled)
        made: list[NewEvidence] = []
        if step.entries:
            made = evidence_of(*about(row), Place(tuple(await ledger.chain(row.id))), step.entries)
            await insert(*ledger.new_rows(vault, batch_id, made))
        if step.cancel:
            await outbox.cancel(row.id, step.cancel, now)
        if step.code_made is not None:
            await outbox.add_code(step.code_made)
        try:
            await insert(outbox.new_intents(vault, intents_of(row.id, made, step.mails), now))
        except Conflict as error:
            if all(mail.key is None for mail in step.mails):
                raise
            raise Stale(detail=f"this mail is owed already: {error}") from error
        return [entry.commitment for entry in made]

    async def _settle(self, settled: Settled) -> None:
        vault, now = self.database.vault, self.clock.now()
        if not await outbox.settle(settled.intent_id, settled.state, settled.verdict, now):
            raise Stale(detail="the mail was settled before")
        await outbox.end(vault, settled.attempt_id, now, settled.verdict, settled.facts)

    # -- the reader ---------------------------------------------------------------------------------------------------

    async def letter(self, **where: Any) -> LetterRow | None:
        return await letters.letter(self.database.vault, **where)

    async def letters(self, **where: Any) -> list[LetterRow]:
        return await letters.letters(self.database.vault, **where)

    async def due(self, what: str, now: datetime) -> list[LetterRow]:
        """Letters for which the sweep *what* (reminder, lapse, discard) is due at *now*."""
        condition = {"reminder": letters.due_reminder, "lapse": letters.due_lapse, "discard": letters.due_discard}[what]
        unopened: list[str] = []
        found = await letters.letters(self.database.vault, condition(now), limit_to=500, unopened=unopened)
        for letter_id in unopened:
            _log.error("alarm: a letter's row does not open", letter=letter_id, sweep=what)
        return found

    async def overdue(self, now: datetime, grace: timedelta, ahead: timedelta) -> list[tuple[LetterRow, str]]:
        """Letters whose proof of non-claim may be late: window closed for *grace* and no lapse, or a proof due within
        *ahead* whose mail did not leave."""
        vault = self.database.vault
        found = [(row, "the window closed and no proof was made") for row in await self.due("lapse", now - grace)]
        for row in await letters.letters(vault, letters.proof_due(now, now + ahead), limit_to=500, unopened=[]):
            waiting = await outbox.intents(vault, letter_id=row.id, kind="status", state=outbox.DUE)
            if waiting:
                found.append((row, "the proof has not left yet"))
        return found

    async def deposit(self, **where: Any) -> DepositRow | None:
        return await letters.deposit(self.database.vault, **where)

    async def letters_of(self, deposit_id: str) -> list[tuple[str, str, str]]:
        """(letter id, recipient index, state) of a deposit's letters."""
        return await letters.ids_of(deposit_id)

    async def data_key(self, deposit_id: str, holder: str) -> bytes:
        """The key of a deposit's bytes. Raises NotAllowed where the holder's copy was erased."""
        key = await letters.data_key(self.database.vault, deposit_id, holder)
        if key is None:
            raise NotAllowed("The content of this letter has been erased.")
        return key

    async def record(self, letter_id: str, n: int) -> bytes:
        found = await ledger.record(self.database.vault, letter_id, n)
        if found is None:
            raise NotAllowed("This evidence has been erased.")
        return found

    async def records(self, letter_id: str) -> list[bytes]:
        return await ledger.records(self.database.vault, letter_id)

    async def events(self, letter_id: str) -> list[tuple[int, Event]]:
        """(n, event) of a letter's evidence, first to last."""
        return [(row.n, Event(row.event)) for row in await ledger.rows(letter_id)]

    async def ledger(self) -> list[LedgerRow]:
        """The whole ledger in its order, for checks."""
        return await ledger.rows()

    async def ledger_of(self, letter_id: str) -> list[LedgerRow]:
        return await ledger.rows(letter_id)

    async def batches(self) -> list[tuple[str, int, str]]:
        """(id, rows, Merkle root) of every commit."""
        return await ledger.batches()

    async def bodies(self, letter_id: str) -> list[Body]:
        return await ledger.bodies(self.database.vault, letter_id)

    async def changeable(self) -> list[str]:
        """Tables that must be append-only and are not any more."""
        return await triggers.missing()

    async def letter_ids(self) -> list[str]:
        """Of every letter, oldest first, whether its row can be opened or not."""
        return await letters.all_ids()

    async def count_deposits(self) -> int:
        return await letters.count_deposits()

    async def print_last_day(self, letter_id: str, day: Any) -> None:
        """Note the last day that a notice is about to print, before it is sent (DESIGN.md 3)."""
        await letters.print_last_day(letter_id, day)


def _bytes_of(steps: Sequence[Deposited]) -> list[Callable[[], None]]:
    """What makes the bytes durable that the steps' rows name."""
    return [step.placed.write for step in steps if step.placed is not None and step.placed.write is not None]
