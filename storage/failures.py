"""How storage fails, in words that callers know whatever the engine: Conflict, Failure (Full among them), Unavailable."""

from __future__ import annotations

from tortoise.exceptions import BaseORMException, IntegrityError, OperationalError

Conflict = IntegrityError
"""A row that must be single exists already, or a trigger refused one."""
Failure = BaseORMException
"""Any failure of the database during work, a lost connection among them: the same again later may succeed."""


class Full(OperationalError):
    """A Failure: the disk of the database is full."""


class Unavailable(Exception):
    """The database cannot be reached, opened or written; the text says which and why, for the operator, and holds no password."""
