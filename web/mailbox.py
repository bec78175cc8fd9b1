"""The demo's mailbox page: every mail that the gateway sent, instead of the internet. Never there outside the demo.

Not here: taking the mails in (gateway/demo/mailbox.py).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from email.policy import default
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway import contents
from gateway.core.errors import NotFound
from web.guard import LETTER_CSP
from web.pages import Pages
from web.portal.letter import attached, framed

_MOST_SHOWN = 500
_HEADERS = ("From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "Auto-Submitted")


class Received(Protocol):
    """A mail of the store."""

    @property
    def id(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def from_(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def event(self) -> str | None: ...


class Store(Protocol):
    """What the page needs of gateway/demo/mailbox.py."""

    def messages(self, to: str | None = None, since: datetime | None = None) -> Sequence[Received]: ...
    def raw(self, id: str) -> bytes | None: ...


@dataclass(frozen=True)
class MailboxPages:
    store: Store
    pages: Pages

    def routes(self) -> list[Route]:
        return [
            Route("/mailbox", self.door),
            Route("/mailbox/", self.all),
            Route("/mailbox/view/{id}", self.view),
            Route("/mailbox/view/{id}/parts/{n:int}", self.part),
            Route("/mailbox/api/messages", self.messages),
            Route("/mailbox/api/messages/{id}.eml", self.eml),
        ]

    async def door(self, _: Request) -> Response:
        return RedirectResponse("/mailbox/", 307)

    async def all(self, request: Request) -> Response:
        to = request.query_params.get("to", "").strip()[:320]
        mails = sorted(self.store.messages(to=to or None), key=lambda mail: (mail.at, mail.id), reverse=True)
        people = sorted({mail.to for mail in self.store.messages()})
        return self.pages.page(
            request, "mailbox/list.html", mails=mails[:_MOST_SHOWN], more=len(mails) > _MOST_SHOWN, to=to, people=people
        )

    async def view(self, request: Request) -> Response:
        mail_id, raw = await self._raw(request)
        read = await asyncio.to_thread(contents.read, raw)
        frame = framed(read.html) if read.html is not None else None
        headers = {"Content-Security-Policy": LETTER_CSP}
        fields = _fields(raw)
        return self.pages.page(
            request,
            "mailbox/view.html",
            headers=headers,
            id=mail_id,
            subject=dict(fields).get("Subject", ""),
            fields=fields,
            read=read,
            frame=frame,
            size=len(raw),
        )

    async def part(self, request: Request) -> Response:
        _, raw = await self._raw(request)
        found = await asyncio.to_thread(contents.attachment, raw, request.path_params["n"])
        if found is None:
            raise NotFound
        return Response(found[1], media_type=found[0].type, headers=attached(found[0].name))

    async def messages(self, request: Request) -> Response:
        query = request.query_params
        since: datetime | None = None
        if text := query.get("since", ""):
            try:
                since = datetime.fromisoformat(re.sub(r" (?=\d\d:\d\d$)", "+", text))  # "+" is a blank in a query
            except ValueError:
                return JSONResponse({"error": "since: an ISO 8601 instant, such as 2026-01-31T12:00:00Z"}, 400)
            since = since.replace(tzinfo=UTC) if since.tzinfo is None else since
        found = self.store.messages(to=query.get("to") or None, since=since)
        return JSONResponse([_listed(mail) for mail in found])

    async def eml(self, request: Request) -> Response:
        mail_id, raw = await self._raw(request)
        return Response(raw, media_type="message/rfc822", headers=attached(f"{mail_id}.eml"))

    async def _raw(self, request: Request) -> tuple[str, bytes]:
        mail_id = request.path_params["id"]
        raw = await asyncio.to_thread(self.store.raw, mail_id)
        if raw is None:
            raise NotFound
        return mail_id, raw


def _listed(mail: Received) -> dict[str, str | None]:
    return {
        "id": mail.id,
        "to": mail.to,
        "from": mail.from_,
        "subject": mail.subject,
        "at": mail.at.isoformat(),
        "event": mail.event,
    }


def _fields(raw: bytes) -> list[tuple[str, str]]:
    """The header fields a person looks at, and ours. All mails here were made by us."""
    head = BytesHeaderParser(policy=default).parsebytes(raw[:65536])
    ours = [name for name in head if name.lower().startswith("pli-")]
    return [(name, str(head[name])) for name in (*_HEADERS, *ours) if head[name] is not None]
