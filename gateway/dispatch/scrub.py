"""Foreign text that is kept or shown: bounded, free of control characters, and free of the secrets of our own notices.

Servers quote what they refuse, in every encoding. No view of a sender or operator may ever hold a recipient's link or code
(DESIGN.md 6). Where the mail is known that is spoken of, its secrets are looked for too, whatever stands between their letters.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

REMOVED = "[removed]"
_TYPED = "2-9A-HJKMNP-TV-Z"  # the letters of access codes (gateway/links.py)
_UPPER, _LOWER = f"[{_TYPED}]{{4}}", f"[{_TYPED.lower()}]{{4}}"
_BEFORE, _BEHIND = "(?<![0-9A-Za-z])", "(?![0-9A-Za-z])"
_SECRETS = re.compile(
    r"(?P<path>(?:/|%2[fF]|=2[fF])[lL](?:/|%2[fF]|=2[fF]))[^\s<>\"')\]]*"  # a link, also where a scanner rewrote or cut it
    r"(?:(?<==)\s[A-Za-z2-7]+)?"  # or quoted-printable broke it
    r"|[A-Za-z2-7]{26,}"  # a link token alone, whatever is stuck to it or cut off from it
    r"|[A-Za-z2-7]{6,}=\s[A-Za-z2-7]{6,}"
    rf"|{_BEFORE}{_UPPER}[- ]?{_UPPER}[- ]?{_UPPER}{_BEHIND}"  # an access code
    rf"|{_BEFORE}{_LOWER}-{_LOWER}-{_LOWER}{_BEHIND}"
    # in small letters and without hyphens only with a digit: "they were sent" is none
    rf"|{_BEFORE}(?=[a-z ]*[2-9]){_LOWER} ?{_LOWER} ?{_LOWER}{_BEHIND}"
    r"|(?P<code>\b[Cc][Oo][Dd][Ee]\b[^0-9A-Za-z]{0,5})[0-9]{6}\b"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]+")
_CODED = re.compile(r"[A-Za-z0-9+/_-]{20,}")
_IN_MAIL = re.compile(
    rb"/l/([a-z2-7]{32})\b|\b([2-9A-HJKMNP-TV-Z]{4}(?:-[2-9A-HJKMNP-TV-Z]{4}){2})\b|^Code: ([0-9]{6})\b", re.M
)
_PIECE = 8
"""Letters of a secret in a row that give it away; of shorter secrets all of them, or all but four of an access code."""


def scrub(text: str, limit: int = 500, secrets: Sequence[str] = ()) -> str:
    """*text* on one line, without secrets, at most *limit* characters. secrets: those that it may hold above all."""
    line = " ".join(_CONTROLS.sub(" ", text[: 20 * limit]).split())
    line = _CODED.sub(lambda found: REMOVED if _hides(found[0], secrets) else found[0], line)
    clean = _known(_SECRETS.sub(_without, line), secrets)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def secrets_in(message: bytes) -> tuple[str, ...]:
    """The link, access code and one-time code that a mail of ours holds."""
    joined = message.replace(b"=\r\n", b"")  # quoted-printable breaks lines
    return tuple(sorted({next(filter(None, found)).decode("ascii") for found in _IN_MAIL.findall(joined)}))


def _without(found: re.Match[str]) -> str:
    return f"{found['path'] or found['code'] or ''}{REMOVED}"


def _known(line: str, secrets: Sequence[str]) -> str:
    """*line* without any piece of *secrets*, whatever their case and whatever is no letter or digit between them."""
    if not secrets:
        return line
    places = [place for place, sign in enumerate(line) if sign.isascii() and sign.isalnum()]
    letters = "".join(line[place] for place in places).lower()
    for first, last in reversed(list(_spans(letters, secrets))):
        line = line[: places[first]] + REMOVED + line[places[last] + 1 :]
    return line


def _spans(letters: str, secrets: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where pieces of *secrets* stand in *letters*: (first, last), apart and in order."""
    pieces: dict[int, set[str]] = {}
    for secret in secrets:
        plain = "".join(sign for sign in secret.lower() if sign.isalnum())
        size = min(_PIECE, len(plain))
        pieces.setdefault(size, set()).update(plain[i : i + size] for i in range(len(plain) - size + 1))
    hits = sorted(
        (place, place + size - 1)
        for size, known in pieces.items()
        if size
        for place in range(len(letters) - size + 1)
        if letters[place : place + size] in known
    )
    first = last = -1
    for begin, end in hits:
        if last >= 0 and begin > last + 1:
            yield first, last
            first = -1
        first, last = begin if first < 0 else first, max(last, end)
    if last >= 0:
        yield first, last


def _hides(run: str, secrets: Sequence[str]) -> bool:
    """Whether base64, begun at any of its letters, holds a link or a code."""
    standard = run.replace("-", "+").replace("_", "/")
    for start in range(4):
        whole = standard[start : start + (len(standard) - start) // 4 * 4]
        shown = base64.b64decode(whole).decode("latin-1")
        if _SECRETS.search(shown) or _known(shown, secrets) != shown:
            return True
    return False
