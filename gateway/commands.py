"""`pli account` and `pli letter`: what an operator does at the desk, from the shell; and the way into the demo."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import Context, cli, run_async
from gateway.core.errors import NotFound, Unusable

if TYPE_CHECKING:
    from gateway.opening import Open
    from storage.rows import LetterRow


def _inside(obj: Context, work: Callable[[Open], Awaitable[None]]) -> None:
    settings = obj.settings()

    async def wrapped() -> None:
        from gateway.opening import opened

        async with opened(settings) as inside:
            await work(inside)

    run_async(wrapped())


@cli.command()
@click.option("--auto", is_flag=True, help="Play four letters to their ends, verify every proof, and exit.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("demo"), show_default="./demo")
@click.option("--base-port", type=click.IntRange(1024, 64000), help="20000 by default; any free ports with --auto.")
@click.pass_obj
def demo(obj: Context, auto: bool, folder: Path, base_port: int | None) -> None:
    """Start a complete local gateway that needs nothing but this machine: its own CA, keys, SQLite, accounts and mailbox.

    No mail leaves it: a page shows every mail that the gateway sent. Example: pli demo --auto
    """
    from gateway.demo import command

    if auto:
        run_async(command.auto(obj.make_portal, folder, base_port))
    else:
        run_async(command.by_hand(obj.make_portal, folder, base_port or 20000))


@cli.group()
def account() -> None:
    """Senders' accounts.

    Example: pli account add jane.doe@example.org --name "Jane Doe"
    """


@account.command("add")
@click.argument("address")
@click.option("--name", required=True, help="First and last name, or company name, as it will stand in proofs.")
@click.option("--language", help="Of the mails to this sender (fr, en).")
@click.option("--app-password-stdin", is_flag=True, help="Read the app password from stdin instead of making one.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def account_add(
    obj: Context, address: str, name: str, language: str | None, app_password_stdin: bool, as_json: bool
) -> None:
    """Open an account for ADDRESS and print its app password, this once.

    Example: pli account add jane.doe@example.org --name "Jane Doe"
    """
    given = sys.stdin.readline().strip() if app_password_stdin else None

    async def work(inside: Open) -> None:
        if language is not None and language not in inside.office.profile.languages:
            raise Unusable(f"--language: must be one of {', '.join(inside.office.profile.languages)}")
        now = inside.office.clock.now()
        if given is not None:
            inside.accounts.check_given(given)  # before an account exists that nobody could use
        account_id = await inside.accounts.open(address, name, now, language=language)
        password = await inside.accounts.make_password(account_id, "first", now, given)
        made = {"id": account_id, "address": address, "name": name}
        if given is None:
            made["app_password"] = password
        click.echo(json.dumps(made) if as_json else "\n".join(f"{key}: {value}" for key, value in made.items()))

    _inside(obj, work)


@account.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def account_list(obj: Context, as_json: bool) -> None:
    """List the accounts.

    Example: pli account list
    """

    async def work(inside: Open) -> None:
        rows = [
            {"id": row.id, "state": row.state, "name": row.details["name"], "addresses": list(row.addresses)}
            for row in await inside.accounts.all()
        ]
        lines = [f"{r['id']}  {r['state']:<8}  {r['name']}  <{'>, <'.join(r['addresses'])}>" for r in rows]
        click.echo(json.dumps(rows, indent=2) if as_json else "\n".join(lines) or "no accounts yet: pli account add")

    _inside(obj, work)


@cli.group()
def letter() -> None:
    """Letters: list and show them, release or discard those that are held, withdraw those not yet notified.

    Example: pli letter list --state held
    """


@letter.command("list")
@click.option("--state", help="Only letters in this state.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 1_000_000), help="At most so many.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def letter_list(obj: Context, state: str | None, limit: int, as_json: bool) -> None:
    """List letters, oldest first.

    Example: pli letter list --state held --json
    """
    from gateway.core.letter import State

    if state is not None and state not in set(State):
        raise Unusable(f"--state: must be one of {', '.join(State)}")

    async def work(inside: Open) -> None:
        where = {} if state is None else {"state": state}
        rows = [_summary(row) for row in await inside.office.register.letters(limit_to=limit, **where)]
        lines = [f"{r['letter']}  {r['state']:<13}  {r['created_at']}  {r['recipient']}" for r in rows]
        click.echo(json.dumps(rows, indent=2) if as_json else "\n".join(lines) or "no such letters")

    _inside(obj, work)


@letter.command("show")
@click.argument("letter_id")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def letter_show(obj: Context, letter_id: str, as_json: bool) -> None:
    """Show a letter and its evidence. Private network facts, tokens and the content are not shown.

    Example: pli letter show 0f8fad5bd9cb469fa16570867728950e
    """

    async def work(inside: Open) -> None:
        row = await _find(inside, letter_id)
        records = [json.loads(raw) for raw in await inside.office.register.records(row.id)]
        shown = {**_summary(row), "evidence": records}
        if as_json:
            click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
            return
        click.echo("\n".join(f"{key}: {value}" for key, value in _summary(row).items() if value is not None))
        for record in records:
            click.echo(f"  {record['n']:>3}  {record['at']}  {record['event']:<18}  -> {record['state']}")

    _inside(obj, work)


@letter.command("release")
@click.argument("letter_id")
@click.pass_obj
def letter_release(obj: Context, letter_id: str) -> None:
    """Let a held letter go its way, as it was understood.

    Example: pli letter release 0f8fad5bd9cb469fa16570867728950e
    """
    _move(obj, letter_id, lambda inside, row: inside.postoffice.release(row, inside.office.clock.now()), "released")


@letter.command("discard")
@click.argument("letter_id")
@click.option(
    "--reason", default="discarded by the operator", show_default=True, help="For the evidence and the sender."
)
@click.pass_obj
def letter_discard(obj: Context, letter_id: str, reason: str) -> None:
    """End a held letter; its sender is told.

    Example: pli letter discard 0f8fad5bd9cb469fa16570867728950e --reason "asked by the sender"
    """

    def step(inside: Open, row: LetterRow) -> Awaitable[None]:
        return inside.postoffice.discard(row, inside.office.clock.now(), reason[:500])

    _move(obj, letter_id, step, "discarded")


@letter.command("withdraw")
@click.argument("letter_id")
@click.pass_obj
def letter_withdraw(obj: Context, letter_id: str) -> None:
    """Withdraw a letter for its sender, while no notice was taken.

    Example: pli letter withdraw 0f8fad5bd9cb469fa16570867728950e
    """
    _move(obj, letter_id, lambda inside, row: inside.postoffice.withdraw(row, inside.office.clock.now()), "withdrawn")


def _move(obj: Context, letter_id: str, step: Callable[[Open, LetterRow], Awaitable[None]], done: str) -> None:
    async def work(inside: Open) -> None:
        row = await _find(inside, letter_id)
        await step(inside, row)
        click.echo(f"{row.id}: {done}")

    _inside(obj, work)


async def _find(inside: Open, letter_id: str) -> LetterRow:
    row = await inside.office.register.letter(id=letter_id.strip().lower())
    if row is None:
        raise NotFound(f"no letter {letter_id}: `pli letter list` shows them")
    return row


def _summary(row: LetterRow) -> dict[str, Any]:
    def when(value: Any) -> str | None:
        return None if value is None else value.isoformat()

    return {
        "letter": row.id,
        "deposit": row.deposit_id,
        "consignment": row.consignment,
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
