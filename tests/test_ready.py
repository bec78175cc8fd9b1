"""The ready line, as whoever started us reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.blackbox.drive import ROOT, environment

_ANNOUNCE = """
from pathlib import Path
from types import SimpleNamespace
from gateway.ready import announce
announce(SimpleNamespace(gateway=SimpleNamespace(data_dir=Path("."))), {"ready": True, "pid": 1})
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_ready_line_and_its_end_are_one_write(tmp_path: Path, unbuffered: str) -> None:
    """Else a worker's log could come between, since as a rule both go to one pipe."""
    reading, writing = os.pipe2(os.O_DIRECT)  # in packets: a read gives what one write gave
    env = environment({"PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT)})
    subprocess.run([sys.executable, "-c", _ANNOUNCE], stdout=writing, cwd=tmp_path, env=env, check=True, timeout=60)
    os.close(writing)
    packet = os.read(reading, 65536).decode()
    os.close(reading)
    assert packet.endswith("\n")
    assert json.loads(packet) == {"ready": True, "pid": 1}
