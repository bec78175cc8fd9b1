"""A running gateway: listeners, portal, queue and timers on one open office, in one event loop; and its ready line.

Everything is bound before anything is announced; stopping goes the other way round. Not here: what a demo adds (demo/).
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gateway.counter import Counter
from gateway.deposits import Deposits
from gateway.dispatch.dkim import Signer
from gateway.dispatch.mails import Scribe
from gateway.dispatch.queue import Queue
from gateway.dispatch.route import Router
from gateway.intake.door import Door
from gateway.intake.listener import Listeners
from gateway.office import Office
from gateway.opening import Open, opened
from gateway.recipient import RecipientCounter
from gateway.rejections import Rejections
from gateway.settings import Settings
from gateway.timers import Timers
from gateway.watch import ClockWatch

_log = structlog.get_logger("gateway")


class Portal(Protocol):
    """The web server, which the composition root brings: the gateway knows no web."""

    port: int

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class PortalMaker(Protocol):
    def __call__(
        self,
        counter: Counter,
        office: Office,
        health: Callable[[], Awaitable[bool]],
        mailbox: Any = None,
        *,
        shared: bool = False,
    ) -> Portal:
        """The web server for one gateway. mailbox: what the demo shows instead of the internet. shared: see `running`."""


@dataclass(frozen=True)
class Running:
    """A gateway that answers. ports: by listener name, those really bound."""

    inside: Open
    queue: Queue
    timers: Timers
    ports: Mapping[str, int]

    @property
    def office(self) -> Office:
        return self.inside.office

    def ready(self, **more: Any) -> dict[str, Any]:
        """The ready line of DESIGN.md 7."""
        settings = self.office.settings
        return {
            "ready": True,
            "pid": os.getpid(),
            "ports": dict(self.ports),
            "urls": {"portal": settings.gateway.public_url},
            "ca": str(settings.dispatch.ca) if settings.dispatch.ca else None,
            "accounts": [],
            **more,
        }


@asynccontextmanager
async def running(
    settings: Settings, make_portal: PortalMaker, mailbox: Any = None, *, shared: bool = False
) -> AsyncIterator[Running]:
    """A whole gateway for the time of the context; raises Unusable where a part of it cannot start.

    shared: other processes listen on the same ports (workers.py).
    """
    async with opened(settings) as inside, AsyncExitStack() as stack:
        office = inside.office
        watch = ClockWatch(office)
        await watch.look()
        router = Router(settings.dispatch.relay, settings.dispatch.dns)
        scribe = Scribe(office, inside.archive, inside.accounts)
        queue = Queue(office, inside.postoffice, scribe, Signer(office.keys.dkim), router)
        demo = settings.clock.source != "system"
        if demo:
            queue.pause = 0.5  # the clock file may move at any moment
        door = _door(inside, router, watch)
        listeners = Listeners(settings.smtp, door, office.clock, hostname=settings.gateway.domain, shared=shared)
        await listeners.start()
        stack.push_async_callback(listeners.stop)
        counter = RecipientCounter(office, inside.postoffice, inside.archive)
        ports = dict(listeners.ports)
        if settings.web.listen is not None:
            portal = make_portal(counter, office, lambda: _healthy(office), mailbox, shared=shared)
            await portal.start()
            stack.push_async_callback(portal.stop)
            ports["web"] = portal.port
        timers = Timers(office, inside.postoffice, watch)
        await queue.start(alone=inside.database.is_sqlite)
        stack.push_async_callback(queue.stop)
        timers.start(every=1 if demo else None)
        stack.callback(timers.stop)
        _spare_collections()
        yield Running(inside, queue, timers, ports)


def _spare_collections() -> None:
    """What is loaded by now stays: no collection looks at it again. They are rarer, too: a mail makes thousands of objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _door(inside: Open, router: Router, watch: ClockWatch) -> Door:
    office = inside.office
    return Door(
        office,
        inside.accounts,
        Deposits(office),
        Rejections(office),
        inside.postoffice,
        router,
        lambda: watch.sound,
    )


async def _healthy(office: Office) -> bool:
    """The database answers within a moment."""
    try:
        await asyncio.wait_for(office.register.letters(limit_to=1), 5)
    except Exception as error:  # noqa: BLE001 - whatever it is, we are not well
        _log.error("not healthy", error=type(error).__name__, detail=str(error))
        return False
    return True
