"""Identifiers that grow: unique, in order, under threads and a clock that stands still or steps back."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.ids import Ids, new_id


def test_it_is_32_hexadecimal_digits_that_begin_with_the_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = Ids().new()
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert before <= int(made[:12], 16) <= time.time_ns() // 1_000_000


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=50))
def test_it_grows_whatever_the_clock_does(instants: list[int]) -> None:
    source, clock = Ids(), iter(instants)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.ids.time.time_ns", lambda: next(clock))
        made = [source.new() for _ in instants]
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {32}


def test_it_counts_on_while_the_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Ids()
    monkeypatch.setattr("storage.ids.time.time_ns", lambda: 1_700_000_000_000_000_000)
    made = [source.new() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {one[:12] for one in made} == {f"{1_700_000_000_000:012x}"}
    assert len({one[18:] for one in made}) == len(made)  # the rest is random in each


def test_it_goes_on_into_the_next_millisecond_when_the_count_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Ids()
    monkeypatch.setattr("storage.ids.time.time_ns", lambda: 5_000_000)
    monkeypatch.setattr("storage.ids.os.urandom", lambda size: b"\xff" * size)
    source._last = (5 << 24) + 2**24 - 2
    assert [source.new()[:18] for _ in range(2)] == [f"{5:012x}ffffff", f"{6:012x}000000"]


def test_threads_get_different_ones_each_in_its_order() -> None:
    def some(_: int) -> list[str]:
        return [new_id() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(some, range(8)))
    assert all(part == sorted(part) for part in made)
    assert len({one for part in made for one in part}) == 16_000
