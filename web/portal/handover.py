"""Handing a letter's bytes to the recipient who is identified, and knowing whether they went.

The last octet is sent only once the peer has taken all the others; what was promised for it is done after that. A visitor who
goes away before is handed nothing, and that is told, too. Not here: who may have the letter (the counter), what is sent
(letter.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.core.errors import PliError

_log = structlog.get_logger("web")
_CHUNK = 64 * 1024
_PAUSES = (0.5, 3.0)
TAKEN = "pli.taken"
"""The ASGI extension of serve.py: {"wait": ...} awaits that the peer acknowledged everything sent so far."""


class HandOver(Response):
    """An answer that awaits *done* after its last octet, or *failed* where it ended before that.

    failed: is told how many octets of the body were given to the connection (the peer may have taken fewer), and of how many.
    """

    def __init__(
        self,
        body: bytes,
        media_type: str,
        headers: Mapping[str, str],
        done: Callable[[], Awaitable[None]],
        failed: Callable[[int, int], Awaitable[None]],
    ) -> None:
        super().__init__(body, media_type=media_type, headers=dict(headers))
        self._done, self._failed = done, failed
        self._given = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD" or not self.body:
            return await super().__call__(scope, receive, send)
        try:
            whole = await self._sent(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops, and waited long enough; it alone cancels, and it closes the connection when we return.
            whole = False
        if whole:
            await _keep(self._done, "hand-over not recorded")
        else:
            await self._broke_off()
        return None

    async def _sent(self, scope: Scope, receive: Receive, send: Send) -> bool:
        gone = asyncio.create_task(_gone(receive))
        body, last = memoryview(self.body)[:-1], bytes(self.body[-1:])
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for begin in range(0, len(body), _CHUNK):
                chunk = bytes(body[begin : begin + _CHUNK])
                await send(_piece(chunk, more=True))
                if gone.done():
                    return False
                self._given += len(chunk)
            if not await _taken(scope) or gone.done():
                return False
            await send(_piece(last, more=False))
            return True
        except OSError:
            return False
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await gone

    async def _broke_off(self) -> None:
        _log.info("hand-over broke off", sent=self._given, total=len(self.body))
        await _keep(partial(self._failed, self._given, len(self.body)), "broken hand-over not recorded")


async def _keep(promise: Callable[[], Awaitable[None]], otherwise: str) -> None:
    """Do what was promised, again where it fails for a moment; *otherwise* is what the log says then."""
    for pause in (*_PAUSES, None):
        try:
            return await promise()
        except PliError as error:
            _log.error(otherwise, error=type(error).__name__, detail=error.detail, again=pause)
            if pause is None or not error.temporary:
                return None
            await asyncio.sleep(pause)
    return None


def _piece(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _taken(scope: Scope) -> bool:
    extension = scope.get("extensions", {}).get(TAKEN)
    if extension is None:
        await asyncio.sleep(0)
        return True
    return bool(await extension["wait"]())
