"""What a test needs and the machine may lack: a loud skip at home, an error in CI. Data beside the checkout is only skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def lacking(what: str, mend: str) -> None:
    """Skip loudly, or fail where CI=true promised that everything is there."""
    sentence = f"{what} is not there: {mend}"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


def need(program: str, mend: str) -> str:
    """The path of *program*."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        lacking(program, mend)
        raise AssertionError  # never reached: both ways raise
    return found


def need_shared(name: str) -> Path:
    """A folder of test data beside the checkout; skipped where it is absent, also in CI."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no folder shared/{name} beside the checkout: its test data is not tried")
    return path
