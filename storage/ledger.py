"""The append-only ledger, the register of commits and the erasable bodies. Only register.py calls this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import cast

from storage.rows import Body, LedgerRow, NewEvidence
from storage.tables import Batch, EvidenceBody, Ledger
from storage.vault import Vault

_ROW = [f.name for f in fields(LedgerRow)]


async def chain(letter_id: str) -> list[str]:
    """The record digests of a letter, first to last."""
    return [
        str(d) for d in await Ledger.filter(letter_id=letter_id).order_by("n").values_list("record_digest", flat=True)
    ]


async def append(vault: Vault, batch_id: str, rows: Sequence[NewEvidence]) -> None:
    await Ledger.bulk_create(
        [
            Ledger(
                letter_id=row.letter_id,
                n=row.n,
                event=row.event,
                at=row.at,
                record_digest=row.record_digest,
                previous=row.previous,
                commitment=row.commitment,
                batch_id=batch_id,
            )
            for row in rows
        ]
    )
    await EvidenceBody.bulk_create(
        [
            EvidenceBody(
                letter_id=row.letter_id,
                n=row.n,
                record=vault.seal(row.record, f"record/{row.letter_id}/{row.n}"),
                salt=vault.seal(row.salt, f"salt/{row.letter_id}/{row.n}"),
                private=None if row.private is None else vault.seal(row.private, f"private/{row.letter_id}/{row.n}"),
            )
            for row in rows
        ]
    )


async def add_batch(batch_id: str, at: datetime, size: int, root: str) -> None:
    await Batch.create(id=batch_id, at=at, size=size, root=root)


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
