"""This gateway as a competitor: a prepared site, `pli run` in a process tree of its own, and one account to send from."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.tools import wait_for
from tests.blackbox.drive import ROOT, Site, environment, free_ports

TO = "john.roe=example.net@letters.pli.test"


class Gateway:
    """One gateway in *folder*. relay: where its mails go. queue: whether they leave at all while deposits are measured."""

    name = "pli"

    def __init__(
        self, library: ModuleType, folder: Path, relay: int, *, queue: bool, database: str = "", workers: int = 1
    ) -> None:
        self._library, self._workers = library, workers
        if folder.exists():
            shutil.rmtree(folder)
        names = ("submissions", "submission", "mx", "web")
        self.site = Site(folder, dict(zip(names, free_ports(4), strict=True)), relay)
        self.site.set_up(database=database)
        self._env = environment({
            "PLI_SMTP__MAX_PER_PEER": "1000",
            "PLI_DISPATCH__CONCURRENCY": "20" if queue else "0",
        })  # fmt: skip
        self.tree: Any = None

    def start(self) -> None:
        ready = self.site.folder / "data" / "ready.json"
        words = ["run", *(["--workers", str(self._workers)] if self._workers > 1 else [])]
        command = [sys.executable, "-m", "gateway", "--config", str(self.site.config), *words]
        self.tree = self._library.Tree(
            command, name="pli", env=self._env, cwd=str(ROOT), log=str(self.site.folder / "log")
        )
        wait_for(ready, self.tree)

    def stop(self) -> None:
        if self.tree is not None:
            self.tree.stop()
            self.tree = None

    def load(self) -> dict[str, Any]:
        """Options of the load generator that lead to our submission port."""
        who = self.site.account
        return {
            "p": self.site.ports["submission"],
            "A": f"{who['address']}:{who['app_password']}",
            "f": who["address"],
            "t": TO,
        }

    def cpu(self) -> float:
        """Seconds, of all processes that serve."""
        return float(self.tree.cpu())

    def tidy(self) -> None:
        """Before a run: nothing; letters stay."""

    def done(self) -> bool:
        return True


def profiled() -> bool:
    return bool(os.environ.get("BENCH_KEEP"))
