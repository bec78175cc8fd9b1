"""`pli check`: is what the store holds what the ledger proves? Looks at everything, changes nothing.

Every chain from its first record, every commitment and commit; the state column against the replayed evidence;
every column that evidence speaks of; every letter's bytes and every kept proof against its digest; every mail owed.
Not here: proofs that left the house (proof/verifier.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from gateway.archive import Archive
from gateway.core.errors import PliError
from gateway.core.evidence import GENESIS, Broken, check_chain, commitment, digest, instant, replay
from gateway.core.letter import Event
from gateway.core.merkle import tree_hash
from gateway.office import Office
from gateway.postoffice import NOTICE, STATUS
from storage import outbox
from storage.rows import Body, LedgerRow, LetterRow
from storage.vault import Sealed

_TOLD = {  # events of which a status mail must speak
    Event.HOLD, Event.DEPOSIT, Event.NOTICE_TAKEN, Event.NOTICE_FAILED, Event.BOUNCE, Event.BOUNCE_CLOSES, Event.ACCEPT,
    Event.HAND_OVER, Event.REFUSE, Event.LAPSE, Event.LAPSE_UNREACHED, Event.WITHDRAW, Event.DISCARD,
}  # fmt: skip


@dataclass
class Findings:
    """What was looked at, and what was found wrong: one line each, the first bad row of a chain named."""

    letters: int = 0
    deposits: int = 0
    rejections: int = 0
    records: int = 0
    commits: int = 0
    bytes_checked: int = 0
    wrong: list[str] = field(default_factory=list)


async def check(office: Office, *, contents: bool = True) -> Findings:
    """Check the whole store. contents: read every letter's bytes and every kept proof, too. The gateway may be running."""
    found, register = Findings(), office.register
    found.wrong += [f"{table}: its rows can be changed, the triggers are gone" for table in await register.changeable()]
    # In this order what is written meanwhile is never missed, only not looked at.
    batches, letter_ids = await register.batches(), await register.letter_ids()
    ledger = await register.ledger()
    found.records = len(ledger)
    late = {row.batch_id for row in ledger} - {batch_id for batch_id, _, _ in batches}
    if late:
        batches += [batch for batch in await register.batches() if batch[0] in late]
    _check_commits(batches, ledger, found)
    chains: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in ledger:
        chains[row.letter_id].append(row)
    for letter_id in letter_ids:
        found.letters += 1
        await _look_at(office, letter_id, chains.pop(letter_id, []), contents, found)
    for chain, rows in chains.items():
        if await register.letter(id=chain) is None:
            await _check_rejection(office, chain, rows, found)
    found.deposits = await register.count_deposits()
    return found


async def _look_at(office: Office, letter_id: str, rows: Sequence[LedgerRow], contents: bool, found: Findings) -> None:
    """One letter; looked at again where it seems wrong, as it may have moved while we looked."""
    for last in (False, False, True):
        wrong: list[str] = []
        try:
            letter = await office.register.letter(id=letter_id)
            if letter is None:
                return  # erased while we looked
            await _check_letter(office, letter, sorted(rows, key=lambda row: row.n), wrong)
            if contents and not wrong:
                found.bytes_checked += await _check_bytes(office, letter, wrong)
        except Sealed as error:
            wrong.append(f"letter {letter_id}: {error}")
        if last or not wrong:
            found.wrong += wrong
            return
        rows = await office.register.ledger_of(letter_id)


async def _check_rejection(office: Office, chain: str, rows: Sequence[LedgerRow], found: Findings) -> None:
    """Evidence without a letter: only a refused deposit is that, and it is one record."""
    if [row.event for row in rows] != [Event.REJECT]:
        found.wrong.append(f"ledger: letter {chain} has evidence and no row")
        return
    found.rejections += 1
    try:
        bodies = await office.register.bodies(chain)
        defect = next(_ledger_defects(rows, bodies), None)
        replay(check_chain([body.record for body in bodies]))
    except (Sealed, Broken, PliError) as error:
        defect = str(error)
    if defect:
        found.wrong.append(f"rejection {chain}: {defect}")


def _check_commits(batches: Sequence[tuple[str, int, str]], ledger: Sequence[LedgerRow], found: Findings) -> None:
    leaves: dict[str, list[bytes]] = defaultdict(list)
    for row in ledger:
        leaves[row.batch_id].append(bytes.fromhex(row.commitment))
    for batch_id, size, root in batches:
        found.commits += 1
        rows = leaves.pop(batch_id, [])
        if len(rows) != size:
            found.wrong.append(f"commit {batch_id}: {len(rows)} ledger rows where {size} were written")
        elif tree_hash(rows).hex() != root:
            found.wrong.append(f"commit {batch_id}: its ledger rows are not those that were written")
    found.wrong += [f"commit {batch_id}: ledger rows of a commit that is not in the register" for batch_id in leaves]


async def _check_letter(office: Office, letter: LetterRow, rows: Sequence[LedgerRow], wrong: list[str]) -> None:
    if letter.chain_length != len(rows):
        wrong.append(f"letter {letter.id}: {len(rows)} ledger rows where {letter.chain_length} were written")
    bodies = await office.register.bodies(letter.id)
    defect = next(_ledger_defects(rows, bodies), None)
    if defect:
        wrong.append(f"letter {letter.id}: {defect}")
        return
    try:
        records = check_chain([body.record for body in bodies])
        state = replay(records)
    except (Broken, PliError) as error:
        wrong.append(f"letter {letter.id}: {error}")
        return
    if state != letter.state:
        wrong.append(f"letter {letter.id}: the column says {letter.state}, its evidence {state}")
    for record, body in zip(records, bodies, strict=True):
        if record["private"] != (None if body.private is None else digest(body.private)):
            wrong.append(f"letter {letter.id}, record {body.n}: other private facts than were recorded")
    wrong += [f"letter {letter.id}: {line}" for line in _column_defects(letter, records)]
    await _check_mails(office, letter, rows, wrong)


def _column_defects(letter: LetterRow, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Columns that say something else than the evidence they were written with."""
    happened = [(Event(record["event"]), record) for record in records]

    def first(*events: Event) -> Mapping[str, Any] | None:
        return next((record for event, record in happened if event in events), None)

    def count(*events: Event) -> int:
        return sum(event in events for event, _ in happened)

    def text(value: datetime | date | None) -> str | None:
        return instant(value) if isinstance(value, datetime) else value.isoformat() if value else None

    taken, decided = first(Event.NOTICE_TAKEN), first(Event.ACCEPT, Event.REFUSE)
    window = {} if taken is None else taken["facts"]
    stated = {
        "notice_day": window.get("notice_day"),
        "last_day": window.get("last_day"),
        "closes_at": window.get("closes_at"),
        "proof_due_at": window.get("proof_due_at"),
        "decided_at": None if decided is None else decided["at"],
        "handed_over_at": (first(Event.HAND_OVER) or {}).get("at"),
        "deposited_at": (first(Event.DEPOSIT) or {}).get("at"),
    }
    for column, value in stated.items():
        if text(getattr(letter, column)) != value:
            yield f"{column} says {text(getattr(letter, column))}, the evidence {value}"
    if letter.decision != (None if decided is None else decided["event"]):
        yield f"the column says decision {letter.decision}, the evidence another"
    counted = {
        "notices_taken": count(Event.NOTICE_TAKEN, Event.REMINDER_TAKEN),
        "notices_bounced": count(Event.BOUNCE, Event.BOUNCE_CLOSES),
    }
    for column, number in counted.items():
        if getattr(letter, column) != number:
            yield f"{column} says {getattr(letter, column)}, the evidence {number}"


def _ledger_defects(rows: Sequence[LedgerRow], bodies: Sequence[Body]) -> Iterator[str]:
    previous = GENESIS
    if len(rows) != len(bodies):
        yield f"{len(bodies)} evidence bodies for {len(rows)} ledger rows"
    for n, (row, body) in enumerate(zip(rows, bodies, strict=False), 1):
        if row.n != n or body.n != n:
            yield f"record {n} is missing"
        if row.previous != previous:
            yield f"ledger row {row.seq} (record {n}) does not follow the one before it"
        if row.record_digest != digest(body.record):
            yield f"ledger row {row.seq} (record {n}) is not the digest of its record"
        if row.commitment != commitment(body.salt, row.record_digest):
            yield f"ledger row {row.seq} (record {n}): the commitment does not open"
        previous = row.record_digest


async def _check_mails(office: Office, letter: LetterRow, rows: Sequence[LedgerRow], wrong: list[str]) -> None:
    owed = {(STATUS, row.n) for row in rows if Event(row.event) in _TOLD}
    owed |= {(NOTICE, row.n) for row in rows if row.event == Event.DEPOSIT}
    there = {(intent.kind, intent.n) for intent in await outbox.intents(office.vault, letter_id=letter.id)}
    wrong += [f"letter {letter.id}: no {kind} mail was owed for record {n}" for kind, n in sorted(owed - there)]


async def _check_bytes(office: Office, letter: LetterRow, wrong: list[str]) -> int:
    """The letter's bytes, for both who hold a key, and its kept proofs; returns how many bytes the letter has."""
    archive, size = Archive(office), 0
    try:
        for holder in (letter.id, "sender"):
            deposit, raw = await archive.original(letter, holder)
            size = len(raw)
            if size != deposit.size or letter.details["subject"]["content"]["sha256"] != deposit.details["sha256"]:
                wrong.append(f"letter {letter.id}: its evidence speaks of other bytes than the deposit")
        wrong += [f"letter {letter.id}: {line}" for line in await archive.damaged_proofs(letter)]
    except (PliError, Sealed) as error:
        detail = error.detail if isinstance(error, PliError) else ""
        wrong.append(f"letter {letter.id}: its bytes cannot be had ({detail or error})")
    return size
