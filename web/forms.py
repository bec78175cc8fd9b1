"""What comes in with a request: the fields of a form, and who sends them. Not here: what they mean (the routes)."""

from __future__ import annotations

from starlette.requests import Request

from gateway.counter import Visitor


async def fields(request: Request) -> dict[str, str]:
    """The text fields of a form; whatever else was sent is as if it were not there. Raises HTTPException for malformed ones."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return {}
    async with request.form(max_files=0, max_fields=20) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def visitor(request: Request) -> Visitor:
    """The request's network facts."""
    address = request.client.host if request.client else ""
    return Visitor(address, request.headers.get("user-agent", "")[:500], request.method)
