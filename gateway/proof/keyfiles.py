"""Files of keys_dir: written whole, durable and private, or not at all; read only where nobody else can."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gateway.core.errors import Unusable

_MOST = 100_000
"""Bytes; no key or certificate is longer."""


def write_new(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write *files* (name to bytes, mode 0600) into *directory* (made with mode 0700), overwriting nothing.

    Each appears whole; all are durable when this returns, and after an error none of them is there. Raises Unusable.
    """
    made: list[Path] = []
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, mode=0o700)
            _sync(directory.parent)
        check_private(directory, 0o700)
        for name, data in files.items():
            half = directory / f".{name}.new"
            _write(half, data)
            try:
                os.link(half, directory / name)  # unlike rename, never replaces
                made.append(directory / name)
            finally:
                half.unlink()
        _sync(directory)
    except OSError as error:
        for path in made:
            with suppress(OSError):
                path.unlink()
        raise Unusable(
            f"[gateway] keys_dir: {directory} cannot be written ({error.strerror}: {error.filename})"
        ) from error


def read(path: Path, mend: str, *, private: bool = True) -> bytes:
    """The bytes of a key file. private: nobody but its owner may read it. Raises Unusable naming the file and *mend*."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise Unusable(f"{path}: is missing; {mend}") from error
    except OSError as error:
        raise Unusable(f"{path}: cannot be read ({error.strerror})") from error
    if private:
        check_private(path, 0o600)
    if len(data) > _MOST:
        raise Unusable(f"{path}: is too large for a key; {mend}")
    return data


def check_private(path: Path, mode: int) -> None:
    """Raises Unusable where group or others have any right on *path*."""
    found = stat.S_IMODE(path.stat().st_mode)
    if found & 0o077:
        raise Unusable(f"{path}: others may reach it (mode {found:04o}); mend it with: chmod {mode:o} {path}")


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # half a file of an attempt that was broken off
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor made with its mode
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
