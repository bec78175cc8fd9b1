"""The cookie of an identified recipient: one per letter, ended with the browser; the session itself is a row of the counter's.

Lax, not Strict: who follows the link in his mail again, from a webmail page, is still known; a form of another site is not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

_SECRET = re.compile(r"[A-Za-z0-9_.~-]{16,200}")


@dataclass(frozen=True)
class Sessions:
    https: bool

    def keep(self, answer: Response, token: str, secret: str) -> None:
        """Hand the visitor his session. __Host-: no other host of the domain can set or overwrite it (RFC 6265bis 4.1.3.2)."""
        answer.set_cookie(self.name(token), secret, path="/", secure=self.https, httponly=True, samesite="lax")

    def secret(self, request: Request) -> str | None:
        """The secret that came with a request for this letter, or None."""
        found = request.cookies.get(self.name(request.path_params["token"]), "")
        return found if _SECRET.fullmatch(found) else None

    def name(self, token: str) -> str:
        """The name of a letter's cookie."""
        mark = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:12]
        return f"{'__Host-' if self.https else ''}pli-{mark}"
