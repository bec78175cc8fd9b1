"""The measuring tools that lie beside the checkout (../shared/bench): load generator, process trees, a private Postfix.

They are run from there and never copied. Not here: what is measured (rows.py).
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "bench"


class Missing(Exception):
    """Something that the bench needs is not there; the text says what, and the mend."""


def load(work: Path) -> tuple[ModuleType, ModuleType | None]:
    """(benchlib, postfix_private or None where Postfix is not installed). work: where the tools keep their files.

    Raises Missing where the tools themselves are not there.
    """
    if not FOLDER.is_dir():
        raise Missing(
            f"{FOLDER} is not there: the load generator and the peer are run from it, so nothing can be measured"
        )
    if shutil.which("cc") is None:
        raise Missing("no C compiler for the load generator: apt-get install gcc libssl-dev")
    os.environ["BENCH_WORK"] = str(work)
    sys.path.insert(0, str(FOLDER))
    library = importlib.import_module("benchlib")
    if not Path("/usr/lib/postfix/sbin/master").exists() or os.geteuid() != 0:
        return library, None  # ours is measured alone
    return library, importlib.import_module("postfix_private")


def wait_for(path: Path, tree: Any, patience: float = 40.0) -> None:
    """Wait until *path* exists; raises Missing where the process behind it ends first."""
    end = time.monotonic() + patience
    while not path.exists():
        if tree.p.poll() is not None or time.monotonic() > end:
            raise Missing(f"{path.name} never came; see the log in {path.parent.parent}")
        time.sleep(0.05)
