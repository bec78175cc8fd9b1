"""Running rows: both sides in turn, so that a noisy machine is noisy for both; each side's CPU with all its children.

Memory is taken in a run of its own, since reading it costs CPU. Not here: which rows (rows.py), the table (table.py).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import tools
from bench.ours import TO, Gateway
from bench.pages import fetch
from bench.peers import Postfix
from bench.rows import Deposits, Outbound, Pages
from bench.rows import Row as Wanted
from bench.table import Row, Run
from gateway.demo.people import link_in
from tests.blackbox.drive import ROOT, free_ports, message
from tests.blackbox.sink import sink

_WARM = 50
_DEAD_PORT = 9
Measure = Callable[[], Run]


class Race:
    """runs: how often each side runs a row. settle: seconds to wait at most for a quiet machine."""

    def __init__(self, work: Path, runs: int, settle: float) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._library, self._private = tools.load(work)
        self._work, self._runs, self._settle = work, runs, settle
        if self._private is None:
            _say("Postfix is not installed, or this is not root: ours is measured alone")

    def all(self, rows: list[Wanted]) -> list[Row]:
        """Every row; one that lacks something is said to be left out."""
        done = []
        for wanted in rows:
            row = Row(wanted.name)
            try:
                if isinstance(wanted, Deposits):
                    self._deposits(wanted, row)
                elif isinstance(wanted, Outbound):
                    self._outbound(wanted, row)
                else:
                    self._pages(wanted, row)
            except tools.Missing as error:
                _say(f"{wanted.name} is left out: {error}")
                continue
            done.append(row)
        return done

    def _in_turn(self, row: Row, ours: Measure, peer: Measure | None) -> None:
        sides = [(ours, row.ours, "ours"), *([(peer, row.peer, "peer")] if peer else [])]
        for number in range(self._runs):
            for measure, runs, name in sides if number % 2 == 0 else sides[::-1]:
                self._library.settle(self._settle)
                runs.append(measure())
                _say(f"{row.name} {name} " + " ".join(f"{key}={value:.2f}" for key, value in runs[-1].items()))

    # -- deposits -----------------------------------------------------------------------------------------------------

    def _deposits(self, wanted: Deposits, row: Row) -> None:
        with self._ours(wanted, queue=False, relay=_DEAD_PORT) as ours, self._postfix("hold") as peer:
            for side in (ours, peer) if peer else (ours,):
                self._library.smtpload(**{**wanted.load(), **side.load(), "m": min(_WARM, wanted.messages)})
            self._in_turn(row, lambda: self._run(ours, wanted), (lambda: self._run(peer, wanted)) if peer else None)
            row.ours[0]["pss_mib"] = self._memory(ours, wanted)
            if peer:
                row.peer[0]["pss_mib"] = self._memory(peer, wanted)

    def _run(self, side: Gateway | Postfix, wanted: Deposits) -> Run:
        side.tidy()
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
        return float(side.tree.unwatch()) + side.memory()

    # -- outbound -----------------------------------------------------------------------------------------------------

    def _outbound(self, wanted: Outbound, row: Row) -> None:
        port = free_ports(1)[0]
        with (
            self._sink(port),
            self._ours(wanted, queue=True, relay=port) as ours,
            self._postfix("relay", port) as peer,
        ):
            self._in_turn(row, lambda: self._left(ours, wanted), (lambda: self._left(peer, wanted)) if peer else None)

    def _left(self, side: Gateway | Postfix, wanted: Outbound) -> Run:
        """From the first deposit until the last mail has left; per mail that left."""
        before, cpu, begun = side.mails()[0], side.cpu(), time.monotonic()
        found = self._library.smtpload(**{**wanted.load(), **side.load()})
        while side.mails()[1]:
            if time.monotonic() > begun + 300:
                raise RuntimeError("the mails never all left")
            time.sleep(0.1)
        took = time.monotonic() - begun
        left = side.mails()[0] - before or found["ok"]
        return {
            "rate": left / took,
            "cpu_ms": (side.cpu() - cpu) / left * 1000,
            "p99_ms": found["p99_ms"],
            "failed": found["failed"],
            "deposits_per_s": found["msg_per_s"],
            "mails_per_deposit": left / (found["ok"] or 1),
        }

    @contextmanager
    def _sink(self, port: int) -> Iterator[None]:
        command = ["/usr/sbin/smtp-sink", "-u", "postfix", f"127.0.0.1:{port}", "500"]
        if not Path(command[0]).exists():
            raise tools.Missing("smtp-sink is not there: apt-get install postfix")
        tree = self._library.Tree(command, name="sink")
        try:
            self._library.wait_port(port)
            yield
        finally:
            tree.stop()

    # -- pages --------------------------------------------------------------------------------------------------------

    def _pages(self, wanted: Pages, row: Row) -> None:
        port = free_ports(1)[0]
        command = [sys.executable, "-m", "uvicorn", "bench.bare:app", "--port", str(port), "--no-access-log"]
        with sink() as world, self._ours(Outbound("", 1, 1), queue=True, relay=world.port) as ours:
            who = ours.site.account
            ours.site.client().send([TO], message(who, TO, "A letter", "Hello.\n"))
            mails = world.wait(lambda found: any(mail.message["Pli-State"] == "notified" for mail in found))
            notice = next(mail for mail in mails if mail.message["Pli-Notice"])
            path = link_in(notice.raw).partition(str(ours.site.ports["web"]))[2]
            bare = self._library.Tree(command, name="bare", cwd=str(ROOT))
            try:
                self._library.wait_port(port)
                self._in_turn(
                    row,
                    lambda: _visited(ours.tree, ours.site.ports["web"], path, wanted),
                    lambda: _visited(bare, port, "/page", wanted),
                )
            finally:
                bare.stop()

    # -- sides --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _ours(self, wanted: Deposits | Outbound, *, queue: bool, relay: int) -> Iterator[Gateway]:
        folder = self._work / "ours"
        ours = Gateway(self._library, folder, relay, queue=queue, engine=wanted.engine, workers=wanted.workers)
        try:
            ours.start()
            yield ours
        finally:
            ours.stop()

    @contextmanager
    def _postfix(self, mode: str, sink_port: int = 0) -> Iterator[Postfix | None]:
        if self._private is None:
            yield None
            return
        peer = Postfix(self._private, mode, sink_port)
        try:
            peer.start()
            yield peer
        finally:
            peer.stop()


def _visited(tree: Any, port: int, path: str, wanted: Pages) -> Run:
    before = tree.cpu()
    run = asyncio.run(fetch(port, path, wanted.connections, wanted.requests))
    return {**run, "cpu_ms": (tree.cpu() - before) / wanted.requests * 1000}


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
