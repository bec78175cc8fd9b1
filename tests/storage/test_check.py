"""`pli check` names what somebody with the database in his hands did to it; a store that was left alone is clean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tortoise.connection import get_connection

from gateway.check import check
from storage import outbox
from tests import postgres
from tests.office import Inside, office_in


@pytest.fixture
async def tampered(tmp_path: Path, office_template: Path) -> AsyncIterator[Inside]:
    async with office_in(tmp_path, office_template, audit=False) as found:
        yield found


DEFECTS = {
    "UPDATE letter SET state = 'refused'": "the column says refused, its evidence deposited",
    "UPDATE letter SET decision = 'refuse'": "the column says decision refuse",
    "UPDATE letter SET handed_over_at = created_at": "handed_over_at says",
    "UPDATE letter SET notices_bounced = 9": "notices_bounced says 9, the evidence 0",
    "UPDATE letter SET last_day = '2026-01-01'": "last_day says 2026-01-01",
    "UPDATE letter SET chain_length = 7": "1 ledger rows where 7 were written",
    "DELETE FROM evidence_body": "0 evidence bodies for 1 ledger rows",
    "DELETE FROM intent WHERE kind = 'notice'": "no notice mail was owed for record 1",
    "DELETE FROM vault_key": "its bytes cannot be had",
    "UPDATE letter SET details = CAST(account_id AS BLOB)": "does not open",
    "DELETE FROM letter": "has evidence and no row",
    "UPDATE proof SET sha256 = 'ab'": "proof.pdf of record 1",
}


@pytest.mark.parametrize("statement", DEFECTS)
async def test_a_changed_store_is_told_from_a_clean_one(tampered: Inside, statement: str) -> None:
    receipt = await tampered.deposit()
    row = await tampered.letter(receipt.letters[0])
    await tampered.open.archive.parts(row, 1, "en")
    assert (await check(tampered.open.office)).wrong == []
    expected = DEFECTS[statement]
    if postgres.ENGINE == "postgres":
        statement = statement.replace("CAST(account_id AS BLOB)", "account_id::bytea")
    await get_connection("default").execute_script(statement)
    wrong = (await check(tampered.open.office)).wrong
    assert any(expected in line for line in wrong), wrong


@pytest.mark.parametrize("table", ["ledger", "batch"])
async def test_a_ledger_that_can_be_changed_is_named(tampered: Inside, table: str) -> None:
    await tampered.deposit()
    names = (
        [f"{table}_append_only ON {table}"]
        if postgres.ENGINE == "postgres"
        else [f"{table}_no_update", f"{table}_no_delete"]
    )
    for name in names:
        await get_connection("default").execute_script(f"DROP TRIGGER {name}")
    wrong = (await check(tampered.open.office)).wrong
    assert wrong == [f"{table}: its rows can be changed, the triggers are gone"]
    await get_connection("default").execute_script(f"DELETE FROM {table}")
    assert len((await check(tampered.open.office)).wrong) > 1


async def test_one_damaged_row_does_not_stop_the_others(tampered: Inside) -> None:
    """The sweep closes the other letter, the queue sends the other letter's mails."""
    bad, good = (
        (await tampered.deposit(["john.roe@example.net"], Message_ID="<bad@example.org>")).letters[0],
        (await tampered.deposit(["john.roe@example.net"], Message_ID="<good@example.org>")).letters[0],
    )
    now, client = tampered.clock.now(), get_connection("default")
    for table, column in (("letter", "id"), ("intent", "letter_id")):
        blob = "account_id::bytea" if table == "letter" else "letter_id::bytea"
        if postgres.ENGINE != "postgres":
            blob = f"CAST({blob.removesuffix('::bytea')} AS BLOB)"
        await client.execute_script(f"UPDATE {table} SET details = {blob} WHERE {column} = '{bad}'")
    await client.execute_script(f"UPDATE letter SET state = 'held', hold_until = '{now:%Y-%m-%d %H:%M:%S}+00:00'")
    due = await tampered.register.due("discard", now + timedelta(days=1))
    assert [row.id for row in due] == [good]
    leased = await outbox.claim(tampered.open.office.vault, now, now + timedelta(minutes=1), "here", 20)
    assert {intent.letter_id for intent in leased} == {good}
    assert len(leased) == 2
