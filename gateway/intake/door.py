"""The door: what the SMTP session asks of the post office, answered (the Desk).

Not here: the protocol (session.py, data.py), how a mail is understood (deposits.py), how bounces read (dispatch/bounce.py).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.core.address import check_address, read_rcpt, split
from gateway.core.errors import BadRecipient, Deferred, NullMx, OurFault, Refused, StorageFull, Stranger
from gateway.deposits import Deposits
from gateway.dispatch.bounce import read_bounce
from gateway.dispatch.route import Router
from gateway.faults import fault, ours
from gateway.identity.accounts import Accounts
from gateway.intake.desk import Account, Envelope, Origin, Receipt
from gateway.office import Office
from gateway.postoffice import NOTICE, REMINDER, PostOffice
from gateway.register import Stale
from gateway.rejections import Rejections
from storage import outbox
from storage.accounts import note
from storage.blobs import Spool
from storage.rows import IntentRow

_log = structlog.get_logger("door")
_MANY = 64
"""So many of the largest messages do not come within _FRESH: a disk with room for them is not looked at mail by mail."""
_FRESH = 1.0


class _Room:
    """How many of the largest messages a disk has room for. Where that is many, the answer counts for a second."""

    def __init__(self) -> None:
        self._left, self._until = 0, 0.0

    def left(self, directory: Path, largest: int) -> int:
        """Raises OurFault where nobody can say."""
        now = time.monotonic()
        if self._left < _MANY or now >= self._until:
            try:
                room = os.statvfs(directory)
            except OSError as error:
                raise OurFault(detail=str(error)) from error
            self._left, self._until = room.f_bavail * room.f_frsize // largest, now + _FRESH
        return self._left


@dataclass(frozen=True)
class Door:
    """Implements gateway.intake.desk.Desk. sound: whether the clock may be trusted with a deposit's time (R47)."""

    office: Office
    accounts: Accounts
    deposits: Deposits
    rejections: Rejections
    postoffice: PostOffice
    router: Router
    sound: Callable[[], bool]
    _room: _Room = field(default_factory=_Room)

    @ours
    async def authenticate(self, username: str, password: str) -> Account:
        return await self.accounts.authenticate(username, password)

    async def check_recipient(self, account: Account, address: str) -> None:
        gateway = self.office.settings.gateway
        read = read_rcpt(address, gateway.letters_domain, gateway.dedicated_address)
        recipient: str | None = getattr(read, "recipient", None)
        if read is None:
            recipient = check_address(address)
            if split(recipient)[1] in (gateway.letters_domain, gateway.domain):
                example = f"jane.doe=example.org@{gateway.letters_domain}"
                raise BadRecipient(f"No mailbox of this name; put the recipient inside the address, such as {example}")
        if recipient is not None and await self.router.refuses_mail(split(recipient)[1]):
            raise NullMx

    def check_recipients(self, account: Account, recipients: Sequence[str]) -> None:
        gateway = self.office.settings.gateway
        read = [read_rcpt(address, gateway.letters_domain, gateway.dedicated_address) for address in recipients]
        dedicated = any(found is not None and not hasattr(found, "recipient") for found in read)
        if not dedicated and None in read:
            # Relaying simple mail is a later issue's; a mail that was meant to be a letter must not leave as none.
            raise Stranger(f"No relaying here: add {gateway.dedicated_address} to the recipients to make this a letter")

    def spool(self) -> Spool:
        """Where the next message goes. Raises StorageFull early, before megabytes have travelled."""
        if self._room.left(self.office.blobs.directory, self.office.settings.smtp.max_bytes) < 2:
            raise StorageFull
        return self.office.blobs.spool()

    @ours
    async def deposit(self, account: Account, envelope: Envelope, origin: Origin, spool: Spool) -> Receipt:
        if not self.sound():
            raise OurFault(detail="the clock is not trusted")
        try:
            receipt = await self.deposits.take(account, envelope, origin, spool)
        except Refused as error:
            await self.rejections.record(account, envelope, origin, spool, error)
            raise
        except OSError as error:
            raise fault(error) from error
        _log.info("deposit", deposit=receipt.deposit, letters=len(receipt.letters), held=receipt.held, size=spool.size)
        return receipt

    @ours
    async def refused(
        self, account: Account, envelope: Envelope, origin: Origin, spool: Spool | None, error: Refused
    ) -> None:
        await self.rejections.record(account, envelope, origin, spool, error)

    def is_return_address(self, address: str) -> bool:
        return self.office.returns.read(address) is not None

    @ours
    async def take_return(self, address: str, raw: bytes, origin: Origin) -> None:
        """A bounce for one of our mails. Raises Deferred while our own side of that mail is not recorded yet."""
        intent_id = self.office.returns.read(address)
        if intent_id is None:
            raise Stranger
        intent = await outbox.intent(self.office.vault, id=intent_id)
        if intent is None:
            raise Stranger("This return address is no longer in use.")
        if intent.state in (outbox.DUE, outbox.LEASED):
            raise Deferred("We are still busy with the mail that this bounce speaks of; please try again.")
        bounce = await asyncio.to_thread(read_bounce, raw, await self._secrets(intent))
        _log.info("bounce", letter=intent.letter_id, kind=intent.kind, verdict=bounce.verdict)
        if bounce.verdict != "failed":
            return
        facts, peer = bounce.facts(), origin.facts()
        if intent.kind in (NOTICE, REMINDER):
            await self._notice_bounced(intent, facts, peer)
        else:
            kept = {"intent": intent.id, **facts, "peer": peer}
            await note(self.office.vault, self.office.clock.now(), "bounce", kept)

    async def _secrets(self, intent: IntentRow) -> tuple[str, ...]:
        """What the mail that came back held and its report may quote."""
        row = await self.office.register.letter(id=intent.letter_id)
        if row is None:
            return ()
        links, code = self.office.links, str(intent.details.get("code", ""))
        return (links.token(row.id, row.generation), links.access_code(row.id, row.generation), code)

    async def _notice_bounced(self, intent: IntentRow, facts: Mapping[str, object], peer: Mapping[str, object]) -> None:
        for _ in range(5):
            row = await self.office.register.letter(id=intent.letter_id)
            if row is None:
                return None
            try:
                return await self.postoffice.bounced(row, self.office.clock.now(), intent.id, facts, peer)
            except Stale:
                fresh = await outbox.intent(self.office.vault, id=intent.id)
                if fresh is None or fresh.outcome == "bounced":
                    return None  # the same bounce twice
        raise OurFault(detail="the letter kept changing")
