"""The append-only ledger, the register of commits and the erasable bodies. Only register.py calls this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any, cast

from storage.bulk import Insert, Rows
from storage.rows import Body, LedgerRow, NewEvidence
from storage.tables import Batch, EvidenceBody, Ledger
from storage.vault import Vault

_ROW = [f.name for f in fields(LedgerRow)]
_GIVEN = [name for name in _ROW if name not in ("seq", "batch_id")]
_row_values = attrgetter(*_GIVEN)
_NEW_ROW = Insert(Ledger, [*_GIVEN, "batch_id"])
_NEW_BODY = Insert(EvidenceBody, ["letter_id", "n", "record", "salt", "private"])
_NEW_BATCH = Insert(Batch, ["id", "at", "size", "root"])


async def chain(letter_id: str) -> list[str]:
    """The record digests of a letter, first to last."""
    return [
        str(d) for d in await Ledger.filter(letter_id=letter_id).order_by("n").values_list("record_digest", flat=True)
    ]


def new_rows(vault: Vault, batch_id: str, rows: Sequence[NewEvidence]) -> tuple[Rows, Rows]:
    """Evidence, as rows of the ledger and their bodies."""
    listed = [(*_row_values(row), batch_id) for row in rows]
    return (_NEW_ROW, listed), (_NEW_BODY, [_body(vault, row) for row in rows])


def _body(vault: Vault, row: NewEvidence) -> tuple[Any, ...]:
    where = f"{row.letter_id}/{row.n}"
    private = None if row.private is None else vault.seal(row.private, f"private/{where}")
    record, salt = vault.seal(row.record, f"record/{where}"), vault.seal(row.salt, f"salt/{where}")
    return row.letter_id, row.n, record, salt, private


def new_batch(batch_id: str, at: datetime, size: int, root: str) -> Rows:
    return _NEW_BATCH, [(batch_id, at, size, root)]


async def rows(letter_id: str | None = None) -> list[LedgerRow]:
    """Ledger rows of one letter by n, or all of them by seq."""
    query = Ledger.all().order_by("seq") if letter_id is None else Ledger.filter(letter_id=letter_id).order_by("n")
    return [LedgerRow(**row) for row in await query.values(*_ROW)]


async def batches() -> list[tuple[str, int, str]]:
    """(id, size, root) of every commit."""
    found = await Batch.all().values_list("id", "size", "root")
    return [(str(a), int(cast("int", b)), str(c)) for a, b, c in found]


async def records(vault: Vault, letter_id: str) -> list[bytes]:
    """The canonical records of a letter that were not erased, first to last."""
    found = await EvidenceBody.filter(letter_id=letter_id).order_by("n").values_list("n", "record")
    return [vault.open(bytes(cast("bytes", record)), f"record/{letter_id}/{n}") for n, record in found]


async def record(vault: Vault, letter_id: str, n: int) -> bytes | None:
    row = await EvidenceBody.get_or_none(letter_id=letter_id, n=n)
    return None if row is None else vault.open(bytes(row.record), f"record/{letter_id}/{n}")


async def bodies(vault: Vault, letter_id: str) -> list[Body]:
    """A letter's bodies that were not erased, for checks and disputes."""
    out = []
    for row in await EvidenceBody.filter(letter_id=letter_id).order_by("n"):
        where = f"{letter_id}/{row.n}"
        private = None if row.private is None else vault.open(bytes(row.private), f"private/{where}")
        record = vault.open(bytes(row.record), f"record/{where}")
        out.append(Body(row.n, record, vault.open(bytes(row.salt), f"salt/{where}"), private))
    return out
