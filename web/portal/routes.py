"""One letter's pages before and around its decision: look, choose, type the code.

Looking changes nothing; a choice mails a code; only the code decides (R33). Not here: the letter itself (letter.py), the rules
(the counter's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.clock import Clock
from gateway.core.errors import NotAllowed, NotIdentified, PliError, TooManyAttempts, WindowClosed, WrongCode
from gateway.core.letter import State
from gateway.counter import CHOICES, Counter, Decided, Showing
from web.forms import fields, visitor
from web.guard import from_here, problem_keys
from web.pages import Pages
from web.portal.letter import LetterPages
from web.portal.sessions import Sessions


@dataclass(frozen=True)
class Portal:
    counter: Counter
    pages: Pages
    clock: Clock
    https: bool

    def routes(self) -> list[Route]:
        letter = LetterPages(self.counter, self.pages, self.clock, Sessions(self.https), self.unidentified)
        return [
            Route("/l/{token}", self.look),
            Route("/l/{token}/", self.look),
            Route("/l/{token}/choice", self.choose, methods=["POST"]),
            Route("/l/{token}/choice", self.back),
            Route("/l/{token}/decision", self.decide, methods=["POST"]),
            Route("/l/{token}/decision", self.back),
            Route("/l/{token}/original", self.back),
            *letter.routes(),
        ]

    async def look(self, request: Request) -> Response:
        return self._state(request, await self.counter.show(request.path_params["token"], visitor(request)))

    async def back(self, request: Request) -> Response:
        """A form's address that was opened as a page: after a reload, or from the history."""
        return RedirectResponse(self._home(request), 303)

    async def unidentified(self, request: Request, error: PliError) -> Response:
        """The letter's page in place of something that needs a session."""
        showing = await self.counter.show(request.path_params["token"], visitor(request))
        return self._state(request, showing, error, "letter", status=error.http_status)

    async def choose(self, request: Request) -> Response:
        token, who = request.path_params["token"], visitor(request)
        form = await fields(request)
        choice = form.get("choice", "")
        try:
            from_here(request, self.pages.house.public_url)
            answer = await self.counter.choose(token, choice, form.get("nonce", ""), who)
        except PliError as error:
            showing = await self.counter.show(token, who)
            if isinstance(error, TooManyAttempts) and form.get("kept") and choice in CHOICES:
                # The newest mailed code still holds, and so does the form that it is for.
                return self._code(request, showing, choice, form["kept"], error=error, context="choice")
            return self._state(request, showing, error, "choice", status=error.http_status)
        if isinstance(answer, Showing):
            return self._state(request, answer)
        return self._code(request, answer.showing, answer.choice, answer.nonce, expires_at=answer.expires_at)

    async def decide(self, request: Request) -> Response:
        token, who = request.path_params["token"], visitor(request)
        form = await fields(request)
        choice, code, nonce = form.get("choice", ""), form.get("code", ""), form.get("nonce", "")
        try:
            from_here(request, self.pages.house.public_url)
            if not code.strip():
                raise WrongCode  # an empty field costs no try
            decided = await self.counter.decide(token, choice, code, nonce, who)
        except WrongCode as error:
            showing = await self.counter.show(token, who)
            if showing.decision is not None and choice != "read":
                return self._state(request, showing)
            if choice not in CHOICES:
                return self._state(request, showing, error, "decision", status=error.http_status)
            return self._code(request, showing, choice, nonce, error=error, context="decision")
        except PliError as error:
            showing = await self.counter.show(token, who)
            if error.temporary and choice != "read" and showing.decision is not None:
                return self._state(request, showing)  # decided, and what failed came after it
            if error.temporary and choice in CHOICES:
                return self._code(request, showing, choice, nonce, error=error, context="decision")
            return self._state(request, showing, error, "decision", status=error.http_status)
        return self._decided(request, decided)

    # -- answers ------------------------------------------------------------------------------------------------------

    def _decided(self, request: Request, decided: Decided) -> Response:
        if decided.session is None:
            return self._state(request, decided.showing)
        home = self._home(request)
        if decided.showing.decision == "accept":
            path, _, query = home.partition("?")
            home = f"{path}/letter" + (f"?{query}" if query else "")
        answer = RedirectResponse(home, 303)
        Sessions(self.https).keep(answer, request.path_params["token"], decided.session)
        return answer

    def _state(
        self,
        request: Request,
        showing: Showing,
        error: PliError | None = None,
        context: str = "",
        *,
        status: int | None = None,
    ) -> Response:
        """The page that says where the letter stands, with the error on top of it where there was one."""
        kind = _kind(showing)
        if isinstance(error, WindowClosed) or (isinstance(error, NotAllowed) and kind == "waiting"):
            error = None  # the page itself says it
        return self._page(
            request,
            f"portal/{kind}.html",
            showing,
            status=status or (410 if kind in ("closed", "undeliverable") else 200),
            problem=None if error is None else self._sentence(request, showing, error, context),
            known=Sessions(self.https).secret(request) is not None and not isinstance(error, NotIdentified),
        )

    def _code(
        self,
        request: Request,
        showing: Showing,
        choice: str,
        nonce: str,
        *,
        error: PliError | None = None,
        context: str = "",
        **values: Any,
    ) -> Response:
        """The page with the field for the mailed code."""
        status = 200 if error is None else error.http_status
        problem = None if error is None else self._sentence(request, showing, error, context)
        values = {"expires_at": None, **values, "choice": choice, "nonce": nonce[:100], "problem": problem}
        return self._page(request, "portal/code.html", showing, status=status, **values)

    def _sentence(self, request: Request, showing: Showing, error: PliError, context: str) -> str:
        return self.pages.words(request, showing.language).first(*problem_keys(error, context), "problem.PliError")

    def _page(self, request: Request, template: str, showing: Showing, *, status: int, **values: Any) -> Response:
        headers = {"Retry-After": "600"} if status == 429 else {}
        return self.pages.page(
            request,
            template,
            status=status,
            headers=headers,
            language=showing.language,
            showing=showing,
            base=f"/l/{request.path_params['token']}",
            **values,
        )

    def _home(self, request: Request) -> str:
        lang = request.query_params.get("lang")
        return f"/l/{request.path_params['token']}" + (f"?lang={lang}" if lang in ("fr", "en") else "")


def _kind(showing: Showing) -> str:
    """Which page says where the letter stands."""
    if showing.decision is not None:
        return "accepted" if showing.decision == "accept" else "refused"
    if showing.open:
        return "choose"
    if showing.state == State.DEPOSITED:
        return "waiting"
    return "undeliverable" if showing.state == State.UNDELIVERABLE else "closed"
