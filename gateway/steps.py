"""Steps: what the register is asked to write, and the rows that each becomes.

Not here: writing them (register.py), deciding them (postoffice.py, deposits.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.core.evidence import Place, canonical, commitment, digest, instant, make_record
from gateway.core.letter import Event, State
from storage import outbox
from storage.blobs import Placed
from storage.ids import new_id
from storage.rows import CodeRow, DepositRow, LetterRow, NewEvidence


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
    placed: Placed | None = None
    """The mail's bytes, which the step makes durable."""


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a letter that exists. letter: as it was when the step was decided on; its state must still be that.

    exact: nothing at all may have become evidence since, as the step counts or rests on what stands in columns.
    """

    letter: LetterRow
    entries: Sequence[Entry]
    columns: Mapping[str, Any] = field(default_factory=dict)
    mails: Sequence[Mail] = ()
    cancel: Sequence[str] = ()  # kinds of unsent mails that lose their reason
    settled: Settled | None = None
    bounced: str | None = None  # a mail that came back, which counts once
    code_used: str | None = None  # a live code that this step consumes
    code_made: CodeRow | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A step: evidence of a deposit that was refused; no letter stands behind its chain."""

    chain: str
    subject: Mapping[str, Any]
    entry: Entry


Step = Deposited | Move | Rejected


def keys_of(step: Deposited) -> list[tuple[str, bytes, str]]:
    holders = [*(opening.row.id for opening in step.letters), *(["sender"] if step.deposit else [])]
    return [(step.deposit_id, step.data_key, holder) for holder in holders]


def about(row: LetterRow) -> tuple[str, Mapping[str, Any], datetime | None]:
    return row.id, row.details["subject"], row.deposited_at


def evidence_of(
    chain: str, subject: Mapping[str, Any], deposited_at: datetime | None, place: Place, entries: Sequence[Entry]
) -> list[NewEvidence]:
    """The ledger rows of *entries*, which follow the records at *place* in *chain* (a letter's id)."""
    made = []
    for entry in entries:
        deposited = entry.at if entry.event is Event.DEPOSIT else deposited_at
        stated = {**subject, "deposited_at": instant(deposited) if deposited else None}
        private, private_digest = _private(entry.private)
        record = make_record(stated, place, entry.event, entry.state, entry.at, entry.facts, private_digest)
        salt, record_digest = os.urandom(32), digest(record)
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
    body = canonical({"salt": os.urandom(32).hex(), "facts": dict(facts)})
    return body, digest(body)


def lock_order(step: Step) -> tuple[int, str]:
    if isinstance(step, Deposited):
        return 0, step.deposit.message_index if step.deposit else step.deposit_id
    return (1, step.chain) if isinstance(step, Rejected) else (2, step.letter.id)


def owes_mail(step: Step) -> bool:
    if isinstance(step, Deposited):
        return any(opening.mails for opening in step.letters)
    return isinstance(step, Move) and bool(step.mails)


def intents_of(letter_id: str, made: Sequence[NewEvidence], mails: Sequence[Mail]) -> list[outbox.NewIntent]:
    rows = []
    for mail in mails:
        n = made[mail.entry].n if made else 0
        intent_id = new_id()
        # At most one mail of a kind for one piece of evidence; what speaks of none (a code) is single by itself.
        dedupe = f"{letter_id}:{mail.kind}:{mail.key or n or intent_id}"
        rows.append(
            outbox.NewIntent(
                intent_id, letter_id, mail.kind, n, dedupe, mail.message_id, mail.due_at, dict(mail.details)
            )
        )
    return rows
