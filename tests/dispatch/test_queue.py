"""Several workers at one table of mails: who may send what, in which order, and what is recorded whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from typing import Any

import pytest

from gateway.archive import Archive
from gateway.core.letter import Event, State
from gateway.dispatch import queue as queues
from gateway.dispatch.dkim import Signer
from gateway.dispatch.lease import holder, is_dead
from gateway.dispatch.mails import Scribe
from gateway.dispatch.queue import Queue, Result
from gateway.dispatch.route import Router
from gateway.links import grouped
from gateway.office import Office
from gateway.postoffice import NOTICE, STATUS, PostOffice
from gateway.register import Stale
from gateway.steps import Entry, Move
from storage import outbox
from storage.rows import IntentRow, LetterRow
from tests.office import Inside


@asynccontextmanager
async def working(inside: Inside, office: Office | None = None) -> AsyncIterator[Queue]:
    """A queue whose mails are all taken by their next server, at once."""
    office = office or inside.open.office
    scribe = Scribe(office, Archive(office), inside.open.accounts)
    queue = Queue(office, PostOffice(office), scribe, Signer(office.keys.dkim), Router(None, None))
    queue.pause = 0.05

    async def taken(*_: Any) -> Result:
        return Result("taken", office.clock.now(), {"host": "mx.example.net"})

    queue._deliver = taken  # type: ignore[method-assign,assignment]
    await queue.start(alone=False)
    try:
        yield queue
    finally:
        await queue.stop()


async def settled(inside: Inside, patience: float = 20.0) -> list[IntentRow]:
    """All mails, once none is owed any more."""
    async with asyncio.timeout(patience):
        while await outbox.intents(inside.open.office.vault, state__in=[outbox.DUE, outbox.LEASED]):
            await asyncio.sleep(0.05)
    return await outbox.intents(inside.open.office.vault)


async def notified(inside: Inside) -> LetterRow:
    """A letter whose notice was taken."""
    letter_id = (await inside.deposit()).letters[0]
    async with working(inside):
        await settled(inside)
    return await inside.letter(letter_id)


async def test_two_workers_send_every_mail_once(inside: Inside) -> None:
    for number in range(6):
        await inside.deposit([f"r{number}@example.net"], Message_ID=f"<m{number}@example.org>")
    async with working(inside), working(inside):
        intents = await settled(inside)
    assert len(intents) == 3 * 6, "two statuses and a notice of each letter"
    assert {intent.state for intent in intents} == {outbox.DONE}
    assert {intent.attempts for intent in intents} == {1}


async def test_status_mails_wait_for_each_other_also_in_another_process(inside: Inside) -> None:
    vault, now = inside.open.office.vault, inside.clock.now()
    row = await inside.letter((await inside.deposit()).letters[0])
    until = now + timedelta(minutes=1)
    first = {intent.kind: intent for intent in await outbox.claim(vault, now, until, "one", 10)}
    await inside.open.postoffice.withdraw(row, now)
    assert await outbox.claim(vault, now, until, "two", 10) == [], "the first status is on its way"
    assert await outbox.begin(vault, "a" * 32, first[STATUS].id, "one", now, "0" * 64, None)
    assert await outbox.release_leases("one") == 2
    # Nobody knows whether the first arrived: it is sent again, and the second still waits.
    again = await outbox.claim(vault, now, until, "two", 10)
    assert [intent.id for intent in again if intent.kind == STATUS] == [first[STATUS].id]
    await outbox.postpone(first[STATUS].id, "two", now + timedelta(minutes=5), "temporary")
    assert [intent.kind for intent in await outbox.claim(vault, now, until, "two", 10)] == [STATUS]


async def test_nobody_sends_what_another_took_over(inside: Inside) -> None:
    vault, now = inside.open.office.vault, inside.clock.now()
    await inside.deposit()
    (mail, *_) = await outbox.claim(vault, now, now + timedelta(minutes=1), "slow", 10)
    later = inside.clock.go(minutes=2)
    assert len(await outbox.claim(vault, later, later + timedelta(minutes=1), "quick", 10)) == 2
    assert not await outbox.begin(vault, "a" * 32, mail.id, "slow", later, "0" * 64, None)
    assert await outbox.extend([mail.id], "slow", later + timedelta(hours=1)) == 0
    await outbox.postpone(mail.id, "slow", later, "our fault")
    assert await outbox.extend([mail.id], "quick", later + timedelta(minutes=1)) == 1
    assert await outbox.attempts(vault, mail.id) == []


async def test_only_a_process_of_this_machine_that_is_gone_is_dead() -> None:
    assert not is_dead(holder())
    host, pid, born = holder().split(":")
    assert pid == str(os.getpid())
    assert is_dead(f"{host}:{pid}:{int(born) - 1}"), "our number, held by one that was born before us"
    assert not is_dead(f"{'0' * 16}:1:1"), "of another machine nothing is known"
    assert not is_dead("") and not is_dead(":::") and not is_dead(host)
    say = "import gateway.dispatch.lease as l, sys; print(l.holder(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", say], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None and child.stdin is not None
        other = child.stdout.readline().strip()
        assert not is_dead(other)
        child.stdin.close()
        child.wait()
    assert is_dead(other)


async def test_leases_of_a_dead_process_are_taken_over_at_once(inside: Inside) -> None:
    vault, now = inside.open.office.vault, inside.clock.now()
    await inside.deposit()
    host, pid, born = holder().split(":")
    dead = f"{host}:{pid}:{int(born) - 1}"
    assert len(await outbox.claim(vault, now, now + timedelta(hours=1), dead, 10)) == 2
    async with working(inside):
        assert {intent.state for intent in await settled(inside)} == {outbox.DONE}


@pytest.mark.parametrize("trouble", [Stale(), RuntimeError("the database is away")])
async def test_the_end_of_a_mail_is_recorded_however_often_that_fails(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(queues, "_AGAIN", (0.0,) * 10)
    await inside.deposit()
    fails = 8
    async with working(inside) as queue:
        conclude = queue._conclude

        async def sometimes(*given: Any) -> None:
            nonlocal fails
            fails -= 1
            if fails > 0:
                raise trouble
            await conclude(*given)

        queue._conclude = sometimes  # type: ignore[method-assign,assignment]
        intents = await settled(inside)
    assert {intent.state for intent in intents} == {outbox.DONE}
    assert {intent.attempts for intent in intents} == {1}, "nothing was sent twice"


async def test_a_lapse_does_not_pass_a_choice_that_was_posted_in_time(inside: Inside) -> None:
    row = await notified(inside)
    assert row.state == State.NOTIFIED and row.closes_at is not None
    inside.clock.at = row.closes_at + timedelta(seconds=1)
    assert [due.id for due in await inside.register.due("lapse", inside.clock.now())] == [row.id]
    # Between the sweep's look and its step, the choice of a second ago becomes evidence.
    asked = row.closes_at - timedelta(seconds=1)
    columns = {"asked_at": asked, "open_until": row.closes_at + timedelta(minutes=30)}
    entry = Entry(Event.CODE_SENT, State.NOTIFIED, asked, {"choice": "accept"})
    await inside.register.commit([Move(row, [entry], columns)])
    with pytest.raises(Stale):
        await inside.open.postoffice.lapse(row, inside.clock.now())
    assert await inside.register.due("lapse", inside.clock.now()) == []
    inside.clock.go(minutes=31)
    await inside.open.postoffice.lapse(await inside.letter(row.id), inside.clock.now())


async def test_a_proof_that_two_make_at_once_is_one_proof(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    office = inside.open.office
    row = await inside.letter((await inside.deposit()).letters[0])
    ((n, _),) = await inside.register.events(row.id)
    numbers = iter(range(100))

    class Press:
        def make(self, *_: Any) -> dict[str, bytes]:
            mine = next(numbers)
            return {"proof.pdf": b"%d" % mine, "evidence.json": b"{%d}" % mine}

    archive = Archive(replace(office, press=Press()))  # type: ignore[arg-type]
    made = await asyncio.gather(*(archive.parts(row, n, "en") for _ in range(8)))
    assert all(parts == made[0] for parts in made)
    assert made[0]["evidence.json"] == b"{%b}" % made[0]["proof.pdf"], "parts of one making"
    assert await archive.parts(row, n, "en") == made[0]


async def test_a_proof_is_registered_whole_or_not_at_all(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    row = await inside.letter((await inside.deposit()).letters[0])
    ((n, _),) = await inside.register.events(row.id)
    keep, kept = Archive._keep, 0

    async def until_it_dies(self: Archive, data: bytes, key: bytes) -> tuple[str, str]:
        nonlocal kept
        kept += 1
        if kept == 2:
            raise RuntimeError("killed between two parts")
        return await keep(self, data, key)

    monkeypatch.setattr(Archive, "_keep", until_it_dies)
    with pytest.raises(RuntimeError):
        await inside.open.archive.parts(row, n, "en")
    assert await outbox.proofs(row.id, n) == []
    parts = await inside.open.archive.parts(row, n, "en")
    assert {"proof.pdf", "evidence.json"} <= parts.keys()


async def test_a_notice_that_is_sent_again_is_the_same_notice(inside: Inside) -> None:
    office = inside.open.office
    row = await inside.letter((await inside.deposit()).letters[0])
    intent = await outbox.intent(office.vault, letter_id=row.id, kind=NOTICE)
    assert intent is not None
    scribe = Scribe(office, inside.open.archive, inside.open.accounts)
    first = await scribe.render(intent, row, inside.clock.now())
    second = await scribe.render(intent, row, inside.clock.go(minutes=10))
    assert first.to == second.to and first.last_day == second.last_day
    first_mail, second_mail = (message_from_bytes(mail.message) for mail in (first, second))
    assert first_mail["Message-ID"] == second_mail["Message-ID"] == intent.message_id
    assert first_mail["Pli-Notice"] == second_mail["Pli-Notice"] == grouped(row.reference)
