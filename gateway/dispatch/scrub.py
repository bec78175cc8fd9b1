"""Foreign text that is kept or shown: bounded, free of control characters, and free of the secrets of our own notices.

Servers quote what they refuse. No view of a sender or operator may ever hold a recipient's link or code (DESIGN.md 6).
"""

from __future__ import annotations

import re

REMOVED = "[removed]"
_TYPED = "[2-9A-HJKMNP-TV-Z]"  # the letters of access codes (gateway/links.py)
_SECRETS = re.compile(
    r"(?P<path>/l/)[^\s<>\"')\]]*"  # a link, also where a scanner rewrote or cut it
    r"|(?P<quoted>%2[fF]l%2[fF])[^\s<>\"')\]]*"
    r"|(?<![0-9A-Za-z])[A-Za-z2-7]{32,}(?![0-9A-Za-z])"  # a link token alone
    rf"|(?<![0-9A-Za-z]){_TYPED}{{4}}[- ]?{_TYPED}{{4}}[- ]?{_TYPED}{{4}}(?![0-9A-Za-z])"  # an access code
    r"|(?P<code>\bCode: ?)[0-9]{6}\b"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]+")


def scrub(text: str, limit: int = 500) -> str:
    """*text* on one line, without secrets, at most *limit* characters."""
    line = " ".join(_CONTROLS.sub(" ", text[: 20 * limit]).split())
    clean = _SECRETS.sub(_without, line)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _without(found: re.Match[str]) -> str:
    return f"{found['path'] or found['quoted'] or found['code'] or ''}{REMOVED}"
