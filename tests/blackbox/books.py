"""What a gateway's store says after all that happened, held against what people outside saw."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from dataclasses import dataclass, field

from gateway.core.letter import Event, State
from gateway.opening import Open, opened
from gateway.settings import load
from storage import outbox
from storage.rows import IntentRow, LetterRow
from tests.blackbox.drive import Site
from tests.blackbox.lives import Crowd
from tests.blackbox.sink import Sink, Taken

_NAMES = {
    Event.DEPOSIT: "deposited",
    Event.NOTICE_TAKEN: "notified",
    Event.ACCEPT: "accepted",
    Event.HAND_OVER: "handed-over",
    Event.REFUSE: "refused",
}


@dataclass
class Books:
    letters: dict[str, LetterRow] = field(default_factory=dict)
    events: dict[str, list[tuple[int, Event]]] = field(default_factory=dict)
    intents: dict[str, list[IntentRow]] = field(default_factory=dict)


def settled_books(where: Site, patience: float = 120.0) -> Books:
    """All of it, once no mail is owed any more."""

    async def read() -> Books:
        async with opened(load(where.config, {})) as inside:
            end = time.monotonic() + patience
            while waiting := await _unsettled(inside):
                assert time.monotonic() < end, f"the queue does not resume: {waiting}"
                await asyncio.sleep(1)
            return await _read(inside)

    return asyncio.run(read())


async def _unsettled(inside: Open) -> list[str]:
    found = await outbox.intents(inside.office.vault, state__in=[outbox.DUE, outbox.LEASED])
    return [f"{row.kind} of {row.letter_id}: {row.state}, {row.attempts} attempts, {row.outcome}" for row in found]


async def _read(inside: Open) -> Books:
    books, register = Books(), inside.office.register
    for row in await register.letters(limit_to=1_000_000):
        books.letters[row.id] = row
        books.events[row.id] = await register.events(row.id)
        books.intents[row.id] = await outbox.intents(inside.office.vault, letter_id=row.id)
    return books


def hold_against(books: Books, crowd: Crowd, world: Sink) -> None:
    """Every promise of a gateway, for every letter."""
    _each_once_and_whole(books, crowd)
    for letter_id, events in books.events.items():
        numbers = [n for n, _ in events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{letter_id}: a gap in {numbers}"
        for once in _NAMES:
            assert sum(event is once for _, event in events) <= 1, f"{letter_id}: {once} twice"
    _what_was_shown_is_proven(books, crowd)
    _every_mail_once(books, world)
    _stories_in_order(books, world)


def _each_once_and_whole(books: Books, crowd: Crowd) -> None:
    by_message: dict[str, list[LetterRow]] = defaultdict(list)
    for row in books.letters.values():
        by_message[row.details["subject"]["content"]["message_id"]].append(row)
    assert [m for m, rows in by_message.items() if len(rows) > 1] == [], "a mail became two letters"
    assert [m for m in crowd.answered if m not in by_message] == [], "a mail that was answered 250 is gone"
    for message_id, [row] in by_message.items():
        assert row.details["subject"]["content"]["sha256"] == hashlib.sha256(crowd.sent[message_id]).hexdigest()
        if message_id in crowd.answered:
            assert row.id in crowd.answered[message_id]


def _what_was_shown_is_proven(books: Books, crowd: Crowd) -> None:
    by_recipient = {row.details["recipient"]["address"]: row for row in books.letters.values()}
    for address, who in crowd.recipients.items():
        row = by_recipient[address]
        events = {event for _, event in books.events[row.id]}
        if who.decided or who.shown or who.raw is not None:
            assert row.decision == who.wish, f"{row.id}: he was told that he did {who.wish}: {who.said}"
            assert (Event.ACCEPT if who.wish == "accept" else Event.REFUSE) in events
        if who.raw is not None:
            assert who.raw == crowd.sent[row.details["subject"]["content"]["message_id"]]
        if who.finished:
            assert row.state in (State.ACCEPTED, State.HANDED_OVER, State.REFUSED), who.said


def _every_mail_once(books: Books, world: Sink) -> None:
    """What came is what was owed, and nothing that was owed is missing. A second copy of a mail is the same mail."""
    owed = {intent.message_id: intent for intents in books.intents.values() for intent in intents}
    came: dict[str, list[Taken]] = defaultdict(list)
    for mail in world.all():
        came[mail.message_id].append(mail)
    assert came.keys() <= owed.keys(), "a mail that nobody owed"
    for message_id, intent in owed.items():
        if intent.state == outbox.DONE:
            assert message_id in came, f"{intent.kind} of {intent.letter_id} is said to be sent"
    for letter_id, events in books.events.items():
        told = {intent.n: intent for intent in books.intents[letter_id] if intent.kind == "status"}
        missing = [event for n, event in events if event in _NAMES and n not in told]
        assert missing == [], f"{letter_id}: no status mail about {missing}"
        assert all(intent.message_id in came for intent in told.values()), f"{letter_id}: a status mail did not come"
        kinds = [intent.kind for intent in books.intents[letter_id]]
        assert kinds.count("notice") == 1 and kinds.count("receipt") <= 1
    for copies in came.values():
        parts = {tuple(part.get_payload(decode=True) for part in mail.message.iter_attachments()) for mail in copies}
        assert len(parts) == 1, "a proof that was sent twice has two forms"


def _stories_in_order(books: Books, world: Sink) -> None:
    """The sender hears of a letter in the order in which it happened."""
    first: dict[str, dict[str, int]] = defaultdict(dict)
    for position, mail in enumerate(world.all()):
        if mail.message["Pli-Letter"]:
            first[str(mail.message["Pli-Letter"])].setdefault(str(mail.message["Pli-Event"]), position)
    for letter_id, events in books.events.items():
        expected = [_NAMES[event] for _, event in events if event in _NAMES]
        heard = sorted(first[letter_id], key=first[letter_id].__getitem__)
        owed = [f"{i.kind} {i.n}: {i.state} {i.outcome}, {i.attempts} attempts" for i in books.intents[letter_id]]
        assert heard == expected, f"{letter_id}: {heard}; {owed}"
