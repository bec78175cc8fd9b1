"""One `pli demo` for all tests that do not move its clock; those that do start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.blackbox.drive import Demo, demo


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("demo") / "d") as started:
        yield started
