"""Identifiers of rows that grow with time, so that new rows stand side by side in every index instead of all over it.

In the manner of UUIDv7 (RFC 9562 5.7), without its version and variant bits. They are names, not secrets: whoever sees one can
guess its neighbours. What must not be guessed comes from gateway/links.py.
"""

from __future__ import annotations

import os
import threading
import time

_COUNTER = 24
"""Bits after the milliseconds that count within one of them (RFC 9562 6.2, method 1); 56 random ones follow."""
_FRESH = 1 << (_COUNTER - 1)
"""Where the count of a new millisecond begins at the latest, which leaves it room for eight million."""


class Ids:
    """A source of identifiers: within one source each is greater than all before it, whatever the clock does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        """32 lower-case hexadecimal digits: 48 bits of Unix milliseconds, 24 of a count, 56 at random."""
        random = int.from_bytes(os.urandom(10), "big")  # 56 bits, and 23 for where the count begins
        now = time.time_ns() // 1_000_000 << _COUNTER | (random >> 56) % _FRESH
        with self._lock:
            # A clock that stands still or steps back: count on, into the milliseconds ahead if it must be.
            self._last = max(now, self._last + 1)
            stamp = self._last
        return f"{stamp << 56 | random & (1 << 56) - 1:032x}"


new_id = Ids().new
