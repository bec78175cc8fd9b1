"""Submission (RFC 6409, RFC 8314): people with an account hand in letters, under TLS.

Not here: what is a letter, and what its recipients may be (the desk, door.py).
"""

from __future__ import annotations

from gateway.core.errors import NotYours, OurFault, Refused, Stranger
from gateway.core.mailbox import comparison_form
from gateway.intake.desk import Account, Envelope, Origin, Receipt, Recipient
from gateway.intake.session import Session, Transaction
from gateway.intake.syntax import BadSyntax
from storage.blobs import Spool

_REPLY_LINE = 500  # RFC 5321 4.5.3.1.5: 512 with code and CRLF


class Submission(Session):
    offers_auth = True

    def may_mail(self) -> None:
        if self.tls is None:
            raise BadSyntax("530 5.7.0 STARTTLS first")  # RFC 3207 4
        if self.account is None:
            raise BadSyntax("530 5.7.0 Authentication required")  # RFC 4954 6

    async def admit_sender(self, address: str) -> None:
        if not address:
            # A bounce is nobody's letter, and answering it with another bounce would never end.
            raise Stranger("The null sender is not taken here; name an address of your account in MAIL FROM")
        try:
            own = comparison_form(address) in self._who.addresses
        except Refused as error:
            raise BadSyntax(f"553 5.1.7 {error.smtp_reply[10:]}") from error
        if not own:
            raise NotYours

    async def admit_recipient(self, mail: Transaction, recipient: Recipient) -> None:
        await self.terms.desk.check_recipient(self._who, recipient.address)

    async def take_message(self, mail: Transaction) -> tuple[str, ...]:
        self.terms.desk.check_recipients(self._who, [recipient.address for recipient in mail.recipients])
        spool = self.terms.desk.spool()
        try:
            await self.content(spool, self.max_bytes)
        except Refused as error:
            spool.discard()
            await self.kept(self.terms.desk.refused(self._who, mail.envelope(), self.origin, None, error))
            raise
        except BaseException:
            spool.discard()
            raise
        return receipt_lines(await self.kept(self._deposit(self._who, mail.envelope(), self.origin, spool)))

    async def _deposit(self, account: Account, envelope: Envelope, origin: Origin, spool: Spool) -> Receipt:
        try:
            return await self.terms.desk.deposit(account, envelope, origin, spool)
        finally:
            spool.discard()

    @property
    def _who(self) -> Account:
        if self.account is None:
            raise OurFault(detail="a mail without an account")
        return self.account


def receipt_lines(receipt: Receipt) -> tuple[str, ...]:
    """The reply to a deposit. Ids that do not fit into a reply line stand in further lines of the same reply."""
    if receipt.held:
        return (f"250 2.0.0 held={receipt.deposit}",)
    lines = [f"250 2.0.0 deposit={receipt.deposit} letters="]
    for letter in receipt.letters:
        if len(lines[-1]) + len(letter) + 1 > _REPLY_LINE:
            lines.append("250 2.0.0 letters=")
        lines[-1] += letter if lines[-1].endswith("=") else f",{letter}"
    return tuple(lines)
