"""The tables. Columns here are the whole schema; triggers that SQL alone can express stand in migrations/.

Personal data and letters stand in columns of ciphertext only (suffix-free `details`, `address`, `record`...: AES-256-GCM by
vault.Vault); what must be found again has a keyed index (HMAC-SHA-256) beside it. Wide types from the first day, columns are
only ever added: altering one rebuilds the table on SQLite and loses rows and indexes (docs/decisions/).
A docstring's first line becomes the table's comment in SQL: no semicolon in it, tortoise splits there.
Instants are UTC. Identifiers are 32 hexadecimal digits, digests 64.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Account(Model):
    """A sender."""

    id = fields.CharField(max_length=32, primary_key=True)
    state = fields.CharField(max_length=32)
    language = fields.CharField(max_length=16, null=True)
    created_at = fields.DatetimeField()
    details = fields.BinaryField()  # name, postal address, identity records

    class Meta:
        table = "account"


class AccountAddress(Model):
    """An e-mail address that an account may send from."""

    id = fields.BigIntField(primary_key=True)
    account_id = fields.CharField(max_length=32, db_index=True)
    address_index = fields.CharField(max_length=64, unique=True)
    address = fields.BinaryField()
    proven_at = fields.DatetimeField(null=True)

    class Meta:
        table = "account_address"


class AppPassword(Model):
    """A generated password for a mail client: found by prefix, kept as keyed HMAC-SHA-256."""

    id = fields.CharField(max_length=32, primary_key=True)
    account_id = fields.CharField(max_length=32, db_index=True)
    prefix = fields.CharField(max_length=32, unique=True)
    digest = fields.CharField(max_length=64)
    created_at = fields.DatetimeField()
    revoked_at = fields.DatetimeField(null=True)
    details = fields.BinaryField(null=True)  # label

    class Meta:
        table = "app_password"


class Deposit(Model):
    """One accepted mail. (account, message_index) makes a retry after a lost reply the same deposit."""

    id = fields.CharField(max_length=32, primary_key=True)
    account_id = fields.CharField(max_length=32, db_index=True)
    message_index = fields.CharField(max_length=64, unique=True)  # keyed: account and Message-ID
    content_index = fields.CharField(max_length=64)  # keyed: SHA-256 of the bytes
    size = fields.BigIntField()
    blob = fields.CharField(max_length=255)
    gesture = fields.CharField(max_length=32)
    profile = fields.CharField(max_length=64)
    received_at = fields.DatetimeField()
    details = fields.BinaryField()  # envelope, origin, Message-ID, subject, what was understood, SHA-256

    class Meta:
        table = "deposit"


class VaultKey(Model):
    """The data key of a deposit, wrapped: once per letter (holder = letter id), once for the sender's archive ("sender")."""

    id = fields.BigIntField(primary_key=True)
    deposit_id = fields.CharField(max_length=32)
    holder = fields.CharField(max_length=32)
    wrapped = fields.BinaryField()

    class Meta:
        table = "vault_key"
        unique_together = (("deposit_id", "holder"),)


class Letter(Model):
    """One recipient's letter. `state` is moved by register.py alone, by compare-and-set."""

    id = fields.CharField(max_length=32, primary_key=True)
    deposit_id = fields.CharField(max_length=32)
    account_id = fields.CharField(max_length=32, db_index=True)
    state = fields.CharField(max_length=32, db_index=True)
    chain_length = fields.IntField()
    recipient_index = fields.CharField(max_length=64)
    consignment = fields.CharField(max_length=32, unique=True)
    reference = fields.CharField(max_length=32, unique=True)
    generation = fields.IntField()
    token_digest = fields.CharField(max_length=64, unique=True)
    profile = fields.CharField(max_length=64)
    language = fields.CharField(max_length=16)
    created_at = fields.DatetimeField()
    hold_until = fields.DatetimeField(null=True, db_index=True)
    deposited_at = fields.DatetimeField(null=True)
    printed_last_day = fields.DateField(null=True)  # the latest last day that any notice attempt printed
    notice_day = fields.DateField(null=True)  # D: the zone's date of the first 250 for a notice
    last_day = fields.DateField(null=True)
    closes_at = fields.DatetimeField(null=True, db_index=True)
    proof_due_at = fields.DatetimeField(null=True, db_index=True)
    next_reminder_at = fields.DatetimeField(null=True, db_index=True)
    reminders = fields.IntField()
    notices_taken = fields.IntField()
    notices_bounced = fields.IntField()
    asked_at = fields.DatetimeField(null=True)  # the POST of the choice that is being completed
    open_until = fields.DatetimeField(null=True)
    decision = fields.CharField(max_length=16, null=True)
    decided_at = fields.DatetimeField(null=True)
    handed_over_at = fields.DatetimeField(null=True)
    details = fields.BinaryField()  # recipient: address, name, postal address; options

    class Meta:
        table = "letter"
        unique_together = (("deposit_id", "recipient_index"),)


class Ledger(Model):
    """The append-only chain of evidence digests: triggers refuse UPDATE and DELETE."""

    seq = fields.BigIntField(primary_key=True)
    letter_id = fields.CharField(max_length=32)
    n = fields.IntField()
    event = fields.CharField(max_length=64)
    at = fields.DatetimeField()
    record_digest = fields.CharField(max_length=64)
    previous = fields.CharField(max_length=64)
    commitment = fields.CharField(max_length=64, unique=True)
    batch_id = fields.CharField(max_length=32, db_index=True)

    class Meta:
        table = "ledger"
        unique_together = (("letter_id", "n"),)


class Batch(Model):
    """The register of commits: how many ledger rows a commit wrote and the Merkle root over their commitments. Immutable."""

    id = fields.CharField(max_length=32, primary_key=True)
    at = fields.DatetimeField()
    size = fields.IntField()
    root = fields.CharField(max_length=64)

    class Meta:
        table = "batch"


class EvidenceBody(Model):
    """What a ledger row commits to: erasable, and encrypted."""

    id = fields.BigIntField(primary_key=True)
    letter_id = fields.CharField(max_length=32)
    n = fields.IntField()
    record = fields.BinaryField()  # canonical JSON
    salt = fields.BinaryField()
    private = fields.BinaryField(null=True)  # facts for a dispute only, with their own salt

    class Meta:
        table = "evidence_body"
        unique_together = (("letter_id", "n"),)


class Intent(Model):
    """A mail that is owed, written in the transaction that made it owed. `dedupe` keeps it single."""

    id = fields.CharField(max_length=32, primary_key=True)
    letter_id = fields.CharField(max_length=32, db_index=True)
    kind = fields.CharField(max_length=32)
    n = fields.IntField()  # the evidence record that it speaks of
    dedupe = fields.CharField(max_length=128, unique=True)
    message_id = fields.CharField(max_length=255, unique=True)
    state = fields.CharField(max_length=32)
    attempts = fields.IntField()
    created_at = fields.DatetimeField()
    due_at = fields.DatetimeField()
    lease_until = fields.DatetimeField(null=True)
    lease_owner = fields.CharField(max_length=64, null=True)
    settled_at = fields.DatetimeField(null=True)
    outcome = fields.CharField(max_length=32, null=True)
    details = fields.BinaryField(null=True)

    class Meta:
        table = "intent"
        indexes = (("state", "due_at"),)


class Attempt(Model):
    """One try to hand a mail to a peer: written before the connection is made, completed after."""

    id = fields.CharField(max_length=32, primary_key=True)
    intent_id = fields.CharField(max_length=32, db_index=True)
    began_at = fields.DatetimeField()
    digest = fields.CharField(max_length=64)  # SHA-256 of the mail as sent
    printed_last_day = fields.DateField(null=True)
    ended_at = fields.DatetimeField(null=True)
    verdict = fields.CharField(max_length=32, null=True)
    facts = fields.BinaryField(null=True)

    class Meta:
        table = "attempt"


class Code(Model):
    """A one-time code, bound to a letter and a choice. One is live per letter."""

    id = fields.CharField(max_length=32, primary_key=True)
    letter_id = fields.CharField(max_length=32, db_index=True)
    choice = fields.CharField(max_length=16)
    state = fields.CharField(max_length=32)
    tries = fields.IntField()
    code_digest = fields.CharField(max_length=64)
    nonce_digest = fields.CharField(max_length=64)
    asked_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()

    class Meta:
        table = "code"


class PortalSession(Model):
    """An identified recipient's session with one letter (the secret is kept as SHA-256)."""

    id = fields.CharField(max_length=64, primary_key=True)
    letter_id = fields.CharField(max_length=32, db_index=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    details = fields.BinaryField()  # how the recipient was identified

    class Meta:
        table = "portal_session"


class Proof(Model):
    """A sealed document made from a record: bytes in the blob store, encrypted with the deposit's data key."""

    id = fields.BigIntField(primary_key=True)
    letter_id = fields.CharField(max_length=32)
    n = fields.IntField()
    part = fields.CharField(max_length=64)
    blob = fields.CharField(max_length=255)
    sha256 = fields.CharField(max_length=64)
    made_at = fields.DatetimeField()

    class Meta:
        table = "proof"
        unique_together = (("letter_id", "n", "part"),)


class Journal(Model):
    """What happened to the gateway itself: outages, clock offsets, keys, alarms, disclosures."""

    id = fields.BigIntField(primary_key=True)
    at = fields.DatetimeField(db_index=True)
    topic = fields.CharField(max_length=64)
    details = fields.BinaryField(null=True)

    class Meta:
        table = "journal"


class MessageBytes(Model):
    """On PostgreSQL a piece of a sealed stream (SQLite has segment files for them): its id is the stream's name and a number."""

    id = fields.CharField(max_length=64, primary_key=True)
    data = fields.BinaryField()

    class Meta:
        table = "message_bytes"
