"""From a mail to letters: what a deposit is understood as, its rows, and the promise that a retry makes no second one.

A deposit is known by account and Message-ID (without one, by its bytes). The same mail again is the same deposit: letters that
exist are answered again, recipients that are new (a relay that splits a long list) join it. Other bytes under the same Message-ID
are refused (R17). Not here: SMTP (intake/), what happens to a letter afterwards (postoffice.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from gateway import mime
from gateway.core.address import Addressee, Head, Understood, comparison_form, understand
from gateway.core.errors import BadContent, OurFault
from gateway.core.letter import Event, Letter, State, after
from gateway.intake.desk import Account, Envelope, Origin, Receipt
from gateway.links import random_reference, token_digest
from gateway.office import Office
from gateway.postoffice import NOTICE, STATUS
from gateway.register import Deposited, Entry, Exists, Mail, Opening
from storage.blobs import Placed, Spool
from storage.ids import new_id
from storage.rows import DepositRow, LetterRow

_QUICK = 32 * 1024
"""Octets of a mail up to which it is read here, since the way to a thread and back takes longer, and kept without looking
whether it is known: a retry then leaves its bytes unused in the store (0004-segment-files)."""
_NOT_YET: dict[str, Any] = dict.fromkeys(
    (
        "printed_last_day", "notice_day", "last_day", "closes_at", "proof_due_at", "next_reminder_at", "asked_at", "open_until",
        "decision", "decided_at", "handed_over_at",
    )
)  # fmt: skip
"""Columns of a letter that only its later life fills."""


@dataclass(frozen=True, slots=True)
class _Mail:
    """One mail at the door, with everything that is known of it."""

    account: Account
    envelope: Envelope
    origin: Origin
    spool: Spool
    head: Head
    understood: Understood
    at: datetime
    message_index: str
    content_index: str


@dataclass(frozen=True)
class Deposits:
    office: Office
    unavailable: frozenset[str] = frozenset({"paper"})
    """Tags that are known and not offered by this gateway."""

    async def take(self, account: Account, envelope: Envelope, origin: Origin, spool: Spool) -> Receipt:
        """Take a mail; when this returns, its letters are durable (RFC 5321 4.1.1.4: the 250 is a promise).

        Raises Refused where it cannot be taken, Deferred or OSError where it can be later; then nothing of it is kept.
        """
        read = partial(self._read, account, envelope, origin, spool)
        mail = read() if spool.size <= _QUICK else await asyncio.to_thread(read)
        # Most mails are new. Looking first would wait for the commit of those before; only what is large is worth it.
        known = None if spool.size <= _QUICK else await self._known(mail)
        for _ in range(5):
            try:
                return await (self._open(mail) if known is None else self._join(mail, known))
            except Exists as error:
                known = await self._known(mail)  # a retry, or a parallel session made the same deposit or letter
                if known is None:
                    # Not the deposit: some other row could not be written.
                    raise OurFault(detail=error.detail) from error
        raise OurFault(detail="the deposit kept changing")

    async def _known(self, mail: _Mail) -> DepositRow | None:
        return await self.office.register.deposit(message_index=mail.message_index)

    def _read(self, account: Account, envelope: Envelope, origin: Origin, spool: Spool) -> _Mail:
        gateway, vault = self.office.settings.gateway, self.office.vault
        head = mime.read_head(spool.head)
        mime.check_headers(head, account.addresses)
        understood = understand(
            [recipient.address for recipient in envelope.recipients],
            gateway.letters_domain,
            gateway.dedicated_address,
            head,
            self.office.profile.languages,
            self.unavailable,
        )
        return _Mail(
            account=account,
            envelope=envelope,
            origin=origin,
            spool=spool,
            head=head,
            understood=understood,
            at=self.office.clock.now(),
            message_index=vault.index("message", account.id, head.message_id or f"sha256:{spool.sha256}"),
            content_index=vault.index("content", spool.sha256),
        )

    async def _open(self, mail: _Mail) -> Receipt:
        placed = await self.office.blobs.place(mail.spool)
        row = DepositRow(
            id=new_id(),
            account_id=mail.account.id,
            message_index=mail.message_index,
            content_index=mail.content_index,
            size=mail.spool.size,
            blob=placed.reference,
            gesture=mail.understood.gesture,
            profile=self.office.profile.id,
            received_at=mail.at,
            details={
                "sha256": mail.spool.sha256,
                "message_id": mail.head.message_id,
                "subject": mail.understood.subject,
                "mail_from": mail.envelope.mail_from,
                "envid": mail.envelope.envid,
                "tags": list(mail.understood.tags),
                "origin": mail.origin.facts(),
            },
        )
        return await self._enter(mail, row, row.id, mail.spool.data_key, mail.understood.recipients, placed)

    async def _join(self, mail: _Mail, known: DepositRow) -> Receipt:
        if known.content_index != mail.content_index:
            raise BadContent(
                "Another message with this Message-ID was deposited before; send this one under a new Message-ID."
            )
        present = {
            index: (letter_id, state) for letter_id, index, state in await self.office.register.letters_of(known.id)
        }
        wanted = [(self._recipient_index(known.id, to), to) for to in mail.understood.recipients]
        missing = [to for index, to in wanted if index not in present]
        if not missing:
            letters = [present[index] for index, _ in wanted]
            held = all(state == State.HELD for _, state in letters)
            return Receipt(known.id, tuple(letter_id for letter_id, _ in letters), held)
        data_key = await self.office.register.data_key(known.id, "sender")
        receipt = await self._enter(mail, None, known.id, data_key, missing)
        found = {index: letter_id for letter_id, index, _ in await self.office.register.letters_of(known.id)}
        return Receipt(known.id, tuple(found[index] for index, _ in wanted), receipt.held)

    async def _enter(
        self,
        mail: _Mail,
        row: DepositRow | None,
        deposit_id: str,
        data_key: bytes,
        recipients: Sequence[Addressee],
        placed: Placed | None = None,
    ) -> Receipt:
        openings = [self._opening(mail, deposit_id, to) for to in recipients]
        await self.office.register.commit([Deposited(row, deposit_id, data_key, openings, placed)])
        return Receipt(deposit_id, tuple(o.row.id for o in openings), bool(mail.understood.problems))

    def _opening(self, mail: _Mail, deposit_id: str, to: Addressee) -> Opening:
        held = bool(mail.understood.problems)
        event = Event.HOLD if held else Event.DEPOSIT
        state = after(Letter(None), event, mail.at)
        row = self._letter(mail, deposit_id, to, state)
        facts = row.details["deposit_facts"]
        if held:
            facts = {**facts, "problems": [[p.code, p.word] for p in mail.understood.problems]}
        mails = [Mail(STATUS, self.office.message_id(to_recipient=False), mail.at)]
        if not held:
            mails.append(Mail(NOTICE, self.office.message_id(to_recipient=True), mail.at))
        return Opening(row, [Entry(event, state, mail.at, facts)], mails)

    def _letter(self, mail: _Mail, deposit_id: str, to: Addressee, state: State) -> LetterRow:
        letter_id, profile = new_id(), self.office.profile
        held = state is State.HELD
        consignment = random_reference(16)
        return LetterRow(
            id=letter_id,
            deposit_id=deposit_id,
            account_id=mail.account.id,
            state=state,
            chain_length=1,
            recipient_index=self._recipient_index(deposit_id, to),
            consignment=consignment,
            reference=random_reference(),
            generation=1,
            token_digest=token_digest(self.office.links.token(letter_id, 1)),
            profile=profile.id,
            language=mail.understood.language or self.office.settings.gateway.language,
            created_at=mail.at,
            hold_until=mail.at + timedelta(days=profile.hold_days) if held else None,
            deposited_at=None if held else mail.at,
            **_NOT_YET,
            details={
                "recipient": {"name": to.name, "address": to.address, "post": to.post, "visible": to.visible},
                "zone": str(profile.zone),
                "subject": subject(
                    self.office,
                    letter_id,
                    consignment,
                    mail.account,
                    mail.envelope,
                    mail.origin,
                    {"name": to.name, "address": to.address},
                    {"sha256": mail.spool.sha256, "size": mail.spool.size, "message_id": mail.head.message_id},
                ),
                "deposit_facts": {**self._facts(mail), "post": to.post or None},
            },
        )

    def _facts(self, mail: _Mail) -> dict[str, Any]:
        return {
            "gesture": mail.understood.gesture,
            "mail_from": mail.envelope.mail_from,
            "envid": mail.envelope.envid,
            "tags": list(mail.understood.tags),
            "language": mail.understood.language,
            "changes": [],  # eIDAS 44(1)(e): this gateway stores the octets it received and adds none
            "origin": mail.origin.facts(),
        }

    def _recipient_index(self, deposit_id: str, to: Addressee) -> str:
        # Bound to the deposit, so that the column does not tell which letters go to the same person.
        return self.office.vault.index("recipient", deposit_id, comparison_form(to.address))


def subject(
    office: Office,
    chain: str,
    consignment: str,
    account: Account,
    envelope: Envelope,
    origin: Origin,
    recipient: Mapping[str, Any],
    content: Mapping[str, Any],
) -> dict[str, Any]:
    """What is the same in all records of one chain (CPCE R.53-2 1° to 3°). chain: the letter's id."""
    profile, house = office.profile, office.house
    return {
        "consignment": consignment,
        "letter": chain,
        "profile": {
            "id": profile.id,
            "level": profile.level,
            "policy": profile.policy,
            "title": dict(profile.title),
        },
        "issuer": {"name": house.operator_name, "domain": house.domain, "address": house.operator_address},
        "sender": {
            "name": account.name,
            "address": comparison_form(envelope.mail_from),
            "authentication": f"SMTP AUTH {origin.mechanism} with an app password, under TLS",
        },
        "recipient": dict(recipient),
        "content": dict(content),
    }
