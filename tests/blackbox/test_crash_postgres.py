"""kill -9 on PostgreSQL with two workers, 200 times with `make crash-postgres KILLS=200`: see ordeal.py.

PLI_CRASHES sets the number of kills.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.blackbox.drive import site
from tests.blackbox.ordeal import ordeal
from tests.blackbox.sink import sink
from tests.postgres import new_database

KILLS = int(os.environ.get("PLI_CRASHES", "6"))


@pytest.mark.blackbox
def test_kills_of_workers_lose_nothing_double_nothing_and_leave_every_chain_whole(tmp_path: Path) -> None:
    with sink() as world, site(tmp_path / "s", world.port, database=new_database()) as where:
        ordeal(where, world, KILLS, workers=2)
