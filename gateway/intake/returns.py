"""The door for other mail servers (port 25): bounces to return addresses that we signed, and nothing else.

Not here: what a bounce says (dispatch/bounce.py).
"""

from __future__ import annotations

from gateway.core.errors import Stranger, TooManyRecipients
from gateway.intake.desk import Recipient
from gateway.intake.session import Session, Transaction

_KEPT = 1024 * 1024
_REPORT = 1024 * 1024


class _Beginning:
    """Keeps a bounce's first megabyte: its report stands there; what follows is the mail that came back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._room = _KEPT

    def write(self, data: bytes) -> None:
        if self._room > 0:
            self._parts.append(data[: self._room])
            self._room -= len(data)

    @property
    def raw(self) -> bytes:
        return b"".join(self._parts)


class Returns(Session):
    @property
    def max_bytes(self) -> int:
        """A letter of the greatest size may come back inside its report."""
        return super().max_bytes + _REPORT

    async def admit_sender(self, address: str) -> None:
        """Anybody may say MAIL; the reply to RCPT tells strangers, so that their servers report it recipient by recipient."""

    async def admit_recipient(self, mail: Transaction, recipient: Recipient) -> None:
        if mail.mail_from or not self.terms.desk.is_return_address(recipient.address):  # RFC 5321 4.5.5
            raise Stranger
        if mail.recipients:
            raise TooManyRecipients("One bounce at a time; send the other in another transaction.")

    async def take_message(self, mail: Transaction) -> tuple[str, ...]:
        beginning = _Beginning()
        await self.content(beginning, self.max_bytes)
        await self.kept(self.terms.desk.take_return(mail.recipients[0].address, beginning.raw, self.origin))
        return ("250 2.0.0 Taken",)
