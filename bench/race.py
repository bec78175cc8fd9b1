"""Running rows: both sides in turn, so that a noisy machine is noisy for both; each side's CPU with all its children.

Memory is taken in a run of its own, since reading it costs CPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import tools
from bench.ours import Gateway
from bench.peers import Postfix
from bench.rows import Deposits, Outbound, Pages
from bench.rows import Row as Wanted
from bench.table import Row, Run

_WARM = 50
_DEAD_PORT = 9


class Race:
    def __init__(self, work: Path, runs: int, settle: float) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._library, self._private = tools.load(work)
        self._work, self._runs, self._settle = work, runs, settle
        if self._private is None:
            _say("Postfix is not installed, or this is not root: ours is measured alone")

    def all(self, rows: list[Wanted]) -> list[Row]:
        return [self._one(row) for row in rows]

    def _one(self, wanted: Wanted) -> Row:
        if isinstance(wanted, Deposits):
            row = self._deposits(wanted)
        elif isinstance(wanted, Outbound):
            row = self._outbound(wanted)
        else:
            row = self._pages(wanted)
        return row

    # -- deposits -----------------------------------------------------------------------------------------------------

    def _deposits(self, wanted: Deposits) -> Row:
        row = Row(wanted.name)
        with self._ours(wanted, queue=False, relay=_DEAD_PORT) as ours, self._postfix("hold") as peer:
            sides = [(ours, row.ours), *([(peer, row.peer)] if peer else [])]
            for side, _ in sides:
                self._library.smtpload(**{**wanted.load(), **side.load(), "m": min(_WARM, wanted.messages)})
            for number in range(self._runs):
                for side, runs in sides if number % 2 == 0 else sides[::-1]:
                    runs.append(self._run(side, wanted))
                    _say(f"{wanted.name} {side.name} {_brief(runs[-1])}")
            for side, runs in sides:
                runs[0]["pss_mib"] = self._memory(side, wanted)
        return row

    def _run(self, side: Gateway | Postfix, wanted: Deposits | Outbound) -> Run:
        side.tidy()
        self._library.settle(self._settle)
        before = side.cpu()
        found = self._library.smtpload(**{**wanted.load(), **side.load()})
        number = found["ok"] or 1
        return {
            "rate": found["msg_per_s"],
            "cpu_ms": (side.cpu() - before) / number * 1000,
            "p50_ms": found["p50_ms"],
            "p99_ms": found["p99_ms"],
            "load_ms": found["client_cpu_s"] / number * 1000,
            "failed": found["failed"],
        }

    def _memory(self, side: Gateway | Postfix, wanted: Deposits) -> float:
        side.tidy()
        side.tree.watch(0.3)
        self._library.smtpload(**{**wanted.load(), **side.load()})
        return float(side.tree.unwatch())

    # -- outbound and pages -------------------------------------------------------------------------------------------

    def _outbound(self, wanted: Outbound) -> Row:
        raise NotImplementedError

    def _pages(self, wanted: Pages) -> Row:
        raise NotImplementedError

    # -- sides --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _ours(self, wanted: Deposits | Outbound, *, queue: bool, relay: int) -> Iterator[Gateway]:
        ours = Gateway(self._library, self._work / "ours", relay, queue=queue, workers=wanted.workers)
        try:
            ours.start()
            yield ours
        finally:
            ours.stop()

    @contextmanager
    def _postfix(self, mode: str, sink: int = 0) -> Iterator[Postfix | None]:
        if self._private is None:
            yield None
            return
        peer = Postfix(self._library, self._private, mode, sink)
        try:
            peer.start()
            yield peer
        finally:
            peer.stop()


def _brief(run: Run) -> str:
    return " ".join(f"{key}={value:.2f}" for key, value in run.items())


def _say(text: Any) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
