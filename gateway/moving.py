"""`pli migrate --from ... --to ...`: a whole store from SQLite to PostgreSQL, told table by table and checked in the end.

Not here: the copying itself (storage/transfer.py), what is checked (check.py).
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr, ValidationError

from gateway.check import check
from gateway.core.errors import Unusable
from gateway.opening import opened
from gateway.settings import Database, Settings
from storage.failures import Unavailable
from storage.transfer import Copied, copy


async def move(settings: Settings, source: str, target: str | None, tell: Callable[[str], None]) -> int:
    """Copy, then check; returns the exit code: 1 where the copy does not hold what its evidence says. Raises Unusable.

    target: the configured database where it is None. tell: takes one line for each thing done.
    """
    there = _with_url(settings, target or settings.database_url)
    try:
        await copy(source, settings.gateway.data_dir / "blobs", there.database_url, lambda copied: tell(_line(copied)))
    except (Unavailable, OSError) as error:
        raise Unusable(f"nothing was copied: {error}") from error
    async with opened(there) as inside:
        found = await check(inside.office)
    if found.wrong:
        tell(
            "\n".join([*found.wrong, "the copy is complete, and this is wrong with it: see `pli check` of the source"])
        )
        return 1
    tell(f"checked: {found.letters} letters, {found.records} records, {found.bytes_checked} bytes; nothing wrong")
    if target is not None and target != settings.database_url:
        tell("now set [database] url to the new database, and start the gateway")
    return 0


def _line(copied: Copied) -> str:
    size = f", {copied.size} bytes" if copied.size else ""
    return f"{copied.what}: {copied.rows}{size}"


def _with_url(settings: Settings, url: str) -> Settings:
    """The same gateway on another database."""
    try:
        database = Database(url=SecretStr(url), pool=settings.database.pool)
    except ValidationError as error:
        raise Unusable('--to: must begin with "postgres://"') from error
    return settings.model_copy(update={"database": database})
