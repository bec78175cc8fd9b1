"""The timers: APScheduler ticks, a table of sweeps says "everything due now". No logic, no truth.

Of the processes that share a database one at a time does a sweep; still it may run late or twice, and each step is a
compare-and-set of its own. Closing holds at request time even where no timer runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from gateway.core.errors import NotAllowed, PliError, Unusable
from gateway.office import Office
from gateway.postoffice import PostOffice
from gateway.watch import ClockWatch
from storage.accounts import note
from storage.rows import LetterRow

_log = structlog.get_logger("timers")
SWEEPS = {"remind": 60, "lapse": 10, "discard": 300, "watchdog": 60, "clock": 30}
"""Every sweep and its seconds; a gateway does not start without one of them."""
_EACH = frozenset({"clock"})
"""What each process does for itself; anything else is done by one of those that share a database."""


@dataclass
class Timers:
    office: Office
    postoffice: PostOffice
    watch: ClockWatch
    _scheduler: AsyncIOScheduler | None = None
    _alarmed: set[str] = field(default_factory=set)

    def start(self, *, every: int | None = None) -> None:
        """Begin to tick; *every* replaces all intervals (seconds), in the demo."""
        sweeps = self._sweeps()
        if missing := SWEEPS.keys() - sweeps.keys():
            raise Unusable(f"sweeps are missing: {', '.join(sorted(missing))}")
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        for name, seconds in SWEEPS.items():
            # misfire_grace_time=None: a late sweep still runs; coalesce: once for all it missed (dependencies 1.6).
            self._scheduler.add_job(
                self._guarded,
                IntervalTrigger(seconds=every or seconds, timezone="UTC"),
                args=[name, sweeps[name]],
                id=name,
                misfire_grace_time=None,
                coalesce=True,
                max_instances=1,
            )
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    async def sweep(self, name: str) -> None:
        """Run one sweep now."""
        await self._guarded(name, self._sweeps()[name])

    def _sweeps(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "remind": self._remind,
            "lapse": self._lapse,
            "discard": self._discard,
            "watchdog": self._watchdog,
            "clock": self.watch.look,
        }

    async def _guarded(self, name: str, sweep: Callable[[], Awaitable[None]]) -> None:
        try:
            if name in _EACH:
                return await sweep()
            async with self.office.register.database.singleton(f"sweep {name}") as mine:
                if mine:
                    await sweep()
        except asyncio.CancelledError:
            pass  # the gateway stops; the scheduler would call it a failure
        except Exception as error:  # noqa: BLE001 - the next tick tries again
            _log.error("sweep failed", sweep=name, error=type(error).__name__, detail=str(error))

    async def _each(self, what: str, step: Callable[[LetterRow], Awaitable[None]]) -> None:
        for row in await self.office.register.due(what, self.office.clock.now()):
            try:
                await step(row)
            except NotAllowed:
                continue  # somebody was faster
            except PliError as error:
                _log.error("step failed", sweep=what, letter=row.id, error=error.detail or str(error))

    async def _remind(self) -> None:
        await self._each("reminder", lambda row: self.postoffice.remind(row, self.office.clock.now()))

    async def _lapse(self) -> None:
        await self._each("lapse", lambda row: self.postoffice.lapse(row, self.office.clock.now()))

    async def _discard(self) -> None:
        reason = "the hold period ended and nothing was added"
        await self._each("discard", lambda row: self.postoffice.discard(row, self.office.clock.now(), reason))

    async def _watchdog(self) -> None:
        """Alarm before a proof is due late (R44): a window long closed, or a proof not yet with the sender."""
        now = self.office.clock.now()
        for row, why in await self.office.register.overdue(now, timedelta(minutes=15), timedelta(hours=6)):
            if row.id in self._alarmed:
                continue
            self._alarmed.add(row.id)
            _log.error("alarm: a proof may be late", letter=row.id, why=why)
            await note(self.office.vault, now, "alarm", {"letter": row.id, "why": why})
