"""The register on a real database: one winner, whole steps or none, and evidence that nobody can change afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tortoise.connection import get_connection

from gateway.check import check
from gateway.core.errors import BadPassword, NotAllowed, OurFault, PliError
from gateway.core.letter import Event, State
from gateway.register import Deposited, Entry, Exists, Mail, Move, Opening, Settled, Stale
from storage import accounts, outbox, triggers
from storage.database import Failure
from storage.rows import CodeRow, LetterRow
from tests.office import SENDER, Inside, office_in
from tests.storage import store
from tests.storage.store import rows

TABLES = ("deposit", "letter", "vault_key", "ledger", "batch", "evidence_body", "intent", "attempt", "code")


def fact(row: LetterRow, inside: Inside, event: Event = Event.LINK_FETCHED, state: State | None = None) -> Entry:
    return Entry(event, state or State(row.state), inside.clock.now(), {"method": "GET"}, {"address": "192.0.2.1"})


async def one(inside: Inside) -> LetterRow:
    return await inside.letter((await inside.deposit()).letters[0])


async def test_a_deposit_is_whole(inside: Inside) -> None:
    receipt = await inside.deposit(["a@example.net", "b@example.net"])
    found = {name: len(content) for name, content in rows(inside).items()}
    assert len(receipt.letters) == 2
    expected = {"deposit": 1, "letter": 2, "vault_key": 3, "ledger": 2, "evidence_body": 2, "intent": 4, "batch": 1}
    assert {name: found[name] for name in expected} == expected


async def test_the_same_mail_again_is_one_deposit_however_parallel(inside: Inside) -> None:
    receipts = await asyncio.gather(*(inside.deposit(["a@example.net", "b@example.net"]) for _ in range(20)))
    assert len({(receipt.deposit, receipt.letters) for receipt in receipts}) == 1
    assert len(rows(inside)["letter"]) == 2


async def test_recipients_that_come_in_parts_join_one_deposit(inside: Inside) -> None:
    names = [f"r{n}@example.net" for n in range(130)]
    parts = [names[:50], names[50:100], names[100:]]  # as Postfix splits a long list
    receipts = await asyncio.gather(*(inside.deposit(part, To="everybody@example.org") for part in parts))
    assert len({receipt.deposit for receipt in receipts}) == 1
    assert len({letter for receipt in receipts for letter in receipt.letters}) == 130


async def test_of_a_hundred_decisions_one_wins(inside: Inside) -> None:
    """The sender withdraws while the notice fails for good, a hundred times over."""
    row, at = await one(inside), inside.clock.now()
    moves = []
    for n in range(100):
        event, state = (Event.WITHDRAW, State.WITHDRAWN) if n % 2 else (Event.NOTICE_FAILED, State.UNDELIVERABLE)
        moves.append(Move(row, [Entry(event, state, at, {"n": n})], {}, [Mail("status", f"<{n}@pli.test>", at)]))
    results = await asyncio.gather(*(inside.register.commit([move]) for move in moves), return_exceptions=True)
    won = [n for n, result in enumerate(results) if result is None]
    assert len(won) == 1
    assert all(isinstance(result, Stale) for n, result in enumerate(results) if n not in won)
    events = [event for _, event in await inside.register.events(row.id)]
    assert events == [Event.DEPOSIT, moves[won[0]].entries[0].event]
    assert (
        len(await outbox.intents(inside.open.office.vault, letter_id=row.id)) == 3
    )  # two of the deposit, one of the winner


async def test_facts_in_parallel_make_one_unbroken_chain(inside: Inside) -> None:
    row = await one(inside)
    await asyncio.gather(*(inside.register.commit([Move(row, [fact(row, inside)])]) for _ in range(150)))
    assert [n for n, _ in await inside.register.events(row.id)] == list(range(1, 152))
    sizes = [size for _, size, _ in await inside.register.batches()]
    assert max(sizes) > 1, "parallel steps share a commit"


async def test_a_failed_step_fails_alone(inside: Inside) -> None:
    row = await one(inside)
    stale = replace(row, state="held")
    good, bad = Move(row, [fact(row, inside)]), Move(stale, [fact(row, inside)])
    with pytest.raises(Stale):
        await inside.register.commit([good, bad, good])
    assert len(await inside.register.events(row.id)) == 3
    # What fails late in a step takes its earlier parts with it: the mail of this one exists already.
    (mail, *_) = await outbox.intents(inside.open.office.vault, letter_id=row.id)
    twice = Move(row, [fact(row, inside)], mails=[Mail("status", mail.message_id, inside.clock.now())])
    before = rows(inside)
    with pytest.raises(OurFault):
        await inside.register.commit([twice])
    assert rows(inside) == before
    # A mail that is single by its key is owed already: then somebody was faster.
    reminder = Mail("reminder", "<first@pli.test>", inside.clock.now(), key="1")
    await inside.register.commit([Move(row, [], mails=[reminder])])
    before = rows(inside)
    with pytest.raises(Stale):
        await inside.register.commit([Move(row, [], mails=[replace(reminder, message_id="<second@pli.test>")])])
    assert rows(inside) == before


async def test_a_deposit_that_exists_is_told_apart(inside: Inside) -> None:
    row = await one(inside)
    deposit = await inside.register.deposit(id=row.deposit_id)
    assert deposit is not None
    opening = Opening(row, [Entry(Event.DEPOSIT, State.DEPOSITED, inside.clock.now())])
    with pytest.raises(Exists):
        await inside.register.commit([Deposited(deposit, deposit.id, b"k" * 32, [opening])])
    with pytest.raises(Exists):
        await inside.register.commit([Deposited(None, deposit.id, b"k" * 32, [opening])])


async def test_a_caller_that_goes_away_does_not_take_others_along(inside: Inside) -> None:
    row = await one(inside)
    tasks = [asyncio.ensure_future(inside.register.commit([Move(row, [fact(row, inside)])])) for _ in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results[1::2] if result is not None] == []
    assert len(await inside.register.events(row.id)) == 31  # those who left had asked before they left


# -- nothing half-written ------------------------------------------------------------------------------------------------


async def _no_audit(tmp_path: Path, office_template: Path) -> AsyncIterator[Inside]:
    async with office_in(tmp_path, office_template, audit=False) as found:
        yield found


unchecked = pytest.fixture(_no_audit, name="unchecked")


@pytest.mark.parametrize("table", ["deposit", "letter", "vault_key", "ledger", "batch", "evidence_body", "intent"])
async def test_a_deposit_is_whole_or_not_at_all(unchecked: Inside, table: str) -> None:
    store.break_(unchecked, table)
    before = rows(unchecked)
    with pytest.raises(PliError):
        await unchecked.deposit()
    assert rows(unchecked) == before
    store.mend(unchecked, table)
    receipt = await unchecked.deposit()  # the client tries again, and then it is there, once
    assert len(receipt.letters) == 1
    assert len(rows(unchecked)["letter"]) == 1
    assert not (await check(unchecked.open.office)).wrong


@pytest.mark.parametrize(
    "table", ["ledger", "batch", "evidence_body", "intent", "code", "UPDATE letter", "UPDATE intent"]
)
async def test_a_move_is_whole_or_not_at_all(unchecked: Inside, table: str) -> None:
    row, at = await one(unchecked), unchecked.clock.now()
    claimed = await outbox.claim(unchecked.open.office.vault, at, unchecked.clock.go(minutes=5), "me", 10)
    notice = next(intent for intent in claimed if intent.kind == "notice")
    await outbox.begin(unchecked.open.office.vault, "a" * 32, notice.id, "me", at, "0" * 64, None)
    code = CodeRow("c" * 32, row.id, "accept", "live", 0, "0" * 64, "0" * 64, at, at)
    settled = Settled(notice.id, "a" * 32, "taken", {}, outbox.DONE)
    mails = [Mail("code", "<code@pli.test>", at)]
    entry = fact(row, unchecked)
    move = Move(row, [entry], {"reminders": 7}, mails, cancel=("notice",), settled=settled, code_made=code)
    verb, _, name = table.rpartition(" ")
    store.break_(unchecked, name, verb or "INSERT")
    before = rows(unchecked)
    with pytest.raises(PliError):
        await unchecked.register.commit([move])
    assert rows(unchecked) == before
    store.mend(unchecked, name)
    await unchecked.register.commit([move])
    assert (await unchecked.letter(row.id)).reminders == 7
    assert not (await check(unchecked.open.office)).wrong


async def test_a_database_that_fails_is_our_fault_and_says_nothing(unchecked: Inside) -> None:
    row = await one(unchecked)
    store.run(unchecked, "ALTER TABLE evidence_body RENAME TO gone")
    with pytest.raises(OurFault) as caught:
        await unchecked.register.commit([Move(row, [fact(row, unchecked)])])
    assert "evidence_body" not in str(caught.value)
    assert caught.value.smtp_reply.startswith("451 4.3.0 ")
    store.run(unchecked, "ALTER TABLE gone RENAME TO evidence_body")
    await unchecked.register.commit([Move(row, [fact(row, unchecked)])])
    assert not (await check(unchecked.open.office)).wrong


# -- what cannot be changed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["ledger", "batch"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET at = at", "DELETE FROM {}", "TRUNCATE {}"])
async def test_ledger_and_commits_are_append_only(inside: Inside, table: str, statement: str) -> None:
    await one(inside)
    if statement.startswith("TRUNCATE") and not store.url(inside):
        pytest.skip("SQLite knows no TRUNCATE")
    with pytest.raises(Failure, match=f"{table} is append-only"):
        await get_connection("default").execute_query(statement.format(table))
    with pytest.raises((sqlite3.IntegrityError, RuntimeError), match="append-only"):
        store.run(inside, statement.format(table))


_TAMPER = {
    "a record that was replaced": "UPDATE evidence_body SET record = (SELECT record FROM evidence_body WHERE n = 2) WHERE n = 1",
    "a body that was erased from the middle": "DELETE FROM evidence_body WHERE n = 1",
    "a state that was set by hand": "UPDATE letter SET state = 'refused'",
    "a chain length that was set by hand": "UPDATE letter SET chain_length = 1",
    "a window that was moved": "UPDATE letter SET closes_at = '2030-01-01 00:00:00+00:00'",
    "a mail that was taken away": "DELETE FROM intent WHERE kind = 'status'",
    "a key of another holder": "UPDATE vault_key SET wrapped = (SELECT wrapped FROM vault_key ORDER BY wrapped LIMIT 1)",
    "a ledger row that was taken away": "DELETE FROM ledger WHERE n = 2",
    "a ledger row that was rewritten": "UPDATE ledger SET event = 'refuse' WHERE n = 2",
    "a commit that was taken away": "DELETE FROM batch",
    "another digest": f"UPDATE ledger SET record_digest = '{'0' * 64}' WHERE n = 1",
    "another letter's place": "UPDATE letter SET details = (SELECT details FROM deposit)",
}


@pytest.mark.parametrize("what", _TAMPER)
async def test_the_audit_sees(unchecked: Inside, what: str) -> None:
    row = await one(unchecked)
    await unchecked.register.commit([Move(row, [fact(row, unchecked)])])
    assert not (await check(unchecked.open.office)).wrong
    for table in triggers.IMMUTABLE:
        store.disarm(unchecked, table)
    store.run(unchecked, _TAMPER[what])
    assert (await check(unchecked.open.office)).wrong, what


async def test_the_audit_sees_a_letter_whose_bytes_changed(unchecked: Inside) -> None:
    await one(unchecked)
    if store.url(unchecked):
        store.run(unchecked, "UPDATE message_bytes SET data = set_byte(data, 40, 255 - get_byte(data, 40))")
    else:
        (segment,) = (unchecked.open.office.settings.gateway.data_dir / "blobs").glob("*.seg")
        raw = bytearray(segment.read_bytes())
        raw[40] ^= 1
        segment.write_bytes(raw)
    wrong = (await check(unchecked.open.office)).wrong
    assert len(wrong) == 1
    assert "bytes" in wrong[0]


# -- what a thief of the database learns ---------------------------------------------------------------------------------


async def test_no_person_and_no_content_stands_in_the_database(inside: Inside) -> None:
    await inside.deposit(["john.roe@example.net"], "the secret text", Subject="a telling subject")
    await accounts.note(inside.open.office.vault, inside.clock.now(), "alarm", {"who": "john.roe"})
    row = (await inside.register.letters())[0]
    token = inside.open.office.links.token(row.id, row.generation)
    everything = store.everything(inside)
    assert row.id.encode() in everything, "the search looks at the right bytes"
    for secret in ("john.roe", "example.net", "jane", "Jane Doe", "secret text", "telling", token, "192.0.2.7"):
        assert secret.encode() not in everything, secret


# -- work ----------------------------------------------------------------------------------------------------------------


async def test_work_is_claimed_once_and_again_when_its_worker_died(inside: Inside) -> None:
    vault, now = inside.open.office.vault, inside.clock.now()
    for n in range(10):
        await inside.deposit([f"r{n}@example.net"], Message_ID=f"<{n}@example.org>")
    until = inside.clock.go(minutes=5)
    claims = await asyncio.gather(*(outbox.claim(vault, now, until, f"w{n}", 3) for n in range(10)))
    # Where rows are locked one by one, a claimer passes over what a neighbour is just looking at.
    claims.append(await outbox.claim(vault, now, until, "w10", 20))
    ids = [intent.id for claim in claims for intent in claim]
    assert len(ids) == len(set(ids)) == 20
    assert await outbox.claim(vault, now, until, "late", 100) == []
    assert len(await outbox.claim(vault, until, inside.clock.go(minutes=5), "next", 100)) == 20
    assert await outbox.extend(ids[:1], "w0", until) == 0, "the dead worker's lease is gone"


async def test_a_mail_is_settled_once(inside: Inside) -> None:
    vault, now = inside.open.office.vault, inside.clock.now()
    await one(inside)
    (intent, *_) = await outbox.claim(vault, now, inside.clock.go(minutes=1), "me", 1)
    results = await asyncio.gather(*(outbox.settle(intent.id, outbox.DONE, "taken", now) for _ in range(5)))
    assert sorted(results) == [False] * 4 + [True]
    assert await outbox.mark_bounced(intent.id)
    assert not await outbox.mark_bounced(intent.id)


async def test_erased_keys_end_a_letter_for_its_holder_alone(inside: Inside) -> None:
    row = await one(inside)
    assert await inside.register.data_key(row.deposit_id, row.id) == await inside.register.data_key(
        row.deposit_id, "sender"
    )
    with pytest.raises(NotAllowed):
        await inside.register.data_key(row.deposit_id, "0" * 32)


@pytest.mark.parametrize("password", ["a\x00b", "\ud800", "é" * 30, "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
async def test_a_password_that_cannot_be_is_a_wrong_one(inside: Inside, password: str) -> None:
    """Not a failure of the database, which would be told as 451 and tried again."""
    with pytest.raises(BadPassword):
        await inside.open.accounts.authenticate(SENDER, password)
