"""A counter with one drawer of letters: the rules of gateway/counter.py without a store, so that pages are tried alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from gateway.core.errors import (
    NotAllowed,
    NotFound,
    NotIdentified,
    OurFault,
    Refused,
    TooManyAttempts,
    WindowClosed,
    WrongCode,
)
from gateway.core.letter import State
from gateway.counter import CHOICES, Asked, Content, Decided, NotHandedOver, Showing, Visitor
from gateway.dispatch.compose import House

NOW = datetime(2026, 7, 1, 8, 3, tzinfo=UTC)
TOKEN = "abcdefghijklmnopqrstuvwxyz234567"
OTHER = "zyxwvutsrqponmlkjihgfedcba765432"
CODE = "123456"
LETTER = b"""\
From: Jane Doe <jane.doe@example.org>\r
To: john.doe@example.com\r
Subject: Notice of termination\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset=utf-8\r
\r
Dear Sir,\r
\r
the contract of 3 March ends on 30 September.\r
See https://example.org/terms.\r
"""
HOUSE = House(
    operator_name="Example Post",
    operator_address="1 Example Street, 75000 Example",
    operator_phone="+33 1 99 00 00 00",
    operator_email="help@pli.test",
    operator_site="https://pli.test",
    domain="pli.test",
    notice_domain="avis.test",
    public_url="http://127.0.0.1",
    zone="Europe/Paris",
    profile_title={
        "fr": "Pli électronique avec preuve (non qualifié)",
        "en": "Electronic letter with proof (non-qualified)",
    },
    profile_level="non-qualified",
    law={"fr": "Code des postes et des communications électroniques.", "en": "French postal code."},
    anonymous=True,
)


class Clock:
    def now(self) -> datetime:
        return NOW


@dataclass
class StandIn:
    """Implements gateway.counter.Counter. done: what happened, in order. broken_off: form, octets sent and in all."""

    letters: dict[str, Showing] = field(default_factory=dict)
    raw: bytes = LETTER
    subject: str = "Notice of termination"
    sender_name: str = "Jane Doe"
    done: list[tuple[str, ...]] = field(default_factory=list)
    broken_off: list[tuple[str, int, int]] = field(default_factory=list)
    codes: int = 0
    tries: int = 0
    broken: Exception | None = None
    failing_hand_overs: int = 0
    failing_failures: int = 0

    async def find(self, reference: str, access_code: str, visitor: Visitor) -> str:
        if access_code == "too often":
            raise TooManyAttempts
        if reference.replace("-", "").upper() != "ABCDEFGHJK" or access_code.upper() != "ABCDEFGHJKMN":
            raise NotFound
        return TOKEN

    async def show(self, token: str, visitor: Visitor) -> Showing:
        if self.broken is not None:
            raise self.broken
        if token not in self.letters:
            raise NotFound
        return self.letters[token]

    async def choose(self, token: str, choice: str, nonce: str, visitor: Visitor) -> Asked | Showing:
        showing = await self.show(token, visitor)
        if nonce != showing.nonce:
            raise WrongCode
        if choice not in CHOICES:
            raise Refused
        if choice != "read" and showing.decision is not None:
            return showing
        if choice != "read" and not showing.open:
            raise NotAllowed if showing.state == State.DEPOSITED else WindowClosed
        if self.codes >= 3:
            raise TooManyAttempts
        self.codes, self.tries = self.codes + 1, 0
        self.done.append(("code", choice))
        return Asked(showing, choice, f"once-{choice}-{self.codes}", NOW + timedelta(hours=1))

    async def decide(self, token: str, choice: str, code: str, nonce: str, visitor: Visitor) -> Decided:
        showing = await self.show(token, visitor)
        if choice != "read" and showing.decision is not None:
            return Decided(showing, None, first=False)
        if choice != "read" and not showing.open:
            raise WindowClosed
        if nonce != f"once-{choice}-{self.codes}":
            raise WrongCode
        self.tries += 1
        if code != CODE:
            raise Locked() if self.tries == 5 else WrongCode()
        self.done.append(("decided", choice))
        if choice != "read":
            state = State.ACCEPTED if choice == "accept" else State.REFUSED
            self.letters[token] = replace(showing, state=state, open=False, decision=choice, decided_at=NOW)
        return Decided(self.letters[token], session(token), first=True)

    async def content(self, token: str, session: str, visitor: Visitor, *, whole: bool = True) -> Content:
        showing = await self._identified(token, session, visitor)
        if showing.decision != "accept":
            raise NotAllowed
        if not whole and showing.state != State.HANDED_OVER:
            raise NotHandedOver
        return Content(
            showing, self.sender_name, "jane.doe@example.org", self.subject, NOW, "ab" * 32, len(self.raw), self.raw,
            "owed" if ("original",) in self.done else "none", "6a45.original",
        )  # fmt: skip

    async def handed_over(self, token: str, session: str, form: str, began: datetime, visitor: Visitor) -> None:
        showing = await self._identified(token, session, visitor)
        if self.failing_hand_overs:
            self.failing_hand_overs -= 1
            raise OurFault
        self.done.append(("handed over", form))
        self.letters[token] = replace(showing, state=State.HANDED_OVER)

    async def hand_over_failed(
        self, token: str, session: str, form: str, sent: int, total: int, visitor: Visitor
    ) -> None:
        await self._identified(token, session, visitor)
        if self.failing_failures:
            self.failing_failures -= 1
            raise OurFault
        self.broken_off.append((form, sent, total))

    async def mail_original(self, token: str, session: str, nonce: str, visitor: Visitor) -> Showing:
        showing = await self._identified(token, session, visitor)
        if nonce != "6a45.original":
            raise WrongCode
        if showing.state != State.HANDED_OVER:
            raise NotHandedOver
        self.done.append(("original",))
        return showing

    async def receipt(self, token: str, session: str) -> bytes:
        if (await self._identified(token, session, Visitor("", ""))).state == State.ACCEPTED:
            raise NotHandedOver
        return b"%PDF-1.7 receipt"

    async def _identified(self, token: str, secret: str, visitor: Visitor) -> Showing:
        showing = await self.show(token, visitor)
        if secret != session(token):
            raise NotIdentified
        return showing


class Locked(WrongCode):
    """As gateway/identity/codes.py has it."""


def session(token: str) -> str:
    return f"secret-of-{token}"


def showing(**other: object) -> Showing:
    """A letter that waits for its decision."""
    made = Showing(
        reference="ABCDEFGHJK",
        language="en",
        recipient="j•••@example.com",
        state=State.NOTIFIED,
        profile_level="non-qualified",
        notice_day=date(2026, 7, 1),
        last_day=date(2026, 7, 16),
        closes_at=datetime(2026, 7, 16, 22, tzinfo=UTC),
        zone="Europe/Paris",
        open=True,
        decision=None,
        decided_at=None,
        nonce="6a45.nonce",
    )
    return replace(made, **other)  # type: ignore[arg-type]
