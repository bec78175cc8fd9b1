"""What a PostgreSQL database holds, so that a migration that loses some of it is refused; and whether its server keeps promises.

The counterpart of schema.py. PostgreSQL alters in place inside a transaction, so nothing is lost by accident as on SQLite; what a
migration drops must still be said.
"""

from __future__ import annotations

from typing import Any

from storage.failures import Unavailable
from storage.schema import Snapshot

_TABLES = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'tortoise_migrations'
ORDER BY 1
"""
_COLUMNS = """
SELECT c.relname AS "table", a.attname AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relname = ANY($1) AND c.relnamespace = current_schema()::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
"""
_INDEXES = """
SELECT c.relname AS "table", i.indisunique AS single, i.indpred IS NOT NULL AS partial,
  (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k) FROM generate_series(1, i.indnkeyatts) k) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relname = ANY($1) AND c.relnamespace = current_schema()::regnamespace AND i.indisvalid
"""
_TRIGGERS = """
SELECT t.tgname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relname = ANY($1) AND c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgenabled <> 'D'
"""
_SERVER = """
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit,
  current_setting('transaction_read_only') AS reading, pg_is_in_recovery() AS standby, current_database() AS name
"""
_RIGHTS = """
SELECT c.relname AS name, current_user AS person FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE'))
"""


async def tables(client: Any) -> list[str]:
    return [str(row["name"]) for row in await client.execute_query_dict(_TABLES)]


async def snapshot(client: Any) -> Snapshot:
    """What the database holds. Indexes are named by what they do, in the words of schema.snapshot."""
    names = await tables(client)
    parts = {f"table {name}" for name in names}
    parts |= {f"column {row['table']}.{row['name']}" for row in await client.execute_query_dict(_COLUMNS, [names])}
    for row in await client.execute_query_dict(_INDEXES, [names]):
        kind = f"{'unique ' if row['single'] else ''}{'partial ' if row['partial'] else ''}index"
        parts.add(f"{kind} {row['table']}({row['columns']})")
    parts |= {f"trigger {row['name']}" for row in await client.execute_query_dict(_TRIGGERS, [names])}
    return Snapshot(frozenset(parts), {name: await count(client, name) for name in names})


async def count(client: Any, table: str) -> int:
    (row,) = await client.execute_query_dict(f'SELECT count(*) AS n FROM "{table}"')  # noqa: S608 - from the catalog
    return int(row["n"])


async def check_server(client: Any) -> None:
    """Raises Unavailable where what is committed could be forgotten, or where we may not write."""
    (row,) = await client.execute_query_dict(_SERVER)
    if row["standby"] or row["reading"] == "on":
        raise Unavailable(
            f"database {row['name']} is read-only: it is a standby, or default_transaction_read_only is on"
        )
    if row["fsync"] == "off" or row["commit"] == "off":
        setting = "fsync" if row["fsync"] == "off" else "synchronous_commit"
        raise Unavailable(
            f"the server runs with {setting} = off and would forget letters in a power cut: set {setting} = on"
        )
    if rows := await client.execute_query_dict(_RIGHTS):
        names = ", ".join(sorted(str(row["name"]) for row in rows))
        raise Unavailable(f"user {rows[0]['person']} may not read, add to and change {names}: let him own them")
