"""Triggers that make the ledger and the register of commits immutable, in each engine's own words.

A rebuild of a table drops its triggers: every migration that rebuilds one must call `make_immutable` again.
"""

from __future__ import annotations

from typing import Any

from tortoise.connection import get_connection

IMMUTABLE = ("ledger", "batch")
"""Tables whose rows may be added and never changed or removed."""


def statements(dialect: str) -> list[str]:
    """The SQL that makes IMMUTABLE tables append-only. dialect: "sqlite" or "postgres"."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for table in IMMUTABLE
            for verb in ("UPDATE", "DELETE")
        ]
    function = (
        "CREATE OR REPLACE FUNCTION pli_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    return [function] + [
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION pli_append_only()"
        for table in IMMUTABLE
    ]


async def missing() -> list[str]:
    """Tables of IMMUTABLE that somebody made changeable again: their triggers are gone."""
    client = get_connection("default")
    if client.capabilities.dialect == "sqlite":
        rows = await client.execute_query_dict("SELECT tbl_name AS name FROM sqlite_master WHERE type = 'trigger'")
        wanted = 2
    else:
        rows = await client.execute_query_dict(
            "SELECT c.relname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'"
        )
        wanted = 1
    there = [row["name"] for row in rows]
    return [table for table in IMMUTABLE if there.count(table) < wanted]


async def make_immutable(_apps: Any, editor: Any) -> None:
    """A migration step (RunPython)."""
    for statement in statements(editor.client.capabilities.dialect):
        await editor.client.execute_script(statement)
