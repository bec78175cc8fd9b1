"""Rows of tables as values, their sealed columns decrypted. Nobody changes one.

What a deposit makes (LetterRow, DepositRow, NewEvidence) is not frozen: that costs three times as much for each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any


@dataclass(slots=True, kw_only=True)
class LetterRow:
    """A letter as stored; `details` decrypted. The meaning of each field stands in tables.Letter."""

    id: str
    deposit_id: str
    account_id: str
    state: str
    chain_length: int
    recipient_index: str
    consignment: str
    reference: str
    generation: int
    token_digest: str
    profile: str
    language: str
    created_at: datetime
    hold_until: datetime | None = None
    deposited_at: datetime | None = None
    printed_last_day: date | None = None
    notice_day: date | None = None
    last_day: date | None = None
    closes_at: datetime | None = None
    proof_due_at: datetime | None = None
    next_reminder_at: datetime | None = None
    reminders: int = 0
    notices_taken: int = 0
    notices_bounced: int = 0
    asked_at: datetime | None = None
    open_until: datetime | None = None
    decision: str | None = None
    decided_at: datetime | None = None
    handed_over_at: datetime | None = None
    details: dict[str, Any]


@dataclass(slots=True)
class DepositRow:
    id: str
    account_id: str
    message_index: str
    content_index: str
    size: int
    blob: str
    gesture: str
    profile: str
    received_at: datetime
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    seq: int
    letter_id: str
    n: int
    event: str
    at: datetime
    record_digest: str
    previous: str
    commitment: str
    batch_id: str


@dataclass(frozen=True, slots=True)
class Body:
    """What a ledger row commits to, decrypted. private: canonical JSON with its own salt, for a dispute only."""

    n: int
    record: bytes
    salt: bytes
    private: bytes | None


@dataclass(slots=True)
class NewEvidence:
    """A ledger row and its body, on their way in. record, salt and private are plaintext."""

    letter_id: str
    n: int
    event: str
    at: datetime
    record_digest: str
    previous: str
    commitment: str
    record: bytes
    salt: bytes
    private: bytes | None


@dataclass(frozen=True, slots=True)
class IntentRow:
    """A mail that is owed. `details` decrypted."""

    id: str
    letter_id: str
    kind: str
    n: int
    dedupe: str
    message_id: str
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
    outcome: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CodeRow:
    id: str
    letter_id: str
    choice: str
    state: str
    tries: int
    code_digest: str
    nonce_digest: str
    asked_at: datetime
    expires_at: datetime
