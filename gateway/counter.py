"""The recipient's counter: what the portal may ask of the post office, and what it is told.

The portal (web/portal) knows only the names in this file. What it is told before acceptance holds nothing about the sender
(profile with anonymity, CPCE R.53-3 I), and no answer ever repeats a token that the visitor did not bring himself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from gateway.core.errors import NotAllowed
from gateway.core.letter import State

CHOICES = ("accept", "refuse", "read")
"""`read` identifies a visitor again after the decision; it is no decision."""


class NotHandedOver(NotAllowed):
    """Parts of an accepted letter, its original by mail and its receipt come after its hand-over, never instead of it."""

    sentence = "Please open the letter itself first."


@dataclass(frozen=True, slots=True)
class Visitor:
    """Network facts of a request: kept in the evidence body only, never shown to the sender."""

    address: str
    agent: str
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Showing:
    """A letter as the holder of its link may see it without identification."""

    reference: str  # notice reference, as printed in the notice
    language: str  # of the letter; the visitor may switch
    recipient: str  # masked: j•••@example.org
    state: State
    profile_level: str  # "non-qualified" or "qualified"
    notice_day: date | None
    last_day: date | None
    closes_at: datetime | None
    zone: str
    open: bool  # a choice may be posted now
    decision: str | None  # "accept" or "refuse", once made
    decided_at: datetime | None
    nonce: str  # for the next form; valid for some hours


@dataclass(frozen=True, slots=True)
class Asked:
    """A choice was taken down and a one-time code mailed."""

    showing: Showing
    choice: str
    nonce: str  # one-time, for the decision form
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """The outcome of a decision form. `session` is the new session's secret, or None where an earlier decision stands."""

    showing: Showing
    session: str | None
    first: bool  # this request made the decision (or identified the visitor, for `read`)


@dataclass(frozen=True, slots=True)
class Content:
    """A letter in the hands of its identified recipient."""

    showing: Showing
    sender_name: str
    sender_address: str
    subject: str
    deposited_at: datetime
    sha256: str  # of the letter's bytes
    size: int
    raw: bytes  # the deposit, byte for byte
    original: str  # what came of mailing the original: "none", "owed", "mailed" or "failed" (for good)
    nonce: str  # for the form that asks for that mail, and for no other


class Counter(Protocol):
    """Errors are those of core/errors.py: NotFound, WrongCode (code or nonce), WindowClosed, TooManyAttempts, Refused..."""

    async def find(self, reference: str, access_code: str, visitor: Visitor) -> str:
        """The link token for a typed reference and access code. Raises NotFound, TooManyAttempts."""

    async def show(self, token: str, visitor: Visitor) -> Showing:
        """Look at a letter; changes nothing that anybody decides by. Raises NotFound."""

    async def choose(self, token: str, choice: str, nonce: str, visitor: Visitor) -> Asked | Showing:
        """Take down a choice and mail a code; a Showing where the decision was made before."""

    async def decide(self, token: str, choice: str, code: str, nonce: str, visitor: Visitor) -> Decided:
        """Complete a choice with the mailed code."""

    async def content(self, token: str, session: str, visitor: Visitor, *, whole: bool = True) -> Content:
        """The accepted letter for an identified session. Raises NotIdentified, NotFound, NotAllowed.

        whole: it is asked for as a whole, which will be the hand-over. False, for a single part: NotHandedOver before that.
        """

    async def handed_over(self, token: str, session: str, form: str, began: datetime, visitor: Visitor) -> None:
        """The last byte of *form* (page, eml, zip) was sent; parts alone are no hand-over. began: when it was asked for."""

    async def hand_over_failed(
        self, token: str, session: str, form: str, sent: int, total: int, visitor: Visitor
    ) -> None:
        """A transfer of *form* ended before its last byte; *sent* of *total* octets had been given to the connection."""

    async def mail_original(self, token: str, session: str, nonce: str, visitor: Visitor) -> Showing:
        """Queue the original to the recipient's own mailbox, as message/rfc822. Raises NotHandedOver, TooManyAttempts."""

    async def receipt(self, token: str, session: str) -> bytes:
        """The recipient's own receipt as PDF: without the sender unless he accepted. Raises NotHandedOver."""


Body = AsyncIterator[bytes]
