"""The web application: every route, in one place, behind one guard.

Not here: what the routes do (portal/, front.py, mailbox.py), the server that carries it (serve.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.clock import Clock
from gateway.core.errors import NotFound
from gateway.counter import Counter
from web.front import Front
from web.guard import Guard, handlers
from web.mailbox import MailboxPages, Store
from web.pages import STATIC, Pages
from web.portal.routes import Portal

if TYPE_CHECKING:
    from gateway.dispatch.compose import House

_MOST_BODY = 16 * 1024
"""Octets: our forms have a few short fields, and nothing is uploaded here."""


def make_app(
    counter: Counter,
    house: House,
    clock: Clock,
    *,
    https: bool,
    mailbox: Store | None = None,
    health: Callable[[], Awaitable[bool]],
) -> Starlette:
    """The application. https: visitors reach us by https, be it through a proxy. mailbox: the demo's, or None."""
    pages = Pages(house, demo=mailbox is not None)
    routes = [
        *_small(pages, health),
        *Front(counter, pages).routes(),
        *Portal(counter, pages, clock, https).routes(),
        *(MailboxPages(mailbox, pages).routes() if mailbox is not None else []),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, pages=pages, https=https),
            Middleware(RequestBodyLimitMiddleware, max_body_size=_MOST_BODY),
        ],
        exception_handlers=handlers(pages),
    )
    app.router.redirect_slashes = False  # a redirect would name whatever host the request claims
    return app


def _small(pages: Pages, health: Callable[[], Awaitable[bool]]) -> list[Route]:
    """What no visitor asks for by himself."""

    async def healthz(_: Request) -> Response:
        well = await health()
        return JSONResponse({"ok": well}, 200 if well else 503)

    async def robots(_: Request) -> Response:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    async def static(request: Request) -> Response:
        if request.path_params["name"] not in STATIC:
            raise NotFound
        return pages.static(request.path_params["name"])

    return [Route("/healthz", healthz), Route("/robots.txt", robots), Route("/static/{name}", static)]
