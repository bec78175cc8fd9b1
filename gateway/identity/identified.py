"""`Identified`: the value that a step demands which needs to know who acts. Only this folder can make one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.evidence import instant

_ONLY_HERE = object()


@dataclass(frozen=True, slots=True)
class Identified:
    """A recipient whose identity was checked for one letter: how, when, and the one-time code that this used up."""

    letter_id: str
    level: str
    method: str
    at: datetime
    code_id: str
    _made_in: object

    def __post_init__(self) -> None:
        if self._made_in is not _ONLY_HERE:
            raise TypeError("Identified values come from gateway.identity alone")

    def facts(self) -> dict[str, Any]:
        return {"level": self.level, "method": self.method, "at": instant(self.at)}


def by_mailed_code(letter_id: str, code_id: str, at: datetime) -> Identified:
    """For codes.py, after a right code: whoever holds the code reads the mailbox that the notice went to."""
    return Identified(letter_id, "mailed_code", "one-time code mailed to the notified address", at, code_id, _ONLY_HERE)
