"""A load of page requests over kept connections, in this process: its own CPU is told apart.

Not here: which pages (race.py).
"""

from __future__ import annotations

import asyncio
import time

from bench.table import Run


async def fetch(port: int, path: str, connections: int, requests: int) -> Run:
    """Ask for *path* until *requests* answers came; every answer must be a 200."""
    times: list[float] = []
    begun, cpu, left = time.monotonic(), time.process_time(), [requests]
    await asyncio.gather(*(_visitor(port, path, left, times) for _ in range(connections)))
    took = time.monotonic() - begun
    times.sort()
    return {
        "rate": len(times) / took,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "load_ms": (time.process_time() - cpu) / len(times) * 1000,
        "failed": requests - len(times),
    }


async def _visitor(port: int, path: str, left: list[int], times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Language: en\r\n\r\n".encode()
    try:
        while left[0] > 0:
            left[0] -= 1
            begun = time.monotonic()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            await reader.readexactly(length)
            if head.split()[1] != "200":
                raise RuntimeError(f"{path}: {head.splitlines()[0]}")
            times.append(time.monotonic() - begun)
    finally:
        writer.close()
