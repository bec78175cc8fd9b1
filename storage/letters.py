"""Deposits, letters and their wrapped data keys. Only register.py calls this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from tortoise.expressions import F, Q

from storage.bulk import Insert, Rows
from storage.rows import DepositRow, LetterRow
from storage.tables import Deposit, Letter, MessageBytes, VaultKey
from storage.vault import Sealed, Vault

_LETTER = [f.name for f in fields(LetterRow)]
_DEPOSIT = [f.name for f in fields(DepositRow)]
_PLAIN_LETTER = [name for name in _LETTER if name != "details"]
_PLAIN_DEPOSIT = [name for name in _DEPOSIT if name != "details"]
_letter_values, _deposit_values = attrgetter(*_PLAIN_LETTER), attrgetter(*_PLAIN_DEPOSIT)
_NEW_LETTER = Insert(Letter, [*_PLAIN_LETTER, "details"])
_NEW_DEPOSIT = Insert(Deposit, [*_PLAIN_DEPOSIT, "details"])
_NEW_BYTES = Insert(MessageBytes, ["id", "data"])
_NEW_KEY = Insert(VaultKey, ["deposit_id", "holder", "wrapped"])


def new_deposits(vault: Vault, rows: Sequence[DepositRow]) -> Rows:
    return _NEW_DEPOSIT, [(*_deposit_values(row), vault.seal_json(row.details, f"deposit/{row.id}")) for row in rows]


def new_letters(vault: Vault, rows: Sequence[LetterRow]) -> Rows:
    return _NEW_LETTER, [(*_letter_values(row), vault.seal_json(row.details, f"letter/{row.id}")) for row in rows]


def new_bytes(pieces: Sequence[tuple[str, bytes]]) -> Rows:
    """(id, data): pieces of streams that are kept in the database (storage/blobs_database.py)."""
    return _NEW_BYTES, pieces


def new_keys(vault: Vault, keys: Sequence[tuple[str, bytes, str]]) -> Rows:
    """(deposit id, data key, holder): each key wrapped for its holder, a letter's id or "sender" for the archive."""
    return _NEW_KEY, [(deposit, holder, vault.wrap(key, deposit, holder)) for deposit, key, holder in keys]


async def data_key(vault: Vault, deposit_id: str, holder: str) -> bytes | None:
    row = await VaultKey.get_or_none(deposit_id=deposit_id, holder=holder)
    return None if row is None else vault.unwrap(bytes(row.wrapped), deposit_id, holder)


async def move(
    letter_id: str, expected: str, state: str, records: int, columns: Mapping[str, Any], length: int | None = None
) -> bool:
    """Compare-and-set: False where the letter was not in the state *expected*. Takes the row's lock till the commit.

    length: what its chain must have been, too, where the step rests on more than the state.
    """
    more = {} if length is None else {"chain_length": length}
    changed = await Letter.filter(id=letter_id, state=expected, **more).update(
        state=state, chain_length=F("chain_length") + records, **columns
    )
    return changed == 1


async def print_last_day(letter_id: str, day: Any) -> None:
    """Remember the latest last day that a notice printed; it only ever grows."""
    await Letter.filter(Q(printed_last_day__isnull=True) | Q(printed_last_day__lt=day), id=letter_id).update(
        printed_last_day=day
    )


async def letter(vault: Vault, **where: Any) -> LetterRow | None:
    rows = await letters(vault, limit_to=1, **where)
    return rows[0] if rows else None


async def letters(
    vault: Vault, *conditions: Q, limit_to: int = 10_000, unopened: list[str] | None = None, **where: Any
) -> list[LetterRow]:
    """unopened: takes the ids of letters whose row does not open, so that one damaged row does not stop the others.

    Without it, raises Sealed.
    """
    query, found = Letter.filter(*conditions, **where).order_by("created_at", "id").limit(limit_to), []
    for row in await query.values(*_LETTER):
        try:
            found.append(_letter(vault, row))
        except Sealed:
            if unopened is None:
                raise
            unopened.append(str(row["id"]))
    return found


async def ids_of(deposit_id: str) -> list[tuple[str, str, str]]:
    """(letter id, recipient index, state) of a deposit's letters, in the order they were made."""
    rows = (
        await Letter.filter(deposit_id=deposit_id)
        .order_by("created_at", "id")
        .values_list("id", "recipient_index", "state")
    )
    return [(str(a), str(b), str(c)) for a, b, c in rows]


async def deposit(vault: Vault, **where: Any) -> DepositRow | None:
    rows = await Deposit.filter(**where).limit(1).values(*_DEPOSIT)
    return _deposit(vault, rows[0]) if rows else None


async def all_ids() -> list[str]:
    """Every letter's id, oldest first."""
    return [str(i) for i in await Letter.all().order_by("created_at", "id").values_list("id", flat=True)]


async def count_deposits() -> int:
    return await Deposit.all().count()


def due_reminder(now: datetime) -> Q:
    return Q(state="notified", next_reminder_at__lte=now, closes_at__gt=now)


def due_lapse(now: datetime) -> Q:
    """Windows that have closed and hold no open choice."""
    return Q(state="notified", closes_at__lte=now) & (Q(open_until__isnull=True) | Q(open_until__lte=now))


def proof_due(now: datetime, until: datetime) -> Q:
    return Q(state__in=["unclaimed", "undeliverable"], proof_due_at__gt=now, proof_due_at__lte=until)


def due_discard(now: datetime) -> Q:
    return Q(state="held", hold_until__lte=now)


def _letter(vault: Vault, row: Mapping[str, Any]) -> LetterRow:
    values = dict(row)
    values["details"] = vault.open_json(bytes(row["details"]), f"letter/{row['id']}")
    return LetterRow(**values)


def _deposit(vault: Vault, row: Mapping[str, Any]) -> DepositRow:
    values = dict(row)
    values["details"] = vault.open_json(bytes(row["details"]), f"deposit/{row['id']}")
    return DepositRow(**values)
