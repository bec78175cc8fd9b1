"""The ready line, and being told to stop: what `pli run` says to whoever started it, and hears from him.

Light on purpose, since the supervisor of workers (workers.py) needs it and nothing of what a gateway loads.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.core.errors import Unusable
from gateway.settings import Settings


def _path(settings: Settings) -> Path:
    return settings.gateway.data_dir / "ready.json"


def announce(settings: Settings, ready: Mapping[str, Any]) -> None:
    """Print the ready line and write data_dir/ready.json."""
    write(settings, ready)
    # With its end in one write, also where Python does not buffer: the workers log to the same pipe as a rule.
    print(json.dumps(ready) + "\n", end="", flush=True)


def write(settings: Settings, ready: Mapping[str, Any]) -> None:
    """Write data_dir/ready.json, complete or not at all."""
    path = _path(settings)
    half = path.with_suffix(".new")
    try:
        half.write_text(json.dumps(ready, indent=2) + "\n", "utf-8")
        half.replace(path)
    except OSError as error:
        raise Unusable(f"[gateway] data_dir: {path} cannot be written ({error.strerror})") from error


def forget(settings: Settings) -> None:
    """The ready file goes when we do."""
    with suppress(OSError):
        _path(settings).unlink()


def told() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, from now on. Call in the loop."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


async def until_told(settings: Settings) -> None:
    """Wait for SIGTERM or SIGINT, and take the ready file away."""
    try:
        await told().wait()
    finally:
        forget(settings)
