"""A browser without JavaScript over real sockets: cookies, and answers with all their headers. Redirects are not followed."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    cookies: list[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def nonce(self) -> str:
        found = re.search(r'name="nonce"\s+value="([^"]+)"', self.text)
        assert found, "the page has no form"
        return found[1]


@dataclass
class Browser:
    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    trust: ssl.SSLContext | None = None

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await asyncio.to_thread(self._ask, method, path, None, headers)

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return await asyncio.to_thread(self._ask, "POST", path, urlencode(form).encode(), headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if self.trust is None:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        else:
            connection = HTTPSConnection("localhost", self.port, timeout=10, context=self.trust)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            set_cookies = answer.headers.get_all("set-cookie") or []
            for line in set_cookies:
                self.cookies.update({name: morsel.value for name, morsel in SimpleCookie(line).items()})
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, set_cookies, answer.read())
        finally:
            connection.close()
