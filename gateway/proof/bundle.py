"""The press: from a record to the parts of a proof that are handed to people, sealed.

Each call makes a document anew, with the time it is given; that a proof is made once and stays the same is archive.py's affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gateway.core.errors import NotFound
from gateway.core.evidence import parse_record
from gateway.core.letter import Event
from gateway.core.profile import Profile
from gateway.proof.page import PROVEN, RECEIVED, Page
from gateway.proof.pdf import Typesetter
from gateway.proof.seal import Seal
from gateway.proof.words import words

PDF_PART, RECORD_PART = "proof.pdf", "evidence.json"


@dataclass(frozen=True)
class Press:
    """profile: the rules of this gateway's letters; its law and zone stand in proofs of letters that lived under it."""

    seal: Seal
    profile: Profile | None = None
    _typesetter: Typesetter = field(default_factory=Typesetter, repr=False)

    def make(self, record: bytes, language: str, now: datetime) -> dict[str, bytes]:
        """The parts of the sender's proof: file name to bytes. The PDF is for events that are proven, the record for all.

        Blocking, about 25 ms; call it in a thread without an event loop. Raises core.evidence.Broken.
        """
        parts = {RECORD_PART: record}
        if Event(parse_record(record)["event"]) in PROVEN:
            parts[PDF_PART] = self._sealed(Page(record, words(language), self.seal, now, self.profile), now)
        return parts

    def receipt(self, record: bytes, language: str, now: datetime, *, anonymous: bool = False) -> bytes:
        """The recipient's receipt of a reception or refusal, a sealed PDF without the record.

        anonymous: without sender, letter digest, Message-ID and place in the chain (CPCE R.53-3 I). Raises NotFound for other
        events; otherwise as `make`.
        """
        if Event(parse_record(record)["event"]) not in RECEIVED:
            raise NotFound("There is no receipt for this.")
        page = Page(record, words(language), self.seal, now, self.profile, receipt=True, anonymous=anonymous)
        return self._sealed(page, now)

    def _sealed(self, page: Page, now: datetime) -> bytes:
        data = page.data()
        pdf = self._typesetter.set(data, page.raw)
        return self.seal.sign(pdf, reason=data["document_title"], location=page.domain, at=now)
