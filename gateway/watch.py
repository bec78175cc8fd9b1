"""The clock watch (R47): whether the time that evidence states can be trusted, and what is done where it cannot.

Two looks: wall time against the monotonic clock (a jump), and against time servers where some are configured (an offset).
While the clock is not sound deposits are put off (451) and the journal says since when. A demo's clock file is not watched.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from gateway.office import Office
from storage.accounts import note

_log = structlog.get_logger("clock")
_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970, RFC 5905 6
_JUMP_LASTS = timedelta(minutes=10)


@dataclass
class ClockWatch:
    office: Office
    _base: tuple[float, float] | None = None  # wall and monotonic seconds at the last look
    _jumped_at: float | None = None
    _offset: float = 0.0
    _silent: bool = field(default=False)
    _noted: bool = True
    """What the journal says last."""

    @property
    def sound(self) -> bool:
        return abs(self._offset) <= self.office.settings.clock.max_offset and self._jumped_at is None

    async def look(self) -> None:
        """One look; called by a sweep."""
        if self.office.settings.clock.source != "system":
            return
        self._look_for_jump()
        if self.office.settings.clock.ntp:
            await self._ask_servers()
        if self._noted != self.sound:
            sound = self.sound
            topic = "clock sound" if sound else "clock not sound"
            details = {"offset_ms": round(self._offset * 1000), "jumped": self._jumped_at is not None}
            _log.error(topic, **details)
            await note(self.office.vault, self.office.clock.now(), topic, details)
            self._noted = sound  # only now: where the journal could not be written, the next look writes it

    def _look_for_jump(self) -> None:
        wall, steady = time.time(), time.monotonic()
        if self._base is not None:
            drift = (wall - self._base[0]) - (steady - self._base[1])
            if abs(drift) > self.office.settings.clock.max_offset:
                self._jumped_at = steady
                _log.error("the clock jumped", seconds=round(drift, 3))
            elif self._jumped_at is not None and steady - self._jumped_at > _JUMP_LASTS.total_seconds():
                self._jumped_at = None  # steady since: what stepped the clock has set it right
        self._base = (wall, steady)

    async def _ask_servers(self) -> None:
        """The median offset of the servers that answer; where none does, the last one stands."""
        found = []
        for server in self.office.settings.clock.ntp[:8]:
            try:
                found.append(await asyncio.to_thread(offset_from, server))
            except (OSError, ValueError) as error:
                _log.warning("no time from server", server=server, error=str(error))
        if found:
            self._offset = sorted(found)[len(found) // 2]


def offset_from(server: str, timeout: float = 3.0) -> float:
    """Seconds by which our clock is behind *server* ("host" or "host:port"), by one SNTP exchange (RFC 4330 5).

    Raises OSError where it does not answer, ValueError for an answer that is none. Blocking.
    """
    host, _, port = server.rpartition(":") if server.count(":") == 1 else (server, "", "123")
    nonce = secrets.token_bytes(8)
    family, kind, proto, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, proto) as peer:
        peer.settimeout(timeout)
        peer.connect(where)
        sent = time.time()
        peer.send(b"\x23" + bytes(39) + nonce)
        answer = peer.recv(512)
        got = time.time()
    # The originate field repeats our transmit field: an answer to another question counts for nothing.
    if len(answer) < 48 or answer[24:32] != nonce or answer[0] & 7 != 4 or not 1 <= answer[1] <= 15:
        raise ValueError("not an answer of a synchronised server")
    taken, given = (_seconds(answer[at : at + 8]) for at in (32, 40))
    return ((taken - sent) + (given - got)) / 2


def _seconds(stamp: bytes) -> float:
    whole, part = struct.unpack(">II", stamp)
    since = whole - _NTP_EPOCH + part / 2**32
    if not 0 < since < datetime(2036, 2, 7, tzinfo=UTC).timestamp():
        since += 2**32  # the era after 2036
    return float(since)
