"""The gateway's own database, reached past the gateway: statements, triggers that make a table fail, locks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.postgres import Server, name_of, server


@dataclass(frozen=True)
class Base:
    """url: of PostgreSQL, "" for the SQLite file."""

    url: str
    file: Path
    on: Server | None = None

    def run(self, *statements: str) -> None:
        if self.url:
            for statement in statements:
                (self.on or server()).run(statement, name_of(self.url))
            return
        with closing(sqlite3.connect(self.file, timeout=20, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def value(self, query: str) -> str:
        """The one value that a query finds, as text; "" for no row."""
        if self.url:
            return (self.on or server()).run(query, name_of(self.url))
        with closing(sqlite3.connect(self.file, timeout=20)) as connection:
            row = connection.execute(query).fetchone()
            return "" if row is None else str(row[0])

    def rows(self) -> dict[str, int]:
        """How many rows each table has; but for message bytes, which may be kept without being named, and then are nobody's."""
        return {t: int(self.value(f"SELECT count(*) FROM {t}")) for t in self.tables() if t != "message_bytes"}

    def tables(self) -> list[str]:
        from storage import tables

        found = [getattr(model, "_meta", None) for model in vars(tables).values() if isinstance(model, type)]
        return sorted(str(meta.db_table) for meta in found if meta is not None and meta.db_table)

    @contextmanager
    def failing(self, table: str, manner: str, when: str = "") -> Iterator[None]:
        """While the context lasts every INSERT into *table* fails in a *manner* of FAILURES.

        when: only for rows of which this SQL, which may name NEW, is true.
        """
        self.run(*(self._postgres(table, manner, when) if self.url else self._sqlite(table, manner, when)))
        try:
            yield
        finally:
            on = f" ON {table}" if self.url else ""
            self.run(f"DROP TRIGGER fault{on}")

    def _sqlite(self, table: str, manner: str, when: str) -> list[str]:
        act = {
            "refuse": "SELECT RAISE(ABORT, 'fault')",
            "undo": "SELECT RAISE(ROLLBACK, 'fault')",
            "break": "SELECT abs(-9223372036854775808)",
        }[manner]
        return [f"CREATE TRIGGER fault BEFORE INSERT ON {table} {f'WHEN {when}' if when else ''} BEGIN {act}; END"]

    def _postgres(self, table: str, manner: str, when: str) -> list[str]:
        act = {
            "refuse": "RAISE EXCEPTION 'fault' USING ERRCODE = 'unique_violation'",
            "undo": "PERFORM pg_terminate_backend(pg_backend_pid())",
            "break": "PERFORM 1 / 0",
        }[manner]
        body = f"IF {when} THEN {act}; END IF" if when else act
        return [
            f"CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$",
            f"CREATE TRIGGER fault BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fault()",
        ]


FAILURES = ("refuse", "break", "undo")
"""A row that is refused (a constraint), a statement that breaks, and a failure with which the database undoes the whole
transaction by itself, as it does on a full disk (SQLite) or a lost connection (PostgreSQL)."""
