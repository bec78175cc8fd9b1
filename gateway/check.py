"""`pli check`: is what the store holds what the ledger proves? Looks at everything, changes nothing.

Every chain from its first record, every commitment and commit; the state column against the replayed evidence;
every letter's bytes against the digest in its evidence; every mail owed.
Not here: proofs that left the house (proof/verifier.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
    """Check the whole store. contents: read every letter's bytes, too."""
    found = Findings()
    ledger = await office.register.ledger()
    found.records = len(ledger)
    await _check_commits(office, ledger, found)
    chains: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in ledger:
        chains[row.letter_id].append(row)
    for letter_id in await office.register.letter_ids():
        found.letters += 1
        rows = sorted(chains.pop(letter_id, []), key=lambda row: row.n)
        try:
            letter = await office.register.letter(id=letter_id)
            if letter is None:
                continue  # erased while we looked
            await _check_letter(office, letter, rows, found)
            if contents:
                await _check_bytes(office, letter, found)
        except Sealed as error:
            found.wrong.append(f"letter {letter_id}: {error}")
    for chain, rows in chains.items():
        await _check_rejection(office, chain, rows, found)
    found.deposits = await office.register.count_deposits()
    return found


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


async def _check_commits(office: Office, ledger: Sequence[LedgerRow], found: Findings) -> None:
    leaves: dict[str, list[bytes]] = defaultdict(list)
    for row in ledger:
        leaves[row.batch_id].append(bytes.fromhex(row.commitment))
    for batch_id, size, root in await office.register.batches():
        found.commits += 1
        rows = leaves.pop(batch_id, [])
        if len(rows) != size:
            found.wrong.append(f"commit {batch_id}: {len(rows)} ledger rows where {size} were written")
        elif tree_hash(rows).hex() != root:
            found.wrong.append(f"commit {batch_id}: its ledger rows are not those that were written")
    found.wrong += [f"commit {batch_id}: ledger rows of a commit that is not in the register" for batch_id in leaves]


async def _check_letter(office: Office, letter: LetterRow, rows: Sequence[LedgerRow], found: Findings) -> None:
    wrong = found.wrong
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
    taken = [record["facts"] for record in records if record["event"] == Event.NOTICE_TAKEN]
    closes = instant(letter.closes_at) if letter.closes_at else None
    if (taken[0]["closes_at"] if taken else None) != closes:
        wrong.append(f"letter {letter.id}: the window's column is not what its evidence says")
    await _check_mails(office, letter, rows, wrong)


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


async def _check_bytes(office: Office, letter: LetterRow, found: Findings) -> None:
    for holder in (letter.id, "sender"):
        try:
            deposit, raw = await Archive(office).original(letter, holder)
        except (PliError, Sealed) as error:
            detail = error.detail if isinstance(error, PliError) else ""
            found.wrong.append(f"letter {letter.id}: its bytes cannot be had ({detail or error})")
            return
        if len(raw) != deposit.size or letter.details["subject"]["content"]["sha256"] != deposit.details["sha256"]:
            found.wrong.append(f"letter {letter.id}: its evidence speaks of other bytes than the deposit")
    found.bytes_checked += len(raw)
