"""Opening the office: keys, database and blobs of a configured gateway, in the one order that works, and closing them again.

Commands that look at letters or accounts open it alone; a running gateway (running.py) builds on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway import clock as clocks
from gateway.archive import Archive
from gateway.core.errors import Unusable
from gateway.core.profile import Profile
from gateway.dispatch.compose import House
from gateway.dispatch.returns import Returns
from gateway.identity.accounts import Accounts
from gateway.links import Links
from gateway.office import Office
from gateway.postoffice import PostOffice
from gateway.proof import keys as proof_keys
from gateway.proof.bundle import Press
from gateway.register import Register
from gateway.settings import Settings, load_profile
from storage import clearing, database
from storage.blobs import Blobs, Store
from storage.blobs_database import DatabaseBlobs
from storage.database import Database, Unavailable
from storage.vault import Vault


@dataclass(frozen=True)
class Open:
    """An open gateway without its edges."""

    office: Office
    database: Database
    accounts: Accounts
    archive: Archive
    postoffice: PostOffice


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Open]:
    """Open everything; raises Unusable naming the setting or file and the mend."""
    profile, clock = load_profile(settings), clocks.from_settings(settings)
    gateway = settings.gateway
    keys = proof_keys.load(gateway.keys_dir, gateway.data_dir, clock.now())
    vault = Vault(keys.master, keys.index)
    try:
        base = await database.connect(settings.database_url, vault, pool=settings.database.pool)
    except Unavailable as error:
        raise Unusable(f"[database] url: {error}") from error
    blobs = _blobs(base, gateway.data_dir)
    try:
        try:
            blobs.open()
        except OSError as error:
            raise Unusable(f"[gateway] data_dir: {blobs.directory} cannot be written ({error.strerror})") from error
        office = Office(
            settings=settings,
            profile=profile,
            clock=clock,
            vault=vault,
            register=Register(base, clock),
            blobs=blobs,
            keys=keys,
            links=Links(keys.link),
            returns=Returns(keys.returns, gateway.domain),
            house=house_of(settings, profile),
            press=Press(keys.seal, profile),
        )
        yield Open(office, base, Accounts(base, keys.password), Archive(office), PostOffice(office))
    finally:
        blobs.close()
        await base.close()


def _blobs(base: Database, data_dir: Path) -> Store:
    """Message bytes live where every process finds them: beside an SQLite file, inside PostgreSQL."""
    return Blobs(data_dir / "blobs") if base.is_sqlite else DatabaseBlobs(data_dir / "spool")


def house_of(settings: Settings, profile: Profile) -> House:
    """What mails and pages say about who we are."""
    operator = settings.operator
    return House(
        operator_name=operator.name,
        operator_address=operator.address,
        operator_phone=operator.phone,
        operator_email=operator.email,
        operator_site=operator.site,
        domain=settings.gateway.domain,
        notice_domain=settings.gateway.notice_domain,
        public_url=settings.gateway.public_url,
        zone=str(profile.zone),
        profile_title=profile.title,
        profile_level=profile.level,
        law=profile.law,
        anonymous=profile.anonymous,
    )


async def bring_up_to_date(settings: Settings) -> list[str]:
    """Make or migrate the database; returns the migrations that ran. Raises Unusable."""
    try:
        return await database.migrate(settings.database_url)
    except (Unavailable, OSError) as error:
        raise Unusable(f"[database] url: {error}") from error


async def empty_for_demo(url: str) -> None:
    """Empty a PostgreSQL database that an earlier demo made. Raises Unusable where it holds anything else."""
    if not url.startswith(("postgres://", "postgresql://")):
        raise Unusable("--database: must be a postgres:// URL; without it the demo makes an SQLite file of its own")
    try:
        await clearing.take(url)
    except Unavailable as error:
        raise Unusable(f"--database: {error}") from error


def make_keys(settings: Settings, not_before: datetime) -> None:
    """`pli keys init`: everything that keys_dir holds. Raises Unusable where some of it exists."""
    gateway = settings.gateway
    proof_keys.init(
        gateway.keys_dir,
        domain=gateway.domain,
        notice_domain=gateway.notice_domain,
        operator=settings.operator.name,
        not_before=not_before,
        demo=gateway.environment == "demo",
    )
