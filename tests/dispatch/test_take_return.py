"""A bounce at the door: what its sender is, is for a court alone; no link comes in with it; and it holds nothing up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from gateway.core.evidence import parse_record
from gateway.core.letter import Event, State
from gateway.deposits import Deposits
from gateway.dispatch.bounce import Bounce, read_bounce
from gateway.dispatch.route import Router
from gateway.intake.desk import Origin
from gateway.intake.door import Door
from gateway.postoffice import NOTICE
from gateway.register import Settled
from gateway.rejections import Rejections
from storage import outbox
from storage.rows import IntentRow, LetterRow
from tests.dispatch.test_bounce import report
from tests.office import Inside

BOUNCER = Origin("203.0.113.77", "recipients-own-server.example", "mx", None, None)


def door(inside: Inside) -> Door:
    found = inside.open
    return Door(
        found.office,
        found.accounts,
        Deposits(found.office),
        Rejections(found.office),
        found.postoffice,
        Router(None, None),
        lambda: True,
    )


async def notified(inside: Inside) -> tuple[LetterRow, IntentRow]:
    row = await inside.letter((await inside.deposit()).letters[0])
    vault, now = inside.open.office.vault, inside.clock.now()
    for intent in await outbox.claim(vault, now, now + timedelta(minutes=1), "me", 10):
        attempt = f"{intent.id[:31]}x"
        assert await outbox.begin(vault, attempt, intent.id, "me", now, "0" * 64, None)
        settled = Settled(intent.id, attempt, "taken", {"via": "mx"}, outbox.DONE)
        if intent.kind == NOTICE:
            notice = intent
            await inside.open.postoffice.notice_taken(row, now, settled)
        else:
            await inside.open.postoffice.mail_settled(await inside.letter(row.id), settled, None, now)
    return await inside.letter(row.id), notice


async def test_where_a_bounce_came_from_is_for_a_court_alone(inside: Inside) -> None:
    row, notice = await notified(inside)
    office = inside.open.office
    token, code = office.links.token(row.id, row.generation), office.links.access_code(row.id, row.generation)
    said = f"Diagnostic-Code: smtp; 554 spam: {token[:12]} {token[12:]} {code.lower()}"
    raw = report("Reporting-MTA: dns; m", "", "Action: failed", "Status: 5.7.1", said)
    await door(inside).take_return(office.returns.make(notice.id), raw, BOUNCER)
    row = await inside.letter(row.id)
    assert (row.state, row.notices_bounced) == (State.NOTIFIED, 1)
    (n,) = [n for n, event in await inside.register.events(row.id) if event is Event.BOUNCE]
    record = await inside.register.record(row.id, n)
    assert b"203.0.113.77" not in record
    assert b"recipients-own-server" not in record
    facts = parse_record(record)["facts"]
    assert (facts["bounce"]["status"], facts["authenticated"]) == ("5.7.1", False)
    letters = "".join(filter(str.isalnum, json.dumps(facts).lower()))
    assert token[:12] not in letters
    assert token[12:] not in letters
    assert code.lower() not in letters
    assert parse_record(record)["private"] is not None


async def test_no_bounce_holds_the_loop(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    row, notice = await notified(inside)
    longest, running = 0.0, True

    def slow(raw: bytes, secrets: Sequence[str]) -> Bounce:
        time.sleep(0.8)
        return read_bounce(raw, secrets)

    async def watch() -> None:
        nonlocal longest
        while running:
            begin = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - begin)

    monkeypatch.setattr("gateway.intake.door.read_bounce", slow)
    watching = asyncio.create_task(watch())
    raw = report("Reporting-MTA: dns; m", "", "Action: delayed", "Status: 4.0.0")
    await door(inside).take_return(inside.open.office.returns.make(notice.id), raw, BOUNCER)
    running = False
    await watching
    assert longest < 0.6
    assert (await inside.letter(row.id)).notices_bounced == 0
