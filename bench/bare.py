"""The portal page's peer: one page of text from a bare Starlette application, with nothing behind it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

_PAGE = "<!doctype html><title>A page</title>" + "<p>Some words of text on a page.</p>" * 100


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse(_PAGE)


app = Starlette(routes=[Route("/page", page)])
