"""Who holds the lease of a mail: one running process. And whether that process is surely dead, so that its leases can be freed.

Sure is only what this kernel says of its own processes; a worker of another machine or container is dead when its lease ran out.
Not here: taking and keeping leases (queue.py, storage/outbox.py).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

_PROC = Path("/proc")


def holder() -> str:
    """A name for this process: "HOST:PID:BORN"; no other process, before or after, has it."""
    return f"{_host() or secrets.token_hex(8)}:{os.getpid()}:{_born(os.getpid()) or secrets.token_hex(4)}"


def is_dead(name: str) -> bool:
    """Whether *name* was a process that this machine knows to be gone; False where that cannot be known."""
    host, _, rest = name.partition(":")
    pid, _, born = rest.partition(":")
    return bool(host) and host == _host() and pid.isdigit() and _born(int(pid)) != born


def _host() -> str:
    """This boot of this kernel and its process namespace, hashed: only there does a process id mean something. Or ""."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot}{(_PROC / 'self/ns/pid').readlink()}".encode()).hexdigest()[:16]
    except OSError:
        return ""


def _born(pid: int) -> str | None:
    """When a process began, in ticks since the boot (proc(5), stat, field 22); None for one that is not alive."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]  # a zombie sends nothing any more
