"""`pli account`: who may send, as the operator keeps it; and the way into the demo."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli import Context, cli, inside, run_async
from gateway.core.errors import NotFound, Refused, Unusable

if TYPE_CHECKING:
    from gateway.opening import Open
    from storage.accounts import AccountRow


@cli.command()
@click.option("--auto", is_flag=True, help="Play four letters to their ends, verify every proof, and exit.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("demo"), show_default="./demo")
@click.option("--base-port", type=click.IntRange(1024, 64000), help="20000 by default; any free ports with --auto.")
@click.option("--database", help="A postgres:// URL instead of SQLite; the database is empty, or an earlier demo's.")
@click.pass_obj
def demo(obj: Context, auto: bool, folder: Path, base_port: int | None, database: str | None) -> None:
    """Start a complete local gateway that needs nothing but this machine: its own CA, keys, database, accounts and mailbox.

    No mail leaves it: a page shows every mail that the gateway sent. Example: pli demo --auto
    """
    from gateway.demo import command

    if auto:
        run_async(command.auto(obj.make_portal, folder, base_port, database))
    else:
        run_async(command.by_hand(obj.make_portal, folder, base_port or 20000, database))


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
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def account_add(
    obj: Context, address: str, name: str, language: str | None, app_password_stdin: bool, as_json: bool
) -> None:
    """Open an account for ADDRESS and print its app password, this once.

    Example: pli account add jane.doe@example.org --name "Jane Doe"
    """
    given = sys.stdin.readline().strip() if app_password_stdin else None

    async def work(found: Open) -> None:
        _check_language(found, language)
        now = found.office.clock.now()
        if given is not None:
            found.accounts.check_given(given)  # before an account exists that nobody could use
        # An account without a password would be of no use, and its address taken.
        async with found.database.transaction():
            account_id = await found.accounts.open(address, name, now, language=language)
            password = await found.accounts.make_password(account_id, "first", now, given)
        made = {"id": account_id, "address": address, "name": name}
        if given is None:
            made["app_password"] = password
        click.echo(json.dumps(made) if as_json else "\n".join(f"{key}: {value}" for key, value in made.items()))

    inside(obj, work)


@account.command("password")
@click.argument("address")
@click.option("--app-password-stdin", is_flag=True, help="Read the app password from stdin instead of making one.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def account_password(obj: Context, address: str, app_password_stdin: bool, as_json: bool) -> None:
    """Print a new app password for ADDRESS, this once; the earlier ones end at once.

    Example: pli account password jane.doe@example.org
    """
    given = sys.stdin.readline().strip() if app_password_stdin else None

    async def work(found: Open) -> None:
        row = await _account(found, address)
        password = await found.accounts.renew_password(row.id, found.office.clock.now(), given)
        made = {"id": row.id, "address": address} | ({"app_password": password} if given is None else {})
        click.echo(json.dumps(made) if as_json else "\n".join(f"{key}: {value}" for key, value in made.items()))

    inside(obj, work)


@account.command("set")
@click.argument("address")
@click.option("--name", help="First and last name, or company name, in proofs from now on.")
@click.option("--language", help="Of the mails to this sender (fr, en).")
@click.pass_obj
def account_set(obj: Context, address: str, name: str | None, language: str | None) -> None:
    """Change name or language of the account of ADDRESS; evidence that exists stays as it is.

    Example: pli account set jane.doe@example.org --language fr
    """

    async def work(found: Open) -> None:
        _check_language(found, language)
        await found.accounts.change(await _account(found, address), name=name, language=language)
        click.echo(f"{address}: changed")

    inside(obj, work)


@account.command("close")
@click.argument("address")
@click.pass_obj
def account_close(obj: Context, address: str) -> None:
    """Close the account of ADDRESS: no login from now on. Its letters go on, and its status mails still come.

    Example: pli account close jane.doe@example.org
    """
    _change_state(obj, address, "closed", "closed")


@account.command("reopen")
@click.argument("address")
@click.pass_obj
def account_reopen(obj: Context, address: str) -> None:
    """Open a closed account again; its app passwords are good again.

    Example: pli account reopen jane.doe@example.org
    """
    _change_state(obj, address, "active", "open again")


def _change_state(obj: Context, address: str, state: str, done: str) -> None:
    async def work(found: Open) -> None:
        await found.accounts.change(await _account(found, address), state=state)
        click.echo(f"{address}: {done}")

    inside(obj, work)


async def _account(found: Open, address: str) -> AccountRow:
    try:
        row = await found.accounts.by_address(address)
    except Refused:
        row = None
    if row is None:
        raise NotFound(f"no account has the address {address}: `pli account list` shows them")
    return row


def _check_language(found: Open, language: str | None) -> None:
    if language is not None and language not in found.office.profile.languages:
        raise Unusable(f"--language: must be one of {', '.join(found.office.profile.languages)}")


@account.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def account_list(obj: Context, as_json: bool) -> None:
    """List the accounts.

    Example: pli account list
    """

    async def work(found: Open) -> None:
        rows = [
            {"id": row.id, "state": row.state, "name": row.details["name"], "addresses": list(row.addresses)}
            for row in await found.accounts.all()
        ]
        lines = [f"{r['id']}  {r['state']:<8}  {r['name']}  <{'>, <'.join(r['addresses'])}>" for r in rows]
        click.echo(json.dumps(rows, indent=2) if as_json else "\n".join(lines) or "no accounts yet: pli account add")

    inside(obj, work)
