"""From runs to a table: medians, spread, and ratios that are taken within one run, where both sides had the same machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Run = dict[str, float]


@dataclass
class Row:
    """One row: what was measured, run by run, of us and of the peer (empty where there is none)."""

    name: str
    ours: list[Run] = field(default_factory=list)
    peer: list[Run] = field(default_factory=list)

    def median(self, key: str, *, peer: bool = False) -> float:
        return _median([run[key] for run in (self.peer if peer else self.ours) if key in run])

    def ratios(self, key: str) -> list[float]:
        """Ours by the peer's, run by run."""
        return [a[key] / b[key] for a, b in zip(self.ours, self.peer, strict=False) if b.get(key)]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f}..{max(values):.2f}" if values else ""


HEAD = (
    "row", "pli/s", "peer/s", "ratio", "(min..max)", "CPU ms", "peer", "ratio", "p99 ms", "peer", "MiB", "peer",
    "load ms", "peer", "failed",
)  # fmt: skip


def line(row: Row) -> tuple[str, ...]:
    """The cells of *row*, in the order of HEAD."""
    rate, cpu = row.ratios("rate"), row.ratios("cpu_ms")

    def number(key: str, digits: int, *, peer: bool = False) -> str:
        value = row.median(key, peer=peer)
        return "-" if math.isnan(value) else f"{value:.{digits}f}"

    return (
        row.name,
        number("rate", 0), number("rate", 0, peer=True), f"{_median(rate):.2f}" if rate else "-", _spread(rate),
        number("cpu_ms", 2), number("cpu_ms", 2, peer=True), f"{_median(cpu):.2f}" if cpu else "-",
        number("p99_ms", 0), number("p99_ms", 0, peer=True),
        number("pss_mib", 0), number("pss_mib", 0, peer=True),
        number("load_ms", 2), number("load_ms", 2, peer=True),
        f"{sum(run.get('failed', 0) for run in row.ours + row.peer):.0f}",
    )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    cells = [HEAD, ("---",) * len(HEAD), *(line(row) for row in rows)]
    return "\n".join(f"| {' | '.join(found)} |" for found in cells)
