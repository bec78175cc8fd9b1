"""What is kept of a letter: its bytes as they were deposited, and the proofs made of its records.

Each sealed document is made once, kept encrypted beside its letter, and is the same bytes ever after.
Not here: what a proof looks like (proof/), when one is owed (postoffice.py), which mail carries it (dispatch/mails.py).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.core.errors import NotFound, OurFault
from gateway.core.evidence import parse_record
from gateway.core.letter import Event
from gateway.office import Office
from storage import outbox
from storage.rows import DepositRow, LetterRow
from storage.vault import Sealed

RECEIPT_PART = "receipt.pdf"
_RECEIPTS = (Event.HAND_OVER, Event.REFUSE)


@dataclass(frozen=True)
class Archive:
    office: Office

    async def original(self, row: LetterRow, holder: str) -> tuple[DepositRow, bytes]:
        """The deposit of a letter and its bytes. holder: the letter's id, or "sender". Raises NotAllowed once erased."""
        register = self.office.register
        deposit = await register.deposit(id=row.deposit_id)
        if deposit is None:
            raise OurFault(detail=f"letter {row.id} without its deposit")
        key = await register.data_key(row.deposit_id, holder)
        return deposit, await self._read(deposit.blob, key, deposit.details["sha256"])

    async def parts(self, row: LetterRow, n: int, language: str) -> dict[str, bytes]:
        """The sender's proof of record *n*: file name to bytes."""

        def make(record: bytes) -> Mapping[str, bytes]:
            made: Mapping[str, bytes] = self.office.press.make(record, language, self.office.clock.now())
            return made

        return await self._once(row, n, "sender", lambda part: part != RECEIPT_PART, make)

    async def receipt(self, row: LetterRow) -> bytes:
        """The recipient's own receipt of what he did. Raises NotFound before he did anything."""
        n = next((n for n, event in await self.office.register.events(row.id) if event in _RECEIPTS), None)
        if n is None:
            raise NotFound("There is no receipt yet.")

        def make(record: bytes) -> Mapping[str, bytes]:
            # After a refusal the sender stays unknown (CPCE R.53-3 I); whoever accepted knows him.
            anonymous = self.office.profile.anonymous and parse_record(record)["event"] == Event.REFUSE
            pdf = self.office.press.receipt(record, row.language, self.office.clock.now(), anonymous=anonymous)
            return {RECEIPT_PART: pdf}

        found = await self._once(row, n, row.id, lambda part: part == RECEIPT_PART, make)
        return found[RECEIPT_PART]

    async def damaged_proofs(self, row: LetterRow) -> list[str]:
        """Kept proofs whose bytes are not those that were registered, one line each."""
        key, wrong = await self.office.register.data_key(row.deposit_id, row.id), []
        for n, part, blob, sha256 in await outbox.proofs(row.id):
            try:
                await self._read(blob, key, sha256)
            except OurFault as error:
                wrong.append(f"{part} of record {n}: {error.detail}")
        return wrong

    async def _once(
        self,
        row: LetterRow,
        n: int,
        holder: str,
        wanted: Callable[[str], bool],
        make: Callable[[bytes], Mapping[str, bytes]],
    ) -> dict[str, bytes]:
        register = self.office.register
        key = await register.data_key(row.deposit_id, holder)
        kept = [row for row in await outbox.proofs(row.id, n) if wanted(row[1])]
        if not kept:
            made = await asyncio.to_thread(make, await register.record(row.id, n))
            parts = {part: await self._keep(data, key) for part, data in made.items()}
            await outbox.add_proofs(row.id, n, parts, self.office.clock.now())
            # Somebody may have made the same one meanwhile: what was registered first is the proof.
            kept = [row for row in await outbox.proofs(row.id, n) if wanted(row[1])]
            if parts and not kept:
                raise OurFault(detail=f"the proof of record {n} of letter {row.id} could not be registered")
        return {part: await self._read(blob, key, sha256) for _, part, blob, sha256 in kept}

    async def _keep(self, data: bytes, key: bytes) -> tuple[str, str]:
        """Where *data* is kept, and its SHA-256."""
        try:
            return await self.office.blobs.keep_bytes(data, key), hashlib.sha256(data).hexdigest()
        except OSError as error:
            raise OurFault(detail=f"proof not kept: {error}") from error

    async def _read(self, blob: str, key: bytes, sha256: str) -> bytes:
        try:
            data = await self.office.blobs.read(blob, key)
        except (OSError, Sealed) as error:
            raise OurFault(detail=f"blob {blob}: {error}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise OurFault(detail=f"blob {blob}: other bytes than were kept")
        return data
