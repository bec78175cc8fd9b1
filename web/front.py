"""The front door: typing the reference and access code of a notice, and the page about who we are.

Not here: what comes after the door (portal/).
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.core.errors import NotFound, TooManyAttempts
from gateway.counter import Counter
from web.forms import fields, visitor
from web.guard import from_here, problem_keys
from web.pages import Pages


@dataclass(frozen=True)
class Front:
    counter: Counter
    pages: Pages

    def routes(self) -> list[Route]:
        return [
            Route("/", self.door),
            Route("/", self.knock, methods=["POST"]),
            Route("/about", self.about),
        ]

    async def door(self, request: Request) -> Response:
        return self.pages.page(request, "front.html", reference="")

    async def knock(self, request: Request) -> Response:
        """Look for the letter of a typed reference and code."""
        from_here(request, self.pages.house.public_url)
        form = await fields(request)
        reference = form.get("reference", "")[:64]
        try:
            token = await self.counter.find(reference, form.get("code", "")[:64], visitor(request))
        except (NotFound, TooManyAttempts) as error:
            problem = self.pages.words(request).first(*problem_keys(error, "find"))
            status = error.http_status
            return self.pages.page(request, "front.html", status=status, problem=problem, reference=reference)
        lang = request.query_params.get("lang")
        asked = f"?lang={lang}" if lang in ("fr", "en") else ""
        return RedirectResponse(f"/l/{token}{asked}", 303)

    async def about(self, request: Request) -> Response:
        return self.pages.page(request, "about.html")
