"""This gateway as a competitor: a prepared site, `pli run` in a process tree of its own, and one account to send from."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.tools import Missing, wait_for
from tests import postgres
from tests.blackbox.drive import ROOT, Site, environment, free_ports

TO = "john.roe=example.net@letters.pli.test"


class Gateway:
    """One gateway in *folder*. relay: where its mails go. queue: whether they leave at all. engine: sqlite or postgres."""

    name = "pli"

    def __init__(
        self, library: ModuleType, folder: Path, relay: int, *, queue: bool, engine: str = "sqlite", workers: int = 1
    ) -> None:
        self._library, self._workers = library, workers
        if folder.exists():
            shutil.rmtree(folder)
        names = ("submissions", "submission", "mx", "web")
        self.site = Site(folder, dict(zip(names, free_ports(4), strict=True)), relay)
        self._server = None if engine == "sqlite" else _Server()
        database = f"sqlite:{folder}/data/pli.db" if self._server is None else postgres.new_database()
        self.site.set_up(database=database)
        self._env = environment({"PLI_SMTP__MAX_PER_PEER": "1000", "PLI_DISPATCH__CONCURRENCY": "20" if queue else "0"})
        self.tree: Any = None

    def start(self) -> None:
        words = ["run", *(["--workers", str(self._workers)] if self._workers > 1 else [])]
        command = [sys.executable, "-m", "gateway", "--config", str(self.site.config), *words]
        log = self.site.folder / "log"
        self.tree = self._library.Tree(command, name="pli", env=self._env, cwd=str(ROOT), log=str(log))
        wait_for(self.site.folder / "data" / "ready.json", self.tree)

    def stop(self) -> None:
        if self.tree is not None:
            self.tree.stop()
            self.tree = None

    def load(self) -> dict[str, Any]:
        """Options of the load generator that lead to our submission port."""
        who = self.site.account
        address = who["address"]
        return {"p": self.site.ports["submission"], "A": f"{address}:{who['app_password']}", "f": address, "t": TO}

    def cpu(self) -> float:
        """Seconds, of all processes that serve, the database's among them."""
        return float(self.tree.cpu()) + (self._server.cpu() if self._server else 0.0)

    def memory(self) -> float:
        """MiB of the database, beside the tree."""
        return self._server.memory() if self._server else 0.0

    def tidy(self) -> None:
        """Before a run: nothing; letters stay."""

    def mails(self) -> tuple[int, int]:
        """(mails that left, mails that are owed), in SQLite's file."""
        with closing(sqlite3.connect(f"file:{self.site.folder}/data/pli.db?mode=ro", uri=True, timeout=30)) as database:
            states = dict(database.execute("SELECT state, count(*) FROM intent GROUP BY state"))
        return states.get("done", 0), states.get("due", 0) + states.get("leased", 0)


class _Server:
    """The PostgreSQL of the tests, and what it costs."""

    def __init__(self) -> None:
        if not Path("/usr/lib/postgresql").is_dir():
            raise Missing("PostgreSQL is not installed: apt-get install postgresql")
        self._pid = int((postgres.server().folder / "data" / "postmaster.pid").read_text().split()[0])

    def cpu(self) -> float:
        own, ended = _times(self._pid)
        return own + ended + sum(_times(pid)[0] for pid in _children(self._pid))

    def memory(self) -> float:
        return sum(_pss(pid) for pid in [self._pid, *_children(self._pid)])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _times(pid: int) -> tuple[float, float]:
    """(seconds of the process, of its children that ended)."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tick = os.sysconf("SC_CLK_TCK")
        return (int(fields[11]) + int(fields[12])) / tick, (int(fields[13]) + int(fields[14])) / tick
    return 0.0, 0.0


def _pss(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
