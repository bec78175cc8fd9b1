"""Several gateways on one database: a supervisor that starts worker processes, keeps their number, and ends them.

A worker is a whole gateway (running.py) that shares its ports with the others; the supervisor serves nobody and loads little.
Each worker holds one end of a socket to it: there it says that it answers, and there it notices that the supervisor is gone.
Not here: who may do what when (the rows decide: compare-and-set and SKIP LOCKED).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from gateway import ready
from gateway.core.errors import Unusable
from gateway.ports import bound, mend
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.running import PortalMaker

_log = structlog.get_logger("workers")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0
_STEADY = 10.0
"""Seconds after which a worker's end is no sign any more that the next one will end at once."""
_PATIENCE = 75.0
"""Seconds for a worker to finish what is under way; the service manager waits a little longer (conf/systemd)."""


# -- the supervisor ---------------------------------------------------------------------------------------------------


async def supervise(settings: Settings, config: Path | None, number: int) -> None:
    """Run *number* workers until SIGTERM or SIGINT. Raises Unusable where they cannot start; then none is left running."""
    if settings.database_url.startswith("sqlite"):
        raise Unusable(
            f'--workers {number}: SQLite takes one process, since two that write fail with "database is locked"; '
            "set [database] url to a postgres:// address, or run without --workers"
        )
    told = ready.told()
    with ExitStack() as held:
        given = _hold_ports(settings, held)
        await _Crew(settings, config, number, given).run(told)


def _hold_ports(settings: Settings, held: ExitStack) -> dict[str, str]:
    """Bind every port without listening, so that no other program gets one while a worker starts; returns the settings of
    those that were left to us (port 0), which all workers must share."""
    given = {}
    endpoints = [("smtp", name, getattr(settings.smtp, name)) for name in ("submissions", "submission", "mx")]
    for section, name, at in [*endpoints, ("web", "listen", settings.web.listen)]:
        if at is None:
            continue
        try:
            port = _hold(at.host, at.port, held)
        except OSError as error:
            raise Unusable(f"[{section}] {name}: {at} {mend(error)}") from error
        if at.port == 0:
            given[f"PLI_{section.upper()}__{name.upper()}"] = str(at._replace(port=port))
    return given


def _hold(host: str, port: int, held: ExitStack) -> int:
    flags = socket.AI_PASSIVE
    for family, _, _, _, address in dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)):
        if port:
            # Among those that share a port nobody is told that it is taken: another gateway is found by not sharing first.
            with bound(family, str(address[0]), port) as alone:
                alone.listen(1)
        port = int(held.enter_context(bound(family, str(address[0]), port, shared=True)).getsockname()[1])
    return port


@dataclass
class _Worker:
    process: asyncio.subprocess.Process
    link: socket.socket
    says: Mapping[str, Any]
    since: float


@dataclass
class _Crew:
    settings: Settings
    config: Path | None
    number: int
    given: Mapping[str, str]
    _workers: dict[int, _Worker] = field(default_factory=dict)  # by place
    _processes: set[asyncio.subprocess.Process] = field(default_factory=set)

    async def run(self, told: asyncio.Event) -> None:
        stopped = asyncio.ensure_future(told.wait())
        keeping: list[asyncio.Future[Any]] = []
        try:
            keeping.append(asyncio.ensure_future(self._start_all()))
            await asyncio.wait([*keeping, stopped], return_when=asyncio.FIRST_COMPLETED)
            if told.is_set():
                return
            await keeping[0]
            ready.announce(self.settings, self._ready())
            keeping += [asyncio.ensure_future(self._keep(place)) for place in range(self.number)]
            await asyncio.wait([stopped, *keeping[1:]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.forget(self.settings)
            for task in (*keeping, stopped):
                task.cancel()
            await asyncio.gather(*keeping, stopped, return_exceptions=True)
            await self._end_all()

    async def _start_all(self) -> None:
        await asyncio.gather(*(self._start(place) for place in range(self.number)))

    def _ready(self) -> dict[str, Any]:
        says = next(worker.says for worker in self._workers.values())
        pids = [self._workers[place].process.pid for place in sorted(self._workers)]
        return {**says, "pid": os.getpid(), "workers": pids}

    async def _start(self, place: int) -> None:
        """A new worker that answers. Raises Unusable with what it said, or that it ended without a word."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(self.config, theirs.fileno()),
                env={**os.environ, **self.given, "PYTHONPATH": _path()},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the supervisor alone, which tells them
            )
        except OSError as error:
            ours.close()
            raise Unusable(f"a worker cannot be started ({error.strerror})") from error
        finally:
            theirs.close()
        self._processes.add(process)
        says = await _heard(ours)
        if not says.get("ready"):
            ours.close()
            code = await process.wait()
            self._processes.discard(process)
            raise Unusable(says.get("unusable") or f"a worker ended with code {code} before it answered")
        self._workers[place] = _Worker(process, ours, says, asyncio.get_running_loop().time())

    async def _keep(self, place: int) -> None:
        """Start a worker again whenever it ends, soon at first, then less and less eagerly."""
        pause = _FIRST_PAUSE
        while True:
            worker = self._workers[place]
            code = await worker.process.wait()
            worker.link.close()
            self._processes.discard(worker.process)
            steady = asyncio.get_running_loop().time() - worker.since > _STEADY
            pause = _FIRST_PAUSE if steady else min(2 * pause, _LONGEST_PAUSE)
            _log.error("worker ended", pid=worker.process.pid, code=code, again_in=pause)
            while self._workers[place] is worker:
                await asyncio.sleep(pause)
                try:
                    await self._start(place)
                except Unusable as error:  # the others go on: what is wrong may pass (a database that is away)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    _log.error("worker cannot start", detail=str(error), again_in=pause)
            _log.warning("worker started again", pid=self._workers[place].process.pid)
            with contextlib.suppress(Unusable):  # a full disk: the worker answers all the same
                ready.write(self.settings, self._ready())

    async def _end_all(self) -> None:
        """SIGTERM, patience, SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            waiting = [asyncio.ensure_future(process.wait()) for process in self._processes]
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            if waiting:
                _, late = await asyncio.wait(waiting, timeout=_PATIENCE)
                if not late:
                    return


async def _heard(link: socket.socket) -> dict[str, Any]:
    """A worker's one line; empty where it ended without one."""
    loop, line = asyncio.get_running_loop(), b""
    link.setblocking(False)
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n") and (more := await loop.sock_recv(link, 65536)):
            line += more
    return dict(json.loads(line)) if line.endswith(b"\n") else {}


def _command(config: Path | None, descriptor: int) -> Sequence[str]:
    given = [] if config is None else ["--config", str(config)]
    return [sys.executable, "-m", "gateway", *given, "run", "--worker", str(descriptor)]


def _path() -> str:
    """Where a worker finds our packages, wherever this process was started."""
    ours, rest = str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")
    return os.pathsep.join([ours, rest] if rest else [ours])


# -- a worker ---------------------------------------------------------------------------------------------------------


async def work(settings: Settings, make_portal: PortalMaker, descriptor: int) -> int:
    """One worker, until SIGTERM or the supervisor's end; returns its exit code. What is unusable is told to the supervisor."""
    from gateway.running import running

    structlog.contextvars.bind_contextvars(worker=os.getpid())
    told = ready.told()
    link = socket.socket(fileno=descriptor)
    link.setblocking(False)
    alone = asyncio.ensure_future(_gone(link))
    stop = asyncio.ensure_future(told.wait())
    try:
        async with running(settings, make_portal, shared=True) as gateway:
            _say(link, gateway.ready())
            await asyncio.wait([stop, alone], return_when=asyncio.FIRST_COMPLETED)
    except Unusable as error:
        _say(link, {"unusable": str(error)})
        return 2
    finally:
        for task in (stop, alone):
            task.cancel()
        await asyncio.gather(stop, alone, return_exceptions=True)
        link.close()
    return 0


def _say(link: socket.socket, what: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody is there any more, which is noticed elsewhere
        link.sendall(json.dumps(what).encode() + b"\n")


async def _gone(link: socket.socket) -> None:
    """Until the other end is closed, which kill -9 does as well."""
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_recv(link, 1)
