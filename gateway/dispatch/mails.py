"""From an owed mail (intent) to the message that is sent: gathers what the text needs and has it composed.

Mails are rendered at each attempt under their fixed Message-ID and never kept; a notice prints the last day for its own date.
Not here: wording (compose.py and its texts), signing and sending (queue.py), what is owed (postoffice.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from gateway.archive import Archive
from gateway.core.errors import OurFault
from gateway.core.evidence import parse_instant, parse_record
from gateway.core.letter import Event
from gateway.dispatch import compose
from gateway.dispatch.compose import Part, Party
from gateway.identity.accounts import Accounts
from gateway.office import Office
from gateway.postoffice import CODE, NOTICE, ORIGINAL, RECEIPT, REMINDER, STATUS
from storage import outbox
from storage.rows import IntentRow, LetterRow

_TYPES = {".pdf": "application/pdf", ".json": "application/json"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A mail as it will be sent, not yet signed. domain: signs it. last_day: what a notice prints."""

    to: str
    message: bytes
    domain: str
    last_day: date | None = None


@dataclass(frozen=True)
class Scribe:
    office: Office
    archive: Archive
    accounts: Accounts

    async def render(self, intent: IntentRow, row: LetterRow, at: datetime) -> Rendered:
        """The message of *intent* for an attempt at *at*."""
        if intent.kind == STATUS:
            return await self._status(intent, row, at)
        recipient = row.details["recipient"]
        to = Party(recipient["name"], recipient["address"])
        domain, last_day = self.office.house.notice_domain, None
        if intent.kind in (NOTICE, REMINDER):
            last_day = self._last_day(intent, row, at)
            message = await self._notice(intent, row, to, last_day, at)
        elif intent.kind == CODE:
            message = self._code(intent, row, to, at)
        elif intent.kind == RECEIPT:
            message = await self._receipt(intent, row, to, at)
        elif intent.kind == ORIGINAL:
            _, raw = await self.archive.original(row, row.id)
            mail = compose.OriginalMail(
                to=to, message_id=intent.message_id, at=at, language=row.language, reference=row.reference, raw=raw
            )
            message = compose.original(self.office.house, mail)
        else:
            raise OurFault(detail=f"no mail of the kind {intent.kind}")
        return Rendered(to.address, message, domain, last_day)

    def _last_day(self, intent: IntentRow, row: LetterRow, at: datetime) -> date:
        """The last day a notice prints: for a first notice its own date's, later that of the window (DESIGN.md 3)."""
        if intent.kind == REMINDER and row.last_day is not None:
            return row.last_day
        last_day = self.office.profile.window(at).last_day
        return max(last_day, row.printed_last_day or last_day)

    async def _notice(self, intent: IntentRow, row: LetterRow, to: Party, last_day: date, at: datetime) -> bytes:
        links, first = self.office.links, None
        if intent.kind == REMINDER:
            notice = await outbox.intent(self.office.vault, letter_id=row.id, kind=NOTICE)
            first = notice.message_id if notice else None
        mail = compose.NoticeMail(
            to=to,
            message_id=intent.message_id,
            at=at,
            language=row.language,
            reference=row.reference,
            link=self.office.link(links.token(row.id, row.generation)),
            access_code=links.access_code(row.id, row.generation),
            portal_url=self.office.settings.gateway.public_url,
            last_day=last_day,
            number=int(intent.details.get("number", 0)),
            first_message_id=first,
            days_left=(last_day - at.astimezone(self.office.profile.zone).date()).days,
        )
        return compose.notice(self.office.house, mail)

    def _code(self, intent: IntentRow, row: LetterRow, to: Party, at: datetime) -> bytes:
        mail = compose.CodeMail(
            to=to,
            message_id=intent.message_id,
            at=at,
            language=row.language,
            choice=intent.details["choice"],
            code=intent.details["code"],
            expires_at=parse_instant(intent.details["expires_at"]),
            reference=row.reference,
        )
        return compose.code(self.office.house, mail)

    async def _receipt(self, intent: IntentRow, row: LetterRow, to: Party, at: datetime) -> bytes:
        notice = await outbox.intent(self.office.vault, letter_id=row.id, kind=NOTICE)
        mail = compose.ReceiptMail(
            to=to,
            message_id=intent.message_id,
            at=at,
            language=row.language,
            kind=row.decision or "accept",
            reference=row.reference,
            parts=[Part("receipt.pdf", _TYPES[".pdf"], await self.archive.receipt(row))],
            first_message_id=notice.message_id if notice else None,
        )
        return compose.receipt(self.office.house, mail)

    async def _status(self, intent: IntentRow, row: LetterRow, at: datetime) -> Rendered:
        account = await self.accounts.get(row.account_id)
        language = (account.language if account else None) or self.office.settings.gateway.language
        deposit = await self.office.register.deposit(id=row.deposit_id)
        if deposit is None:
            raise OurFault(detail=f"letter {row.id} without its deposit")
        record = parse_record(await self.office.register.record(row.id, intent.n))
        event = compose.event_name(Event(record["event"]))
        if event is None:
            raise OurFault(detail=f"no status mail speaks of {record['event']}")
        made = await self.archive.parts(row, intent.n, language)
        sender, recipient = record["sender"], row.details["recipient"]
        mail = compose.StatusMail(
            to=Party(sender["name"], sender["address"]),
            message_id=intent.message_id,
            at=at,
            language=language,
            event=event,
            state=record["state"],
            letter=row.id,
            consignment=row.consignment,
            subject=deposit.details["subject"],
            recipient=Party(recipient["name"], recipient["address"]),
            in_reply_to=deposit.details["message_id"],
            record=record,
            parts=[Part(name, _type_of(name), data) for name, data in sorted(made.items(), reverse=True)],
        )
        house = self.office.house
        return Rendered(sender["address"], compose.status(house, mail), house.domain)


def _type_of(name: str) -> str:
    return _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
