"""The shipped application on a real server, with a stand-in for the counter behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.web.browser import Browser
from tests.web.stand_in import HOUSE, TOKEN, Clock, StandIn, showing
from web.app import make_app
from web.serve import Server


@pytest.fixture
def counter() -> StandIn:
    return StandIn({TOKEN: showing()})


@pytest.fixture
async def server(counter: StandIn) -> AsyncIterator[Server]:
    async def well() -> bool:
        return counter.broken is None

    house = replace(HOUSE, public_url="https://pli.test")
    app = make_app(counter, house, Clock(), https=False, health=well)
    server = Server(app, "127.0.0.1", 0, None, None)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server.port)
