"""`pli letter`: what an operator does about a letter, from the shell."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import Context, cli, inside
from gateway.core.errors import NotAllowed, NotFound, Unusable
from gateway.links import grouped, typed

if TYPE_CHECKING:
    from gateway.opening import Open
    from storage.rows import LetterRow


@cli.group()
def letter() -> None:
    """Letters: list and show them, release or discard those that are held, withdraw those not yet notified.

    Example: pli letter list --state held
    """


@letter.command("list")
@click.option("--state", help="Only letters in this state.")
@click.option("--recipient", help="Only letters to this address.")
@click.option("--sender", help="Only letters from this address.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def letter_list(
    obj: Context, state: str | None, recipient: str | None, sender: str | None, limit: int, as_json: bool
) -> None:
    """List letters, oldest first.

    Example: pli letter list --state held --json
    """
    from gateway.core.letter import State

    if state is not None and state not in set(State):
        raise Unusable(f"--state: must be one of {', '.join(State)}")

    async def work(found: Open) -> None:
        where = {} if state is None else {"state": state}
        every = [_summary(row) for row in await found.office.register.letters(limit_to=limit, **where)]
        rows = [row for row in every if _is(row["recipient"], recipient) and _is(row["sender"], sender)]
        lines = [
            f"{r['letter']}  {r['state']:<13}  {r['created_at'][:19]}Z  {r['sender']} -> {r['recipient']}" for r in rows
        ]
        click.echo(json.dumps(rows, indent=2) if as_json else "\n".join(lines) or "no such letters")

    inside(obj, work)


def _is(address: str, wanted: str | None) -> bool:
    return wanted is None or address.lower() == wanted.strip().lower()


@letter.command("show")
@click.argument("letter_id", metavar="LETTER")
@click.option("--json", "as_json", is_flag=True, help="With all of its evidence.")
@click.pass_obj
def letter_show(obj: Context, letter_id: str, as_json: bool) -> None:
    """Show a letter and its evidence. Private network facts, tokens and the content are not shown.

    LETTER is its id, its consignment number, the reference of its notice, or the Message-ID of the mail.

    Example: pli letter show RK26-B5XR-4B5G-A2DG
    """

    async def work(found: Open) -> None:
        row = await _find(found, letter_id)
        records = [json.loads(raw) for raw in await found.office.register.records(row.id)]
        shown = {**_summary(row), "evidence": records}
        if as_json:
            click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
            return
        click.echo("\n".join(f"{key}: {value}" for key, value in _summary(row).items() if value is not None))
        for record in records:
            for code, word in record["facts"].get("problems", []):
                click.echo(f"held for: {code} {word}")
        for record in records:
            click.echo(f"  {record['n']:>3}  {record['at']}  {record['event']:<18}  -> {record['state']}")

    inside(obj, work)


@letter.command("release")
@click.argument("letter_id", metavar="LETTER")
@click.pass_obj
def letter_release(obj: Context, letter_id: str) -> None:
    """Let a held letter go its way, as it was understood.

    Example: pli letter release 0f8fad5bd9cb469fa16570867728950e
    """
    _move(obj, letter_id, ("held",), lambda found, row: found.postoffice.release(row, _now(found)), "released")


@letter.command("discard")
@click.argument("letter_id", metavar="LETTER")
@click.option(
    "--reason", default="discarded by the operator", show_default=True, help="For the evidence and the sender."
)
@click.pass_obj
def letter_discard(obj: Context, letter_id: str, reason: str) -> None:
    """End a held letter; its sender is told.

    Example: pli letter discard 0f8fad5bd9cb469fa16570867728950e --reason "asked by the sender"
    """

    def step(found: Open, row: LetterRow) -> Awaitable[None]:
        return found.postoffice.discard(row, _now(found), reason[:500])

    _move(obj, letter_id, ("held",), step, "discarded")


@letter.command("withdraw")
@click.argument("letter_id", metavar="LETTER")
@click.pass_obj
def letter_withdraw(obj: Context, letter_id: str) -> None:
    """Withdraw a letter for its sender, while no notice was taken.

    Example: pli letter withdraw 0f8fad5bd9cb469fa16570867728950e
    """
    states = ("held", "deposited")
    _move(obj, letter_id, states, lambda found, row: found.postoffice.withdraw(row, _now(found)), "withdrawn")


def _now(found: Open) -> datetime:
    return found.office.clock.now()


def _move(
    obj: Context, letter_id: str, states: Sequence[str], step: Callable[[Open, LetterRow], Awaitable[None]], done: str
) -> None:
    async def work(found: Open) -> None:
        row = await _find(found, letter_id)
        if row.state not in states:
            raise NotAllowed(f"{row.id} is {row.state}; only a letter that is {' or '.join(states)} can be {done}")
        await step(found, row)
        click.echo(f"{row.id}: {done}")

    inside(obj, work)


async def _find(found: Open, letter_id: str) -> LetterRow:
    """By id, consignment number, notice reference, or the Message-ID of its deposit."""
    register, written = found.office.register, letter_id.strip()
    numbers = {"id": written.lower(), "consignment": typed(written), "reference": typed(written)}
    rows = [await register.letter(**{column: text}) for column, text in numbers.items() if 0 < len(text) <= 32]
    rows += await _by_message_id(found, written)
    several = [row for row in rows if row is not None]
    if not several:
        raise NotFound(f"no letter {written}: `pli letter list` shows them")
    if len(several) > 1:
        raise NotFound(f"{written} is {len(several)} letters; name one: {', '.join(row.id for row in several)}")
    return several[0]


async def _by_message_id(found: Open, message_id: str) -> list[LetterRow | None]:
    register, vault = found.office.register, found.office.vault
    if not message_id.startswith("<"):
        return []
    rows: list[LetterRow | None] = []
    for account in await found.accounts.all():
        deposit = await register.deposit(message_index=vault.index("message", account.id, message_id))
        if deposit is not None:
            rows += await register.letters(deposit_id=deposit.id)
    return rows


def _summary(row: LetterRow) -> dict[str, Any]:
    def when(value: Any) -> str | None:
        return None if value is None else value.isoformat()

    return {
        "letter": row.id,
        "deposit": row.deposit_id,
        "consignment": grouped(row.consignment, 4),
        "reference": grouped(row.reference),
        "state": row.state,
        "recipient": row.details["recipient"]["address"],
        "sender": row.details["subject"]["sender"]["address"],
        "message_id": row.details["subject"]["content"]["message_id"],
        "sha256": row.details["subject"]["content"]["sha256"],
        "created_at": when(row.created_at),
        "deposited_at": when(row.deposited_at),
        "last_day": when(row.last_day),
        "closes_at": when(row.closes_at),
        "decision": row.decision,
        "decided_at": when(row.decided_at),
        "handed_over_at": when(row.handed_over_at),
    }
