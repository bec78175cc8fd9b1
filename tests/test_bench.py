"""The bench runs: one small row, to its end, with nothing failed. How fast it was is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.rows import ALL, chosen
from bench.table import Row, line
from tests.blackbox.drive import ROOT, environment
from tests.needs import need, need_shared


@pytest.mark.blackbox
def test_a_small_row_runs_to_its_end(tmp_path: Path) -> None:
    need_shared("bench")
    need("cc", "apt-get install gcc libssl-dev")
    out = tmp_path / "runs.json"
    with tempfile.TemporaryDirectory(prefix="pli-bench-") as work:
        Path(work).chmod(0o755)  # Postfix runs as a user of its own
        words = ["--rows", "smoke", "--runs", "1", "--settle", "0", "--work", work, "--json", str(out)]
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| smoke |" in done.stdout
    (row,) = json.loads(out.read_text())
    assert row["ours"][0]["failed"] == 0
    assert row["ours"][0]["cpu_ms"] > 0


def test_ratios_are_taken_run_by_run() -> None:
    row = Row("row", ours=[{"rate": 10.0}, {"rate": 100.0}], peer=[{"rate": 20.0}, {"rate": 50.0}])
    assert row.ratios("rate") == [0.5, 2.0]
    assert line(row)[1:5] == ("55", "35", "1.25", "0.50..2.00")
    assert line(Row("alone", ours=[{"rate": 10.0}]))[1:5] == ("10", "-", "-", "")


def test_rows_are_chosen_by_parts_of_their_names() -> None:
    assert [row.name for row in chosen("smoke")] == ["smoke"]
    assert len(chosen("")) == len(ALL) - 1
    assert {row.name for row in chosen("s10-1m, page")} > {"s10-1m-keep", "page-c10"}
