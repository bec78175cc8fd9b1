"""The accepted letter in its recipient's hands: its page, its bytes, its attachments, and his receipt.

The page, the .eml and the .zip are the hand-over (DESIGN.md 3); single parts are none, and come after it. Not here: who may have
it (the counter).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway import contents
from gateway.clock import Clock
from gateway.core.errors import NotAllowed, NotFound, NotIdentified, PliError, TooManyAttempts
from gateway.counter import Content, Counter, NotHandedOver
from web.forms import fields, visitor
from web.guard import DOWNLOAD_CSP, LETTER_CSP, from_here
from web.pages import Pages
from web.portal.handover import HandOver
from web.portal.sessions import Sessions
from web.words import LANGUAGES

_MOMENTS = (0.1, 0.3, 0.6)
"""Seconds. The hand-over is recorded after the page's last byte: who clicks an attachment at once is not sent back for that."""


@dataclass(frozen=True)
class LetterPages:
    counter: Counter
    pages: Pages
    clock: Clock
    sessions: Sessions
    unidentified: Callable[[Request, PliError], Awaitable[Response]]
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    """Letters being read for display at once: each may hold several times its size in memory."""

    def routes(self) -> list[Route]:
        pages = {
            "letter": self.letter,
            "letter.eml": self.eml,
            "letter.zip": self.archive,
            "parts/{n:int}": self.part,
            "receipt.pdf": self.receipt,
        }
        made = [Route(f"/l/{{token}}/{path}", self._identified(page)) for path, page in pages.items()]
        return [*made, Route("/l/{token}/original", self._identified(self.original), methods=["POST"])]

    async def letter(self, request: Request, secret: str) -> Response:
        content = await self._content(request, secret)
        async with self.reading:
            read = await asyncio.to_thread(contents.read, content.raw)
        page = self.pages.render(
            request,
            "portal/letter.html",
            language=content.showing.language,
            letter=content,
            showing=content.showing,
            read=read,
            frame=framed(read.html) if read.html is not None else None,
            base=self._base(request),
        )
        said = self.pages.words(request, content.showing.language)
        headers = {"Content-Security-Policy": LETTER_CSP, "Content-Language": said.language}
        return self._hand_over(
            request, secret, "page", page.encode("utf-8", "replace"), "text/html; charset=utf-8", headers
        )

    async def eml(self, request: Request, secret: str) -> Response:
        content = await self._content(request, secret)
        headers = attached(f"{content.showing.reference}.eml")
        return self._hand_over(request, secret, "eml", content.raw, "message/rfc822", headers)

    async def archive(self, request: Request, secret: str) -> Response:
        content = await self._content(request, secret)
        async with self.reading:
            made = await asyncio.to_thread(contents.archive, content.raw, content.deposited_at)
        headers = attached(f"{content.showing.reference}.zip")
        return self._hand_over(request, secret, "zip", made, "application/zip", headers)

    async def part(self, request: Request, secret: str) -> Response:
        content = await self._content(request, secret, whole=False)
        async with self.reading:
            found = await asyncio.to_thread(contents.attachment, content.raw, request.path_params["n"])
        if found is None:
            raise NotFound
        what, data = found
        return Response(data, media_type=what.type, headers=attached(what.name))

    async def receipt(self, request: Request, secret: str) -> Response:
        pdf = await self.counter.receipt(request.path_params["token"], secret)
        return Response(pdf, media_type="application/pdf", headers=attached("receipt.pdf"))

    async def original(self, request: Request, secret: str) -> Response:
        """Mail the letter to the recipient's own mailbox; doing it twice is doing it once."""
        from_here(request, self.pages.house.public_url)
        nonce = (await fields(request)).get("nonce", "")
        showing = await self.counter.mail_original(request.path_params["token"], secret, nonce, visitor(request))
        language, base = showing.language, self._base(request)
        return self.pages.page(request, "portal/mailed.html", language=language, showing=showing, base=base)

    # -- steps --------------------------------------------------------------------------------------------------------

    def _identified(
        self, page: Callable[[Request, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A page for an identified visitor; for any other, the letter's page with the way to identify himself."""

        async def answer(request: Request) -> Response:
            try:
                secret = self.sessions.secret(request)
                if secret is None:
                    raise NotIdentified
                return await _in_a_moment(page, request, secret)
            except NotHandedOver as error:
                if request.method == "POST":
                    return await self.unidentified(request, error)
                lang = request.query_params.get("lang")
                asked = f"?lang={lang}" if lang in LANGUAGES else ""
                return RedirectResponse(f"{self._base(request)}/letter{asked}", 303)
            except (NotIdentified, NotAllowed, TooManyAttempts) as error:
                return await self.unidentified(request, error)

        return answer

    async def _content(self, request: Request, secret: str, *, whole: bool = True) -> Content:
        return await self.counter.content(request.path_params["token"], secret, visitor(request), whole=whole)

    def _hand_over(
        self, request: Request, secret: str, form: str, body: bytes, media_type: str, headers: dict[str, str]
    ) -> Response:
        token, who, began = request.path_params["token"], visitor(request), self.clock.now()

        async def done() -> None:
            await self.counter.handed_over(token, secret, form, began, who)

        async def failed(sent: int, total: int) -> None:
            await self.counter.hand_over_failed(token, secret, form, sent, total, who)

        return HandOver(body, media_type, headers, done, failed)

    def _base(self, request: Request) -> str:
        return f"/l/{request.path_params['token']}"


async def _in_a_moment(page: Callable[[Request, str], Awaitable[Response]], request: Request, secret: str) -> Response:
    for pause in _MOMENTS:
        try:
            return await page(request, secret)
        except NotHandedOver:
            await asyncio.sleep(pause)
    return await page(request, secret)


def attached(name: str) -> dict[str, str]:
    """Headers of a download: saved and not shown, under this name (RFC 6266, RFC 8187)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return {"Content-Disposition": disposition, "Content-Security-Policy": DOWNLOAD_CSP}


_FRAME = Markup(
    '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"'
    " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
    '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
    "<style>body{{margin:12px;font:16px/1.5 sans-serif;color:#1b1b1b;background:#fff;overflow-wrap:anywhere}}"
    "img,table{{max-width:100%}}img{{height:auto}}</style>{fragment}"
)


def framed(fragment: str) -> str:
    """The document of the sandboxed frame that shows a letter's HTML; its own policy stands inside the page's (CSP 3)."""
    return str(_FRAME.format(fragment=Markup(fragment)))  # noqa: S704 - made harmless by gateway/markup.py
