"""What holds for every answer: security headers, and errors that speak the visitor's language and not of our insides.

Not here: limits of the connection itself (serve.py), what a page says (pages.py).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.errors import OurFault, PliError, Refused
from web.pages import Pages

_log = structlog.get_logger("web")
CSP = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
LETTER_CSP = CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""For pages with a letter in a sandboxed frame, which inherits this: letters have style attributes, and nothing else more."""
DOWNLOAD_CSP = "default-src 'none'; sandbox"
_HEADERS = {
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
_HSTS = "max-age=31536000"


class Foreign(Refused):
    """A form that another site's page sent."""

    http_status = 403
    sentence = "This form did not come from our own page."


class Guard:
    """Outermost of our middleware: puts the headers on, and answers what nobody else has answered."""

    def __init__(self, app: ASGIApp, pages: Pages, https: bool) -> None:
        self.app, self.pages = app, pages
        self.headers = {**_HEADERS, **({"Strict-Transport-Security": _HSTS} if https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except ClientDisconnect:
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the visitor is told nothing of it
            _log.exception("request failed", path=masked(scope["path"]), error=type(error).__name__)
            if begun:
                return None  # half an answer: the server closes the connection, and the visitor sees that it broke off
            await error_page(self.pages, Request(scope), OurFault())(scope, receive, guarded)
        return None


def masked(path: str) -> str:
    """A path for logs: without its token."""
    return re.sub(r"^/l/[^/]+", "/l/...", path)


def error_page(pages: Pages, request: Request, error: PliError) -> Response:
    """The page for an error that no page of its own explains."""
    if error.http_status >= 500:
        _log.error("request refused", path=masked(request.url.path), error=type(error).__name__, detail=error.detail)
    return plain_error(pages, request, error.http_status, problem_keys(error))


def problem_keys(error: PliError, context: str = "") -> list[str]:
    """Where the locales may explain an error: in this context first, and by its nearest class."""
    names = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, PliError)]
    return [f"problem.{context}.{name}" for name in names if context] + [f"problem.{name}" for name in names]


def plain_error(pages: Pages, request: Request, status: int, keys: list[str]) -> Response:
    said = pages.words(request)
    headers = {"Retry-After": "600"} if status in (429, 503, 507) else {}
    sentence = said.first(*keys, "problem.PliError")
    title = said.first(f"title.{status}", "title.error")
    return pages.page(request, "error.html", status=status, headers=headers, title=title, sentence=sentence)


def handlers(pages: Pages) -> dict[Any, Callable[[Request, Any], Awaitable[Response]]]:
    """Starlette's exception handlers."""

    async def ours(request: Request, error: PliError) -> Response:
        return error_page(pages, request, error)

    async def http(request: Request, error: HTTPException) -> Response:
        answer = plain_error(pages, request, error.status_code, [f"problem.http{error.status_code}", "problem.Refused"])
        answer.headers.update(error.headers or {})
        return answer

    return {PliError: ours, HTTPException: http}


def from_here(request: Request, public_url: str) -> None:
    """Refuse a form that another site made (RFC 6454 7, Fetch Metadata). Raises Foreign.

    Our pages send no referrer, so browsers say "Origin: null" for our own forms; Sec-Fetch-Site tells the two apart. Where
    a client says neither, the form's nonce has to do.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Foreign
        return
    origin = request.headers.get("origin", "null")
    if origin == "null":
        return
    ours = urlsplit(public_url)
    if origin.lower() not in (
        f"{ours.scheme}://{ours.netloc}".lower(),
        f"{request.url.scheme}://{request.url.netloc}".lower(),
    ):
        raise Foreign
