"""Fixtures for all tests: a whole office, which ends with the store's own audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.office import Inside, office_in, template


@pytest.fixture(scope="session")
def office_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and a migrated, empty database that tests copy, since making them takes its time."""
    return template(tmp_path_factory.mktemp("house"))


@pytest.fixture
async def inside(tmp_path: Path, office_template: Path) -> AsyncIterator[Inside]:
    """An open office, on the engine of PLI_TEST_ENGINE; at its end the store must be one that its evidence proves."""
    async with office_in(tmp_path, office_template) as found:
        yield found
