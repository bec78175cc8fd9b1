"""Pages: templates filled in the visitor's language, and what every template may use.

Not here: what a page says about a letter (portal/), headers and errors (guard.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway.markup import linked
from web.words import LANGUAGES, Words, choose, words

if TYPE_CHECKING:
    from gateway.dispatch.compose import House

_HERE = Path(__file__).parent
STATIC = {
    "pli.css": ("text/css; charset=utf-8", (_HERE / "static" / "pli.css")),
    "pli.svg": ("image/svg+xml", (_HERE / "static" / "pli.svg")),
}


@dataclass(frozen=True)
class Pages:
    """Makes pages for one house. demo: the mailbox page is there to be linked."""

    house: House
    demo: bool

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        language: str | None = None,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """A whole page. language: of the letter that it is about."""
        text = self.render(request, template, language=language, **values)
        said = self.words(request, language)
        return HTMLResponse(text, status, {"Content-Language": said.language, **(headers or {})})

    def render(self, request: Request, template: str, *, language: str | None = None, **values: Any) -> str:
        said = self.words(request, language)
        asked = request.query_params.get("lang")
        return (
            _environment()
            .get_template(template)
            .render(
                t=said,
                house=self.house,
                host=urlsplit(self.house.public_url).netloc,
                demo=self.demo,
                languages=[(tag, words(tag)("language.name")) for tag in LANGUAGES],
                # A switch is a link, so it is offered where a link leads back to the same page.
                switch=request.method in ("GET", "HEAD"),
                here=request.url.path,
                lang=f"?lang={asked}" if asked in LANGUAGES else "",
                profile=_in(self.house.profile_title, said.language),
                law=_in(self.house.law, said.language),
                css=f"/static/pli.css?v={_version()}",
                **{"problem": None, **values},
            )
        )

    def words(self, request: Request, language: str | None = None) -> Words:
        return words(choose(request.query_params.get("lang"), language, request.headers.get("accept-language", "")))

    def static(self, name: str) -> Response:
        """One of our own files, under an address that changes with its bytes."""
        kind, path = STATIC[name]
        return Response(path.read_bytes(), media_type=kind, headers={"Cache-Control": "public, max-age=86400"})


def grouped(reference: str) -> str:
    """A reference as notices print it: ABCDE-FGHJK."""
    plain = reference.replace("-", "")
    return "-".join(plain[i : i + 5] for i in range(0, len(plain), 5))


def autolink(text: str) -> Markup:
    """Plain text whose web addresses can be followed."""
    out = Markup()
    for shown, address in linked(text):
        if address is None:
            out += escape(shown)
        else:
            out += Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(address, shown)
    return out


def _in(texts: Mapping[str, str], language: str) -> str:
    return texts.get(language) or next(iter(texts.values()), "")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(grouped=grouped, autolink=autolink)
    return made


@cache
def _version() -> str:
    return hashlib.sha256(STATIC["pli.css"][1].read_bytes()).hexdigest()[:12]
