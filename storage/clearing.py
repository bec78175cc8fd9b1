"""A PostgreSQL database for a demo: taken where it is empty, or emptied where an earlier demo marked it as its own.

The one place that drops tables, and it never does where the mark is missing. Not here: making the schema (database.py).
"""

from __future__ import annotations

import asyncpg

from storage import postgres
from storage.failures import Unavailable

_MARK = "pli_demo"
"""A table without columns, made before any other."""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"


async def take(url: str) -> None:
    """Make the database at *url* empty and marked. Raises Unavailable where something else is in it, or it is not to be had."""
    address = postgres.read_url(url)
    try:
        connection = await asyncpg.connect(**address.arguments)
        try:
            async with connection.transaction():
                found = [str(row["tablename"]) for row in await connection.fetch(_TABLES)]
                if found and _MARK not in found:
                    raise Unavailable(
                        f"database {address.name} on {address} holds tables that no demo made ({', '.join(found[:3])}, ...): "
                        "choose an empty one"
                    )
                for table in found:
                    await connection.execute(f"DROP TABLE {_quoted(table)} CASCADE")
                await connection.execute(f"CREATE TABLE {_MARK} ()")
        finally:
            await connection.close(timeout=5)
    except postgres.DRIVER as error:
        raise Unavailable(postgres.words(error, address)) from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
