"""The words of mails, by language: data files in texts/, read once, and the dates, times and numbers that go into them.

Not here: which words a mail has (compose.py, compose_status.py), the words of pages (web/).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core.errors import Unusable

FALLBACK = "en"
_FOLDER = Path(__file__).with_name("texts")


@dataclass(frozen=True)
class Texts:
    """The words of one language. Keys are written with dots: "notice.subject"."""

    language: str
    _words: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """What stands under *key*, as it is: a text, a list of texts or a section."""
        found: Any = self._words
        for step in key.split("."):
            found = found[step]
        return found

    def has(self, key: str) -> bool:
        try:
            self.get(key)
        except KeyError:
            return False
        return True

    def say(self, key: str, **values: str) -> str:
        """The text of *key* with *values* in its braces."""
        return str(self.get(key)).format_map(values)

    def all(self, key: str, **values: str) -> list[str]:
        """The texts of a list."""
        return [str(text).format_map(values) for text in self.get(key)]

    def long_date(self, day: date) -> str:
        """Thursday 10 December 2026."""
        return self.say("format.date", weekday=self.get("format.weekdays")[day.weekday()], **self._day(day))

    def moment(self, at: datetime, zone: str) -> str:
        """25 November 2026, 09:14:03 (Paris time)."""
        local = at.astimezone(ZoneInfo(zone))
        return self.say("format.moment", time=f"{local:%H:%M:%S}", zone=self.zone(zone), **self._day(local.date()))

    def zone(self, zone: str) -> str:
        """Paris time, for Europe/Paris."""
        if "/" not in zone:
            return zone
        return self.say("format.zone", city=zone.rpartition("/")[2].replace("_", " "))

    def size(self, octets: int) -> str:
        return self.say("format.size", number=f"{octets:,}".replace(",", str(self.get("format.thousands"))))

    def language_name(self, code: str) -> str:
        return str(self.get("languages").get(code, code))

    def _day(self, day: date) -> dict[str, str]:
        number = self.get("format.first_day") if day.day == 1 else str(day.day)
        return {"day": str(number), "month": self.get("format.months")[day.month - 1], "year": str(day.year)}


@cache
def texts(language: str) -> Texts:
    """The words of *language*, of FALLBACK where we have none. Raises Unusable where the files themselves are missing."""
    file = _FOLDER / f"{language}.toml"
    if not re.fullmatch(r"[a-z]{2,3}", language) or not file.is_file():
        if language == FALLBACK:
            raise Unusable(f"{file} is missing: the installation is incomplete; install it again")
        return texts(FALLBACK)
    words = tomllib.loads(file.read_text("utf-8"))
    return Texts(language, _french(words) if language == "fr" else words)


def _french(value: Any) -> Any:
    """No-break spaces where French typography has them, so that no line begins with a colon."""
    if isinstance(value, dict):
        return {key: _french(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_french(item) for item in value]
    return re.sub(r"« ", "«\u00a0", re.sub(r" ([:;!?»])", "\u00a0\\1", str(value)))
