"""The rows of the race: which load, against which peer. Not here: how a side is started (ours.py, peers.py), the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Deposits:
    """Mails handed in under TLS and AUTH, each durable before its 250; nothing leaves meanwhile."""

    name: str
    sessions: int
    size: int
    messages: int
    per_connection: int = 0  # 0: connections are kept
    engine: str = "sqlite"
    workers: int = 1

    def load(self) -> dict[str, Any]:
        return {"s": self.sessions, "l": self.size, "m": self.messages, "n": self.per_connection or None, "T": True}


@dataclass(frozen=True)
class Outbound:
    """Mails handed in while others leave to a sink, until the last has left."""

    name: str
    sessions: int
    messages: int
    size: int = 10_240
    engine: str = field(default="sqlite")
    workers: int = 1

    def load(self) -> dict[str, Any]:
        return {"s": self.sessions, "l": self.size, "m": self.messages, "T": True}


@dataclass(frozen=True)
class Pages:
    """The recipient's page against a bare Starlette page on uvicorn."""

    name: str
    connections: int
    requests: int


Row = Deposits | Outbound | Pages
_MIB = 1 << 20


def _deposits() -> list[Deposits]:
    rows = []
    for size, name, most in ((10_240, "10k", 2000), (_MIB, "1m", 200)):
        for sessions in (1, 10, 50):
            number = most * 3 // 10 if sessions == 1 else most
            rows.append(Deposits(f"s{sessions}-{name}-keep", sessions, size, number))
            rows.append(Deposits(f"s{sessions}-{name}-each", sessions, size, number // 2, per_connection=1))
    return rows


def _postgres() -> list[Deposits]:
    rows = []
    for workers in (1, 2):
        for sessions, size, name, number in (
            (10, 10_240, "10k", 2000),
            (50, 10_240, "10k", 2000),
            (10, _MIB, "1m", 200),
        ):
            label = f"postgres-w{workers}-s{sessions}-{name}-keep"
            rows.append(Deposits(label, sessions, size, number, engine="postgres", workers=workers))
    return rows


ALL: tuple[Row, ...] = (
    *_deposits(),
    *_postgres(),
    Outbound("outbound-s10-10k", 10, 100),
    Pages("page-c10", 10, 2000),
    Deposits("smoke", 2, 10_240, 20),
)


def chosen(words: str) -> list[Row]:
    """The rows whose names hold one of the words, all but smoke where there is none."""
    wanted = [word for word in words.replace(",", " ").split() if word]
    if not wanted:
        return [row for row in ALL if row.name != "smoke"]
    return [row for row in ALL if any(word in row.name for word in wanted)]
