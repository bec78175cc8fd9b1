"""The store as another program sees it, past the gateway: every row, statements of our own, triggers that make a table fail."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from storage import triggers
from tests import postgres
from tests.office import Inside

Rows = dict[str, list[Any]]


def url(inside: Inside) -> str:
    """Of PostgreSQL; empty for the SQLite file."""
    found = inside.open.office.settings.database.url.get_secret_value()
    return found if found.startswith("postgres") else ""


def file(inside: Inside) -> Path:
    return inside.open.office.settings.gateway.data_dir / "pli.db"


def rows(inside: Inside) -> Rows:
    """Every row of every table, without message bytes: they are kept before the row that names them, whatever becomes of it."""
    found = rows_of(url(inside)) if url(inside) else rows_in(file(inside))
    return {table: content for table, content in found.items() if table != "message_bytes"}


def rows_in(path: Path) -> Rows:
    """Of an SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}


def rows_of(url: str) -> Rows:
    """Of a PostgreSQL database, each row as its text."""
    name = postgres.name_of(url)
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    found: Rows = {table: [] for table in postgres.server().run(tables, name).split()}
    every = " UNION ALL ".join(f"SELECT '{table}', t::text FROM \"{table}\" t" for table in found)
    for line in postgres.server().run(every, name).splitlines():
        table, _, row = line.partition("|")
        found[table].append(row)
    return {table: sorted(content) for table, content in found.items()}


def everything(inside: Inside) -> bytes:
    """All that a thief of the store has in hand."""
    folder = inside.open.office.settings.gateway.data_dir
    found = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    if url(inside):
        text = repr(rows_of(url(inside)))
        found += [text.encode(), *(bytes.fromhex(part) for part in re.findall(r"\\x([0-9a-f]*)", text))]
    return b"".join(found)


def run(inside: Inside, *statements: str) -> None:
    """Past the gateway and its rules."""
    if url(inside):
        postgres.server().run(";".join(statements), postgres.name_of(url(inside)))
        return
    with closing(sqlite3.connect(file(inside), timeout=20)) as connection:
        connection.executescript(";".join(statements))


def disarm(inside: Inside, table: str) -> None:
    """Take a table's own triggers away, as somebody who owns the database can."""
    if url(inside):
        run(inside, f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    else:
        own = [s.split()[2] for s in triggers.statements("sqlite") if f" ON {table} " in s]
        run(inside, *(f"DROP TRIGGER {name}" for name in own))


def break_(inside: Inside, table: str, verb: str = "INSERT") -> None:
    """Make *verb* on *table* fail until `mend`."""
    if url(inside):
        body = "BEGIN RAISE EXCEPTION 'the disk says no'; END"
        function = f"CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
        run(inside, function, f"CREATE TRIGGER broken BEFORE {verb} ON {table} EXECUTE FUNCTION broken()")
    else:
        body = "BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"
        run(inside, f"CREATE TRIGGER broken BEFORE {verb} ON {table} {body}")


def mend(inside: Inside, table: str) -> None:
    run(inside, f"DROP TRIGGER broken{f' ON {table}' if url(inside) else ''}")
