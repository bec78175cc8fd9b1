"""What time it is. Whoever needs the time is handed a Clock; nobody asks the system by himself.

`FileClock` is the demo's and the tests' clock: the system's time plus an offset that a file holds and that others may change.
Not here: watching the offset from true time (R47, timers.py), windows (core/profile.py).
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from gateway.core.errors import Unusable
from gateway.settings import Settings

_OFFSET = re.compile(rb"\s*([+-]?[0-9]{1,10}(?:\.[0-9]{1,9})?)[ \t\r]*(\n?)\s*")
_SETTLED = 0.1


class Clock(Protocol):
    def now(self) -> datetime:
        """The current instant, aware, UTC."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class FileClock:
    """System time plus the signed seconds in the file at *path* (one line), re-read before every use.

    Raises Unusable where the file cannot be read or holds no offset at construction. Later a file that is missing, empty or
    half written leaves the last good offset standing: time must not jump because somebody is just writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found = _OFFSET.fullmatch(_read(path))
        except OSError as error:
            raise Unusable(
                f"[clock] source: the clock file {path} cannot be read ({error.strerror}); write one line to it, such as 0"
            ) from error
        if found is None:
            raise Unusable(
                f"[clock] source: the clock file {path} must hold one line, an offset in signed seconds such as -86400"
            )
        self._offset = float(found[1])

    @property
    def offset(self) -> timedelta:
        try:
            found = _OFFSET.fullmatch(_read(self._path))
            # Digits without their newline may be the first half of a longer number: taken only once the file has settled.
            if found and (found[2] or abs(time.time() - self._path.stat().st_mtime) >= _SETTLED):
                self._offset = float(found[1])
        except OSError:
            pass  # the last good offset stands
        return timedelta(seconds=self._offset)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def from_settings(settings: Settings) -> Clock:
    """The clock that [clock] source names; raises Unusable for a file clock outside the demo."""
    source = settings.clock.source
    if source == "system":
        return SystemClock()
    if settings.gateway.environment != "demo":
        raise Unusable('[clock] source: a clock file is for environment = "demo" alone; set source = "system"')
    return FileClock(Path(source.removeprefix("file:")))
