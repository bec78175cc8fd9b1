"""The demo's stage: a complete gateway in one folder, with its own CA, keys, accounts and clock, and a mailbox for the internet.

Everything is real but what lies outside: mails to the world go to the mailbox, time is the system's plus the offset in DIR/clock.
Not here: what is played on it (player.py), what a person is told (command.py).
"""

from __future__ import annotations

import secrets
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from gateway.core.errors import Unusable
from gateway.demo.config import as_toml
from gateway.demo.mailbox import Mailbox
from gateway.opening import bring_up_to_date, empty_for_demo, make_keys, opened
from gateway.proof.keys import export_trust, issue_server_certificate
from gateway.running import PortalMaker, Running, running
from gateway.settings import ClockSection, Database, Dispatch, Gateway, HostPort, Operator, Settings, Smtp, Web

DOMAIN, LETTERS, NOTICES = "pli.test", "letters.pli.test", "avis.test"
DEDICATED = f"letter@{DOMAIN}"
SENDERS = (("jane.doe@example.org", "Jane Doe"), ("john.doe@example.com", "John Doe"))
START = timedelta(days=-20)
_KEYS_FROM = timedelta(days=30)
_MARK = ".pli-demo"
_HERE = "127.0.0.1"
_PORTS = {"web": 80, "submissions": 465, "submission": 587, "mx": 25, "mailbox": 26}
"""Added to the base port, so that 20465 is the demo's 465."""


@dataclass(frozen=True)
class Sender:
    address: str
    name: str
    app_password: str


@dataclass(frozen=True)
class Stage:
    """The demo on its feet."""

    folder: Path
    gateway: Running
    mailbox: Mailbox
    senders: tuple[Sender, ...]
    ca: Path
    url: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def move_clock(self, offset: timedelta) -> None:
        """Set the clock to the system's plus *offset*."""
        path = self.folder / "clock"
        half = path.with_suffix(".new")
        half.write_text(f"{offset.total_seconds():.3f}\n", "ascii")
        half.replace(path)

    def go_to(self, at: datetime) -> None:
        """Move the clock forward to *at*."""
        self.move_clock(at - datetime.now(UTC))


@asynccontextmanager
async def stage(
    folder: Path, base_port: int | None, make_portal: PortalMaker, database: str | None = None
) -> AsyncIterator[Stage]:
    """Set everything up in *folder*, anew. base_port None: any free ports. database: a postgres:// URL instead of SQLite."""
    folder = folder.absolute()
    if database is not None:
        await empty_for_demo(database)
    _make_room(folder)
    ports = _ports(base_port)
    now = datetime.now(UTC)
    (folder / "clock").write_text(f"{START.total_seconds():.0f}\n", "ascii")
    settings = _settings(folder, ports, database)  # without listeners that need a certificate, until there is one
    make_keys(settings, now - _KEYS_FROM)
    certificate, key = issue_server_certificate(
        settings.gateway.keys_dir, ["localhost", _HERE, DOMAIN], now - _KEYS_FROM
    )
    trust = folder / "out" / "trust"
    export_trust(settings.gateway.keys_dir, trust, [DOMAIN, NOTICES])
    ca = trust / "ca.pem"
    settings = _with_tls(settings, ports, certificate, key, ca)
    config = folder / "pli.toml"
    config.touch(mode=0o600)  # it may hold the database's password
    config.write_text(as_toml(settings), "utf-8")
    await bring_up_to_date(settings)
    senders = await _open_accounts(settings)
    mailbox = await _start_mailbox(settings, ports, certificate, key)
    try:
        async with running(settings, make_portal, mailbox) as gateway:
            yield Stage(folder, gateway, mailbox, senders, ca, settings.gateway.public_url)
    finally:
        await mailbox.stop()


def _make_room(folder: Path) -> None:
    """An empty folder that is ours; what an earlier demo left in it goes."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise Unusable(f"--dir: {folder} holds files that no demo made; choose another folder")
        shutil.rmtree(folder)
    try:
        (folder / "data").mkdir(parents=True, mode=0o700)
        (folder / _MARK).touch()
    except OSError as error:
        raise Unusable(f"--dir: {folder} cannot be written ({error.strerror})") from error


def _ports(base_port: int | None) -> dict[str, int]:
    if base_port is not None:
        return {name: base_port + number for name, number in _PORTS.items()}
    sockets = {name: socket.create_server((_HERE, 0)) for name in _PORTS}
    try:
        return {name: int(found.getsockname()[1]) for name, found in sockets.items()}
    finally:
        for found in sockets.values():
            found.close()


def _settings(folder: Path, ports: Mapping[str, int], database: str | None) -> Settings:
    return Settings(
        gateway=Gateway(
            domain=DOMAIN,
            letters_domain=LETTERS,
            dedicated_address=DEDICATED,
            notice_domain=NOTICES,
            public_url=f"http://{_HERE}:{ports['web']}",
            data_dir=folder / "data",
            keys_dir=folder / "keys",
            environment="demo",
            language="en",
        ),
        operator=Operator(
            name="Pli Demo",
            address="1 Example Street, 75000 Example",
            phone="+33 1 99 00 00 00",  # a number that ARCEP keeps for fiction
            email=f"help@{DOMAIN}",
            site=f"http://{_HERE}:{ports['web']}/about",
        ),
        database=Database() if database is None else Database(url=SecretStr(database)),
        smtp=Smtp(submissions=None, submission=None, mx=HostPort(_HERE, ports["mx"])),
        web=Web(listen=HostPort(_HERE, ports["web"])),
        dispatch=Dispatch(relay=HostPort(_HERE, ports["mailbox"])),
        clock=ClockSection(source=f"file:{folder / 'clock'}"),
    )


def _with_tls(settings: Settings, ports: Mapping[str, int], certificate: Path, key: Path, ca: Path) -> Settings:
    smtp = Smtp(
        submissions=HostPort(_HERE, ports["submissions"]),
        submission=HostPort(_HERE, ports["submission"]),
        mx=HostPort(_HERE, ports["mx"]),
        tls_cert=certificate,
        tls_key=key,
    )
    dispatch = settings.dispatch.model_copy(update={"ca": ca})
    return settings.model_copy(update={"smtp": smtp, "dispatch": dispatch})


async def _open_accounts(settings: Settings) -> tuple[Sender, ...]:
    made = []
    async with opened(settings) as inside:
        now = inside.office.clock.now()
        for address, name in SENDERS:
            account_id = await inside.accounts.open(address, name, now, language="en")
            password = await inside.accounts.make_password(account_id, "demo", now)
            made.append(Sender(address, name, password))
    return tuple(made)


async def _start_mailbox(settings: Settings, ports: Mapping[str, int], certificate: Path, key: Path) -> Mailbox:
    from gateway.clock import from_settings

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    mailbox = Mailbox(
        settings.gateway.data_dir / "mailbox",
        clock=from_settings(settings),
        mx=lambda: (_HERE, ports["mx"]),
        tls=context,
    )
    try:
        await mailbox.start(_HERE, ports["mailbox"])
    except OSError as error:
        raise Unusable(
            f"--base-port: {_HERE}:{ports['mailbox']} is taken ({error.strerror}); choose another"
        ) from error
    return mailbox


def sample_message(sender: Sender, to: str, subject: str, text: str) -> bytes:
    """A plain mail as a mail client would write it."""
    stamp = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
    lines = [
        f"From: {sender.name} <{sender.address}>",
        f"To: {to}",
        f"Subject: {subject}",
        f"Date: {stamp}",
        f"Message-ID: <{secrets.token_hex(12)}@example.org>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        *text.splitlines(),
    ]
    return "\r\n".join([*lines, ""]).encode()
