"""The desk behind an SMTP session: what a session may ask of the post office, and the values they exchange.

The session (session.py) knows only the names in this file; door.py answers. Not here: SMTP words and replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from gateway.core.errors import Refused
from storage.blobs import Spool


@dataclass(frozen=True, slots=True)
class Account:
    """Who logged in. addresses: in comparison form, those that MAIL FROM and From may name."""

    id: str
    addresses: frozenset[str]
    name: str


class Recipient(NamedTuple):
    """One RCPT. address: as written between the brackets. notify and orcpt: as given (RFC 3461 4.1, 4.2), or None."""

    address: str
    notify: str | None = None
    orcpt: str | None = None


class Envelope(NamedTuple):
    """One mail transaction. mail_from: "" for the null reverse-path. envid and ret: RFC 3461 4.3, 4.4, decoded, or None."""

    mail_from: str
    recipients: tuple[Recipient, ...]
    envid: str | None = None
    ret: str | None = None
    smtputf8: bool = False


class Origin(NamedTuple):
    """Where a mail came from: what the session knows of its peer (R16)."""

    peer: str  # address of the peer, without its port
    helo: str
    listener: str  # submissions, submission, mx
    tls: str | None  # "TLSv1.3 TLS_AES_256_GCM_SHA384", or None
    mechanism: str | None  # SASL, or None

    def facts(self) -> dict[str, Any]:
        """As it stands in evidence."""
        return {
            "peer": self.peer,
            "helo": self.helo[:255],
            "listener": self.listener,
            "tls": self.tls,
            "mechanism": self.mechanism,
        }


class Receipt(NamedTuple):
    """What a deposit became. letters: in the order of its recipients. held: something is missing."""

    deposit: str
    letters: tuple[str, ...]
    held: bool


class Desk(Protocol):
    """Errors are those of core/errors.py and are answered with their codes; anything else is our fault: 451 4.3.0."""

    async def authenticate(self, username: str, password: str) -> Account:
        """Raises BadPassword."""

    async def check_recipient(self, account: Account, address: str) -> None:
        """At RCPT: raises BadRecipient, NullMx."""

    def check_recipients(self, account: Account, recipients: Sequence[str]) -> None:
        """At DATA, before the 354: raises Stranger where the recipients together make no letter."""

    def spool(self) -> Spool:
        """Where the next message goes. Raises StorageFull."""

    async def deposit(self, account: Account, envelope: Envelope, origin: Origin, spool: Spool) -> Receipt:
        """Take a whole message; when it returns the 250 may be said. It goes on though the peer goes away."""

    async def refused(
        self, account: Account, envelope: Envelope, origin: Origin, spool: Spool | None, error: Refused
    ) -> None:
        """A message of *account* was refused before it came to `deposit`. spool: the message, where all of it was read."""

    def is_return_address(self, address: str) -> bool:
        """Whether *address* is one that we signed (bounces come to it)."""

    async def take_return(self, address: str, raw: bytes, origin: Origin) -> None:
        """Take a mail to a return address."""
