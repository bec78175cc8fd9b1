"""The door looks at its disk as often as it must to refuse a mail early, and not more."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.core.errors import OurFault
from gateway.intake import door


def test_a_disk_with_much_room_is_looked_at_once_a_second_and_one_with_little_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, free, looks = [100.0], [64_000], [0]

    def statvfs(_: Path) -> SimpleNamespace:
        looks[0] += 1
        return SimpleNamespace(f_bavail=free[0], f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    room = door._Room()
    assert [room.left(Path("d"), 1000) for _ in range(3)] == [64, 64, 64]
    assert looks == [1]
    now[0], free[0] = 101.0, 63_999
    assert [room.left(Path("d"), 1000) for _ in range(3)] == [63, 63, 63]
    assert looks == [4]
    free[0] = 1_999
    assert room.left(Path("d"), 1000) == 1


def test_a_disk_that_cannot_be_looked_at_is_our_fault(tmp_path: Path) -> None:
    with pytest.raises(OurFault):
        door._Room().left(tmp_path / "none", 1000)
