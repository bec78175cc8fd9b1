"""A whole office for tests: real keys, a database made by the migrations, message bytes; and a clock that a test moves.

On SQLite, or on PostgreSQL where PLI_TEST_ENGINE says so (tests/postgres.py).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from gateway.archive import Archive
from gateway.check import check
from gateway.deposits import Deposits
from gateway.intake.desk import Account, Envelope, Origin, Receipt, Recipient
from gateway.opening import Open, bring_up_to_date, make_keys, opened
from gateway.postoffice import PostOffice
from gateway.register import Move, Register
from gateway.settings import Database, Gateway, Operator, Settings, Smtp, Web
from storage.rows import LetterRow
from tests import postgres

BEGIN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ORIGIN = Origin("192.0.2.7", "client.example.org", "submissions", "TLSv1.3 TLS_AES_256_GCM_SHA384", "PLAIN")
SENDER = "jane.doe@example.org"
_URL = "template.url"


@dataclass
class Clock:
    """Stands still until it is moved."""

    at: datetime = BEGIN

    def now(self) -> datetime:
        return self.at

    def go(self, **span: float) -> datetime:
        self.at += timedelta(**span)
        return self.at


@dataclass(frozen=True)
class Inside:
    """An open office, one sender's account, and what tests do with them."""

    open: Open
    clock: Clock
    account: Account

    @property
    def register(self) -> Register:
        return self.open.office.register

    async def deposit(
        self, to: Sequence[str] = ("john.roe@example.net",), text: str = "Hello", **headers: str
    ) -> Receipt:
        """One mail to all of *to*, each inside an address of the letters domain."""
        encoded = [f"{address.replace('@', '=')}@letters.pli.test" for address in to]
        spool = self.open.office.blobs.spool()
        try:
            spool.write(mail(encoded, text, **headers))
            envelope = Envelope(SENDER, tuple(map(Recipient, encoded)))
            return await Deposits(self.open.office).take(self.account, envelope, ORIGIN, spool)
        finally:
            spool.discard()

    async def letter(self, letter_id: str) -> LetterRow:
        row = await self.register.letter(id=letter_id)
        assert row is not None
        return row

    async def columns(self, row: LetterRow, **columns: object) -> LetterRow:
        """Set columns of a letter, such as an open choice."""
        await self.register.commit([Move(row, [], columns)])
        return await self.letter(row.id)


def mail(to: Sequence[str], text: str, **headers: str) -> bytes:
    named = {
        "From": f"Jane Doe <{SENDER}>",
        "To": ", ".join(to),
        "Subject": "A letter",
        "Message-ID": "<one@example.org>",
        "Date": "Mon, 02 Mar 2026 09:30:00 +0000",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{head}\r\n{text}\r\n".encode()


def settings_in(folder: Path, url: str = "") -> Settings:
    """url: of the database; empty for an SQLite file in *folder*."""
    return Settings(
        gateway=Gateway(
            domain="pli.test",
            letters_domain="letters.pli.test",
            dedicated_address="letter@pli.test",
            notice_domain="avis.test",
            public_url="https://pli.test",
            data_dir=folder / "data",
            keys_dir=folder / "keys",
            language="en",
        ),
        database=Database(url=SecretStr(url)),
        operator=Operator(name="Test Post", address="1 Example Street, 75000 Example"),
        smtp=Smtp(submissions=None, submission=None, mx=None),
        web=Web(listen=None),
    )


def template(folder: Path, engine: str = postgres.ENGINE) -> Path:
    """Make keys and database of an office that nobody used."""
    url = postgres.new_database() if engine == "postgres" else ""
    settings = settings_in(folder, url)
    make_keys(settings, BEGIN - timedelta(days=30))
    asyncio.run(bring_up_to_date(settings))
    (folder / _URL).write_text(url)
    return folder


@asynccontextmanager
async def office_in(folder: Path, made: Path, *, audit: bool = True) -> AsyncIterator[Inside]:
    """A copy of the template *made* in *folder*, opened. audit: end with `pli check`, which must find nothing."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    url = (made / _URL).read_text()
    settings = settings_in(folder, postgres.copy_of(url) if url else "")
    clock = Clock()
    try:
        async with opened(settings) as found:
            inside = _with_clock(found, clock)
            account_id = await inside.accounts.open(SENDER, "Jane Doe", clock.now())
            yield Inside(inside, clock, Account(account_id, frozenset({SENDER}), "Jane Doe"))
            if audit:
                findings = await check(inside.office)
                assert not findings.wrong, "\n".join(findings.wrong)
    finally:
        if url:
            postgres.drop(settings.database_url)


def _with_clock(found: Open, clock: Clock) -> Open:
    office = replace(found.office, clock=clock, register=Register(found.database, clock))
    return replace(found, office=office, archive=Archive(office), postoffice=PostOffice(office))
