"""Taking the ports that listeners need, and saying in words why one cannot be had.

Not here: what listens on them (intake/listener.py, the web server).
"""

from __future__ import annotations

import errno
import socket


def bound(family: int, host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to an address, not listening yet. shared: other processes of ours may have the same one (socket(7),
    SO_REUSEPORT), and the kernel spreads connections over those that listen. Raises OSError."""
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        found.bind((host, port))
    except OSError:
        found.close()
        raise
    return found


def mend(error: OSError) -> str:
    """Why a port cannot be had, and what to do, to follow its name."""
    if error.errno == errno.EADDRINUSE:
        return "is taken by another program; stop that one or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "may not be used by this user; ports below 1024 need CAP_NET_BIND_SERVICE, or choose a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is no address of this machine; choose one of its own, or 0.0.0.0 for all"
    return f"cannot be listened on ({error.strerror or error}); choose another"
