"""Words, days and hours in the visitor's language; the texts themselves are data, in locales/.

Not here: pages (pages.py), the words of mails (gateway/dispatch/texts).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

_FOLDER = Path(__file__).parent / "locales"
LANGUAGES = ("fr", "en")
DEFAULT = "fr"


@dataclass(frozen=True)
class Words:
    """All texts of one language."""

    language: str
    texts: dict[str, Any]

    def __call__(self, key: str, **values: object) -> Markup:
        """The text *key*, its {placeholders} filled with escaped values. A KeyError is a mistake in a template."""
        return Markup(self._find(key)).format(**values)  # noqa: S704 - our own texts; the values are escaped

    def first(self, *keys: str) -> Markup:
        """The first of *keys* that exists; the last one must."""
        for key in keys[:-1]:
            try:
                return self(key)
            except KeyError:
                continue
        return self(keys[-1])

    def day(self, day: date) -> str:
        """Wednesday 25 November 2026; mercredi 1er juillet 2026."""
        calendar = self.texts["calendar"]
        number = calendar["first"] if day.day == 1 else str(day.day)
        return f"{calendar['weekdays'][day.weekday()]} {number} {calendar['months'][day.month - 1]} {day.year}"

    def time(self, at: datetime, zone: str) -> str:
        """A time of day with the zone it is read in."""
        local = at.astimezone(ZoneInfo(zone))
        return str(self("calendar.time", hour=f"{local:%H:%M}", zone=self.zone(zone)))

    def moment(self, at: datetime, zone: str) -> str:
        """Day and time in the letter's zone."""
        return str(
            self("calendar.moment", day=self.day(at.astimezone(ZoneInfo(zone)).date()), time=self.time(at, zone))
        )

    def zone(self, zone: str) -> str:
        """Paris time, for Europe/Paris."""
        city = zone.rpartition("/")[2].replace("_", " ")
        return city if city in ("UTC", "GMT") else str(self("calendar.zone", city=city))

    def size(self, octets: int) -> str:
        """12 kB, in the units that file managers show."""
        number, unit = float(octets), 0
        while number >= 999.5 and unit < 3:
            number, unit = number / 1000, unit + 1
        text = (
            f"{number:.1f}".replace(".", self.texts["calendar"]["point"]) if unit and number < 10 else f"{number:.0f}"
        )
        return f"{text}\N{NO-BREAK SPACE}{self.texts['calendar']['sizes'][unit]}"

    def _find(self, key: str) -> str:
        found: Any = self.texts
        for name in key.split("."):
            found = found[name] if isinstance(found, dict) else None
        if not isinstance(found, str):
            raise KeyError(key)
        return found


@cache
def words(language: str) -> Words:
    """The texts of one of LANGUAGES."""
    return Words(language, tomllib.loads((_FOLDER / f"{language}.toml").read_text("utf-8")))


def choose(asked: str | None, letter: str | None, accepted: str) -> str:
    """The language of a page: asked for in the address, else the letter's, else by Accept-Language (RFC 9110 12.5.4)."""
    return next((tag for tag in (asked, letter, *_accepted(accepted)) if tag in LANGUAGES), DEFAULT)


def _accepted(header: str) -> Iterable[str]:
    wanted: list[tuple[float, str]] = []
    for item in header[:200].split(","):
        found = re.fullmatch(r"\s*([a-zA-Z]{2})[a-zA-Z-]*\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?\s*", item)
        if found and (quality := float(found[2] or 1)) > 0:
            wanted.append((-quality, found[1].lower()))
    return [tag for _, tag in sorted(wanted, key=lambda pair: pair[0])]
