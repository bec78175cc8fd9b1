"""The command `pli`: reads arguments, calls the gateway, prints. Exit 0 success, 1 the thing asked is false, 2 unusable input.

Each command imports what it needs when it runs, so that `pli verify` touches neither database nor network.
Not here: account and letter (commands.py), the demo (demo/), wiring (__main__.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import structlog

from gateway.core.errors import PliError, Unusable

if TYPE_CHECKING:
    from gateway.opening import Open
    from gateway.running import PortalMaker
    from gateway.settings import Settings


@dataclass
class Context:
    """What the composition root brings, and what the first arguments said."""

    make_portal: PortalMaker
    config: Path | None = None

    def settings(self) -> Settings:
        from gateway import settings

        return settings.load(self.config, os.environ)


class Commands(click.Group):
    """Turns our errors into one clear message and the exit code of DESIGN.md 7."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Unusable as error:
            click.echo(f"pli: {error}", err=True)
            ctx.exit(2)
        except PliError as error:
            click.echo(f"pli: {error}" + (f" ({error.detail})" if error.detail else ""), err=True)
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if os.environ.get("PLI_DEBUG"):
                raise
            click.echo(f"pli: unexpected {type(error).__name__}: {error}; PLI_DEBUG=1 shows where", err=True)
            ctx.exit(2)


class _Lines:
    """A stream whose lines are lost where they cannot be written, on a full disk above all: a log must not stop the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor: int | None = None
        with suppress(OSError, ValueError):  # a stream without one, in a test
            self._descriptor = stream.fileno()

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(text)
            else:  # unbuffered, or what was lost would make the exit code at the end
                os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Nothing waits here."""


def log_to_stderr(level: int) -> None:
    """Structured lines on stderr; stdout is for what a command was asked for."""
    lines = _Lines(sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(
                key_order=["timestamp", "level", "event", "letter"], drop_missing=True
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(lines),  # type: ignore[arg-type] # write and flush are all it takes
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=lines)
    # While the server is away the driver's pool complains of each try; what that means to us is told by ourselves.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)


def run_async(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command's coroutine in our event loop and exit with what it returns."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(work)
    if code:
        click.get_current_context().exit(code)


def inside(obj: Context, work: Callable[[Open], Awaitable[None]]) -> None:
    """Run *work* on an open gateway without its edges."""
    settings = obj.settings()

    async def wrapped() -> None:
        from gateway.opening import opened

        async with opened(settings) as found:
            await work(found)

    run_async(wrapped())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="The configuration file (or PLI_CONFIG)."
)
@click.version_option(package_name=None, version="0.1.0", prog_name="pli")
@click.pass_obj
def cli(obj: Context, config: Path | None) -> None:
    """Pli, a registered e-mail gateway: letters in by mail, proofs out by mail.

    Example: pli --config /etc/pli/pli.toml run
    """
    obj.config = config
    log_to_stderr(logging.WARNING)


@cli.command()
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that share the work."
)
@click.option("--worker", "link", type=int, hidden=True, help="We are a worker: the descriptor of its supervisor.")
@click.pass_obj
def run(obj: Context, workers: int, link: int | None) -> None:
    """Run the gateway until it is told to stop.

    Prints one line {"ready": true, ...} when it answers. More than one worker needs PostgreSQL.

    Example: pli --config pli.toml run --workers 2
    """
    log_to_stderr(logging.INFO)
    settings = obj.settings()
    if link is not None:
        from gateway.workers import work

        return run_async(work(settings, obj.make_portal, link))
    if workers > 1:
        from gateway.workers import supervise

        return run_async(supervise(settings, obj.config, workers))
    return run_async(_alone(settings, obj.make_portal))


async def _alone(settings: Settings, make_portal: PortalMaker) -> None:
    from gateway.ready import announce, until_told
    from gateway.running import running

    async with running(settings, make_portal) as gateway:
        announce(settings, gateway.ready())
        await until_told(settings)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--letter", type=click.Path(path_type=Path), help="The letter's bytes (.eml), to be held against the proof."
)
@click.option(
    "--trust", type=click.Path(path_type=Path), help="Certificates (PEM) that you trust as the root of seals."
)
@click.option("--json", "as_json", is_flag=True, help="The steps as JSON.")
def verify(path: Path, letter: Path | None, trust: Path | None, as_json: bool) -> None:
    """Check a proof offline: a status mail, a PDF, an evidence.json, or a folder of them.

    Exit 0 valid and anchored in --trust, 3 intact but no --trust given, 1 invalid, 2 unreadable.

    Example: pli verify proof.pdf --letter letter.eml --trust ca.pem
    """
    from gateway.proof.verifier import run_verify

    text, code = run_verify(path, letter, trust, as_json)
    click.echo(text)
    click.get_current_context().exit(code)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--no-contents", is_flag=True, help="Do not read the letters' bytes.")
@click.pass_obj
def check(obj: Context, as_json: bool, no_contents: bool) -> None:
    """Check the whole store: chains, states, commits, letters' bytes, mails owed.

    Exit 0 when all of it holds, 1 when something does not. Example: pli check --json
    """
    settings = obj.settings()

    async def work() -> int:
        from gateway.check import check as look
        from gateway.opening import opened

        async with opened(settings) as inside:
            found = await look(inside.office, contents=not no_contents)
        if as_json:
            click.echo(json.dumps({"clean": not found.wrong, **vars(found)}, indent=2))
        else:
            click.echo(
                f"{found.letters} letters of {found.deposits} deposits, {found.rejections} deposits refused, "
                f"{found.records} records in {found.commits} commits, {found.bytes_checked} bytes of letters read"
            )
            click.echo("\n".join(found.wrong) or "all of it holds")
        return 1 if found.wrong else 0

    run_async(work())


@cli.command()
@click.option("--from", "source", metavar="URL", help="Copy the store at sqlite:PATH, whose gateway must be stopped.")
@click.option(
    "--to", "target", metavar="URL", help="Where to copy it, an empty postgres://... ([database] url if not given)."
)
@click.pass_obj
def migrate(obj: Context, source: str | None, target: str | None) -> None:
    """Make the database, or bring its schema up to date. With --from, move a whole store from SQLite to PostgreSQL.

    The copy holds every row, and the message bytes; it is checked in the end as `pli check` does. The source stays as it was.

    Example: pli migrate --from sqlite:/var/lib/pli/pli.db --to postgres://pli:secret@db.example.org/pli
    """
    settings = obj.settings()
    if source is None and target is not None:
        raise Unusable("--to: says where --from is copied; without --from, [database] url names the database")

    async def work() -> int:
        from gateway.opening import bring_up_to_date

        if source is not None:
            from gateway.moving import move

            return await move(settings, source, target, click.echo)
        done = await bring_up_to_date(settings)
        click.echo("\n".join(f"applied {name}" for name in done) or "the schema is up to date")
        return 0

    run_async(work())


@cli.group()
def keys() -> None:
    """The gateway's keys: seals, DKIM, and the secrets that letters at rest depend on.

    Example: pli keys show
    """


@keys.command("init")
@click.pass_obj
def keys_init(obj: Context) -> None:
    """Make all keys, once, in [gateway] keys_dir. Keep a copy of that folder apart: without it no letter can be opened.

    Example: pli keys init
    """
    from gateway import clock
    from gateway.opening import make_keys

    settings = obj.settings()
    make_keys(settings, clock.from_settings(settings).now())
    click.echo(f"keys made in {settings.gateway.keys_dir}; now publish what `pli dns` prints")


@keys.command("show")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def keys_show(obj: Context, as_json: bool) -> None:
    """Show which keys there are: names, validity, fingerprints; never a secret.

    Example: pli keys show
    """
    from gateway.proof.keys import show

    rows = show(obj.settings().gateway.keys_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo("\n".join("  ".join(str(value) for value in row.values()) for row in rows))


@keys.command("export")
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.pass_obj
def keys_export(obj: Context, target: Path) -> None:
    """Write what verifiers need to TARGET: ca.pem and dkim.txt. Publish it; it holds no secret.

    Example: pli keys export ./trust
    """
    from gateway.proof.keys import export_trust

    gateway = obj.settings().gateway
    export_trust(gateway.keys_dir, target, _domains(gateway.domain, gateway.notice_domain))
    click.echo(f"{target}: ca.pem and dkim.txt")


@cli.command()
@click.pass_obj
def dns(obj: Context) -> None:
    """Print the DNS records that this gateway needs, one per line: name, type, value.

    Example: pli dns
    """
    from gateway import clock
    from gateway.dispatch.dkim import dns_records
    from gateway.proof.keys import load

    settings = obj.settings()
    gateway = settings.gateway
    loaded = load(gateway.keys_dir, gateway.data_dir, clock.from_settings(settings).now())
    for line in dns_records(loaded.dkim, _domains(gateway.domain, gateway.notice_domain)):
        name, _, record = line.partition(" ")
        click.echo(f"{name}. TXT {_quoted(record)}")
    sending = _domains(gateway.domain, gateway.notice_domain)
    for domain in _domains(gateway.domain, gateway.letters_domain, gateway.notice_domain):
        click.echo(f"{domain}. MX 10 {gateway.domain}.")
        click.echo(f'{domain}. TXT "v=spf1 {"mx " if domain in sending else ""}-all"')
        click.echo(f'_dmarc.{domain}. TXT "v=DMARC1; p=reject; adkim=s; aspf=s"')
    click.echo(f"; besides: A and AAAA records of {gateway.domain}, and the reverse (PTR) of its addresses")
    if settings.dispatch.relay is not None:
        click.echo(
            f"; mails leave through {settings.dispatch.relay}: put its addresses into the SPF records, before -all"
        )


def _quoted(record: str) -> str:
    """A TXT record in zone-file form: strings of at most 255 octets (RFC 1035 3.3)."""
    return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))


def _domains(*names: str) -> list[str]:
    return list(dict.fromkeys(names))
