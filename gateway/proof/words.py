"""The words of proofs, by language (pages/*.toml), and how dates, times and numbers are written in it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parent / "pages"
LANGUAGES = ("en", "fr")


@dataclass(frozen=True)
class Words:
    language: str
    table: dict[str, Any]

    def __getitem__(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.table[section]
        return found

    def day(self, day: date) -> str:
        number = "1er" if self.language == "fr" and day.day == 1 else str(day.day)
        general = self["general"]
        return str(general["date"].format(day=number, month=general["months"][day.month - 1], year=day.year))

    def moment(self, at: datetime, zone: tzinfo | None) -> str:
        """Date and time to the second, in *zone* (None: UTC)."""
        local = at.astimezone(zone or UTC)
        return str(self["general"]["date_time"].format(date=self.day(local.date()), time=f"{local:%H:%M:%S}"))

    def both(self, at: datetime, zone: tzinfo | None) -> str:
        """Local and universal time of one instant."""
        if zone is None:
            return f"{self.moment(at, None)} UTC"
        return f"{self.moment(at, zone)}, {zone} ({at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ})"

    def zone(self, at: datetime, zone: tzinfo | None) -> str:
        """The zone of that time, and the same instant as records write it."""
        offset = f"{at.astimezone(zone or UTC):%z}"
        written = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        if zone is None:
            return str(self["general"]["utc_only"])
        return f"{self['general']['zone'].format(zone=zone, offset=f'{offset[:3]}:{offset[3:]}')} · {written}"

    def number(self, value: int) -> str:
        separator = "\u202f" if self.language == "fr" else ","
        return f"{value:,}".replace(",", separator)


@cache
def words(language: str) -> Words:
    """The words of *language*; English where there are none."""
    known = language if language in LANGUAGES else "en"
    return Words(known, tomllib.loads((PAGES / f"{known}.toml").read_text("utf-8")))
