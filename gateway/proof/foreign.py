"""Foreign text on a sealed page: bounded, on one line, and unable to reorder, hide or overprint what stands around it.

What cannot be shown stands as ⟨U+202E⟩: the number of the character. The exact text is in evidence.json.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LIMIT = 600
_MOST_MARKS = 2
"""Combining marks on one letter; more of them grow over the lines around."""
_PIECE = 8
_LINE = 335.0
"""Points that a value's line is wide, a little less."""
_WORD = re.compile(r"[^ -]+")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: object, limit: int = _LIMIT, shortened: str = "…") -> str:
    """*text* as it may be shown, at most *limit* characters of it; *shortened* may name the number {n} of all."""
    whole = str(text)
    shown, marks, length = list[str](), 0, 0
    for character in whole:
        length += len(shown[-1]) if shown else 0
        if length >= limit:
            shown.append(shortened.format(n=len(whole)))
            break
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category in _HIDDEN or marks > _MOST_MARKS:
            shown.append(number(character))
        else:
            shown.append(" " if category == "Zs" and character not in "\u00a0\u202f" else character)
    return "".join(shown)


def pieces(text: object, shortened: str = "…", *, mono: bool = False) -> list[str]:
    """*text*, cleaned, in pieces between which a line may break.

    Only words too wide for a line are cut, since a cut leaves an invisible character in text that is copied from the page.
    """
    made, start = list[str](), 0
    shown = clean(text, shortened=shortened)
    for found in _WORD.finditer(shown):
        if _width(found[0], mono=mono) > _LINE:
            for cut in range(found.start() + _PIECE, found.end(), _PIECE):
                if not unicodedata.combining(shown[cut]):
                    made.append(shown[start:cut])
                    start = cut
    return [*made, shown[start:]]


def without(text: str, hidden: Iterable[str]) -> str:
    """*text* with every character of *hidden* by its number: what the page's fonts do not have."""
    return text.translate({ord(character): number(character) for character in hidden})


def number(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def _width(word: str, *, mono: bool) -> float:
    """About how wide *word* is, in points, rather too much than too little (pages/proof.typ: 10.5 pt, or 7.8 pt mono)."""
    if mono:
        return 4.7 * len(word)
    return sum(5.8 if character.islower() and character not in "mw" else 10.0 for character in word)
