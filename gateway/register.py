"""The register: the one writer of letters and evidence, and the reader that the rest of the gateway asks.

A step changes a letter's state by compare-and-set, adds its evidence and the mails it makes owed, in one transaction. Steps that
arrive together share a transaction and its sync, each in a savepoint of its own: a failed step fails alone.
Not here: what may happen (core/letter.py), what it means (postoffice.py), message bytes (storage/blobs.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.core.errors import NotAllowed, OurFault, PliError
from gateway.core.evidence import Place, canonical, commitment, digest, instant, make_record
from gateway.core.letter import Event, State
from gateway.core.merkle import tree_hash
from storage import ledger, letters, outbox
from storage.database import Conflict, Database, Failure
from storage.rows import Body, CodeRow, DepositRow, LedgerRow, LetterRow, NewEvidence

_log = structlog.get_logger("register")
_MOST = 64
"""Steps that share one transaction."""


class Stale(NotAllowed):
    """Somebody was faster: the letter, the code or the mail is no longer what the step was decided on."""


class Exists(NotAllowed):
    """The deposit, or a letter in it, is in the register already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece of evidence: *event* at *at* left the letter in *state*. private: for a dispute only, never in the record."""

    event: Event
    state: State
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    private: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that a step makes owed. entry: which of the step's entries it speaks of."""

    kind: str
    message_id: str
    due_at: datetime
    entry: int = -1
    key: str | None = None  # instead of the entry, what makes this mail single (a reminder's number)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of an attempt to send a mail, recorded with what follows from it."""

    intent_id: str
    attempt_id: str
    verdict: str
    facts: Mapping[str, Any]
    state: str  # outbox.DONE or FAILED


@dataclass(frozen=True, slots=True)
class Opening:
    """A letter that enters the register."""

    row: LetterRow
    entries: Sequence[Entry]
    mails: Sequence[Mail] = ()


@dataclass(frozen=True, slots=True)
class Deposited:
    """A step: a deposit with its letters; `deposit` is None where letters join a deposit that exists."""

    deposit: DepositRow | None
    deposit_id: str
    data_key: bytes
    letters: Sequence[Opening]


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a letter that exists. expected: the state it was decided on."""

    letter: LetterRow
    entries: Sequence[Entry]
    columns: Mapping[str, Any] = field(default_factory=dict)
    mails: Sequence[Mail] = ()
    cancel: Sequence[str] = ()  # kinds of unsent mails that lose their reason
    settled: Settled | None = None
    bounced: str | None = None  # a mail that came back, which counts once
    code_used: str | None = None  # a live code that this step consumes
    code_made: CodeRow | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A step: evidence of a deposit that was refused; no letter stands behind its chain."""

    chain: str
    subject: Mapping[str, Any]
    entry: Entry


Step = Deposited | Move | Rejected


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

        Stale and Exists say that the world had moved on; OurFault that the database failed.
        """
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in steps]
        self._waiting.extend(zip(steps, futures, strict=True))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write_all())
        # A caller that goes away must not take its neighbours' transaction with it.
        results = await asyncio.shield(asyncio.gather(*futures, return_exceptions=True))
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting[:] = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                failures = await self._write([step for step, _ in batch])
            except Exception as error:  # noqa: BLE001 - the commit itself failed: nobody's step is durable
                _log.error("commit failed", error=type(error).__name__, detail=str(error))
                failures = [OurFault(detail=str(error))] * len(batch)
            self.changed.set()
            for (_, future), failure in zip(batch, failures, strict=True):
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)

    async def _write(self, steps: Sequence[Step]) -> list[PliError | None]:
        batch_id = secrets.token_hex(16)
        failures: list[PliError | None] = []
        commitments: list[str] = []
        async with self.database.transaction():
            for step in steps:
                try:
                    async with self.database.transaction():
                        commitments += await self._one(step, batch_id)
                    failures.append(None)
                except PliError as error:
                    failures.append(error)
                except Conflict as error:
                    _log.warning("step in conflict", detail=str(error))
                    failures.append(Stale(detail=str(error)))
                except Failure as error:
                    _log.error("step failed", error=type(error).__name__, detail=str(error))
                    failures.append(OurFault(detail=str(error)))
            if commitments:
                root = tree_hash([bytes.fromhex(c) for c in commitments]).hex()
                await ledger.add_batch(batch_id, self.clock.now(), len(commitments), root)
        return failures

    async def _one(self, step: Step, batch_id: str) -> list[str]:
        if isinstance(step, Deposited):
            return await self._deposited(step, batch_id)
        if isinstance(step, Rejected):
            made = _evidence(step.chain, step.subject, None, Place(), [step.entry])
            await ledger.append(self.database.vault, batch_id, made)
            return [row.commitment for row in made]
        return await self._move(step, batch_id)

    async def _deposited(self, step: Deposited, batch_id: str) -> list[str]:
        vault = self.database.vault
        try:
            if step.deposit is not None:
                await letters.add_deposit(vault, step.deposit)
            await letters.add_letters(vault, [opening.row for opening in step.letters])
        except Conflict as error:
            raise Exists(detail=str(error)) from error
        holders = [opening.row.id for opening in step.letters]
        await letters.add_keys(vault, step.deposit_id, step.data_key, [*holders, *(["sender"] if step.deposit else [])])
        evidence: list[NewEvidence] = []
        mails: list[outbox.NewIntent] = []
        for opening in step.letters:
            made = _evidence(*_about(opening.row), Place(), opening.entries)
            evidence += made
            mails += _intents(opening.row.id, made, opening.mails)
        await ledger.append(vault, batch_id, evidence)
        await outbox.add(vault, mails, self.clock.now())
        return [row.commitment for row in evidence]

    async def _move(self, step: Move, batch_id: str) -> list[str]:
        vault, row, now = self.database.vault, step.letter, self.clock.now()
        state = step.entries[-1].state if step.entries else State(row.state)
        # The compare-and-set comes first: it takes the write lock, so that what follows reads a settled chain.
        if not await letters.move(row.id, row.state, state, len(step.entries), step.columns):
            raise Stale
        if step.code_used is not None and not await outbox.end_code(step.code_used, "used"):
            raise Stale
        if step.bounced is not None and not await outbox.mark_bounced(step.bounced):
            raise Stale
        if step.settled is not None:
            await self._settle(step.settled)
        made: list[NewEvidence] = []
        if step.entries:
            made = _evidence(*_about(row), Place(tuple(await ledger.chain(row.id))), step.entries)
            await ledger.append(vault, batch_id, made)
        if step.cancel:
            await outbox.cancel(row.id, step.cancel, now)
        if step.code_made is not None:
            await outbox.add_code(step.code_made)
        await outbox.add(vault, _intents(row.id, made, step.mails), now)
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
        return await letters.letters(self.database.vault, condition(now), limit_to=500)

    async def overdue(self, now: datetime, grace: timedelta, ahead: timedelta) -> list[tuple[LetterRow, str]]:
        """Letters whose proof of non-claim may be late: window closed for *grace* and no lapse, or a proof due within
        *ahead* whose mail did not leave."""
        vault = self.database.vault
        found = [(row, "the window closed and no proof was made") for row in await self.due("lapse", now - grace)]
        for row in await letters.letters(vault, letters.proof_due(now, now + ahead), limit_to=500):
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

    async def batches(self) -> list[tuple[str, int, str]]:
        """(id, rows, Merkle root) of every commit."""
        return await ledger.batches()

    async def bodies(self, letter_id: str) -> list[Body]:
        return await ledger.bodies(self.database.vault, letter_id)

    async def letter_ids(self) -> list[str]:
        """Of every letter, oldest first, whether its row can be opened or not."""
        return await letters.all_ids()

    async def count_deposits(self) -> int:
        return await letters.count_deposits()

    async def print_last_day(self, letter_id: str, day: Any) -> None:
        """Note the last day that a notice is about to print, before it is sent (DESIGN.md 3)."""
        await letters.print_last_day(letter_id, day)


def _about(row: LetterRow) -> tuple[str, Mapping[str, Any], datetime | None]:
    return row.id, row.details["subject"], row.deposited_at


def _evidence(
    chain: str, subject: Mapping[str, Any], deposited_at: datetime | None, place: Place, entries: Sequence[Entry]
) -> list[NewEvidence]:
    """The ledger rows of *entries*, which follow the records at *place* in *chain* (a letter's id)."""
    made = []
    for entry in entries:
        deposited = entry.at if entry.event is Event.DEPOSIT else deposited_at
        about = {**subject, "deposited_at": instant(deposited) if deposited else None}
        private, private_digest = _private(entry.private)
        record = make_record(about, place, entry.event, entry.state, entry.at, entry.facts, private_digest)
        salt, record_digest = secrets.token_bytes(32), digest(record)
        made.append(
            NewEvidence(
                letter_id=chain,
                n=place.n,
                event=entry.event.value,
                at=entry.at,
                record_digest=record_digest,
                previous=place.previous,
                commitment=commitment(salt, record_digest),
                record=record,
                salt=salt,
                private=private,
            )
        )
        place = place.then(record_digest)
    return made


def _private(facts: Mapping[str, Any] | None) -> tuple[bytes | None, str | None]:
    """Facts for a dispute only, as bytes with a salt of their own, and the digest of those bytes for the record."""
    if facts is None:
        return None, None
    body = canonical({"salt": secrets.token_hex(32), "facts": dict(facts)})
    return body, digest(body)


def _intents(letter_id: str, made: Sequence[NewEvidence], mails: Sequence[Mail]) -> list[outbox.NewIntent]:
    rows = []
    for mail in mails:
        n = made[mail.entry].n if made else 0
        intent_id = secrets.token_hex(16)
        # At most one mail of a kind for one piece of evidence; what speaks of none (a code) is single by itself.
        dedupe = f"{letter_id}:{mail.kind}:{mail.key or n or intent_id}"
        rows.append(
            outbox.NewIntent(
                intent_id, letter_id, mail.kind, n, dedupe, mail.message_id, mail.due_at, dict(mail.details)
            )
        )
    return rows
