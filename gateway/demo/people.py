"""The people of the demo: a sender with a mail client, a recipient with a mailbox and a browser. Real SMTP, real HTTP.

Blocking; called in threads. They know the gateway's public face (DESIGN.md 7) and nothing else of it.
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import smtplib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from gateway.core.errors import PliError

_NONCE = re.compile(r'name="nonce"\s+value="([^"]+)"')
_LINK = re.compile(r"https?://\S+/l/[a-z2-7]{32}")
_CODE = re.compile(r"^Code: ([0-9]{6})\r?$", re.MULTILINE)
_PATIENCE = 20.0


class Surprise(PliError):
    """The demo saw something else than it should have."""

    sentence = "The demo went wrong."


@dataclass(frozen=True)
class SmtpClient:
    """A mail client's outgoing server settings."""

    host: str
    port: int
    ca: str
    address: str
    app_password: str
    implicit_tls: bool = True

    def send(self, to: list[str], message: bytes) -> str:
        """Send a mail; returns the text of the final 250."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.implicit_tls:
            client: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, context=context, timeout=_PATIENCE)
        else:
            client = smtplib.SMTP(self.host, self.port, timeout=_PATIENCE)
        with client:
            if not self.implicit_tls:
                client.starttls(context=context)
            client.login(self.address, self.app_password)
            client.mail(self.address, ["BODY=8BITMIME"])
            for recipient in to:
                code, text = client.rcpt(recipient)
                if code != 250:
                    raise Surprise(f"RCPT TO:<{recipient}> was answered {code} {text.decode('utf-8', 'replace')}")
            code, reply = client.data(message)
            if code != 250:
                raise Surprise(f"the message was answered {code} {reply.decode('utf-8', 'replace')}")
            return reply.decode("utf-8", "replace")


@dataclass
class Browser:
    """A browser without JavaScript: keeps cookies, follows redirects."""

    url: str
    jar: http.cookiejar.CookieJar = field(default_factory=http.cookiejar.CookieJar)

    def get(self, path: str) -> bytes:
        return self._open(urllib.request.Request(self._at(path)))  # noqa: S310 - our own address

    def post(self, path: str, form: Mapping[str, str]) -> str:
        data = urllib.parse.urlencode(form).encode()
        headers = {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded"}
        request = urllib.request.Request(self._at(path), data, headers)  # noqa: S310 - our own address
        return self._open(request).decode()

    def _at(self, path: str) -> str:
        return path if path.startswith("http") else self.url + path

    def _open(self, request: urllib.request.Request) -> bytes:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )
        try:
            with opener.open(request, timeout=_PATIENCE) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise Surprise(f"{request.get_method()} {request.full_url} was answered {error.code}") from error


@dataclass(frozen=True)
class Mailbox:
    """Somebody's mailbox, through the demo's mailbox API."""

    browser: Browser
    address: str

    def mails(self) -> list[dict[str, Any]]:
        """All mails, oldest first."""
        query = urllib.parse.urlencode({"to": self.address})
        found = json.loads(self.browser.get(f"/mailbox/api/messages?{query}"))
        return sorted(found, key=lambda mail: (mail["at"], mail["id"]))

    def raw(self, mail_id: str) -> bytes:
        return self.browser.get(f"/mailbox/api/messages/{mail_id}.eml")

    def wait(self, event: str, number: int = 1, **headers: str) -> bytes:
        """The bytes of the *number*-th mail of an event whose headers are as given; raises Surprise after a while."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            found = 0
            for mail in self.mails():
                if mail["event"] == event:
                    raw = self.raw(mail["id"])
                    found += _fits(raw, headers)
                    if found == number:
                        return raw
            time.sleep(0.1)
        raise Surprise(f"no mail {event!r} number {number} reached {self.address} within {_PATIENCE:.0f} s")


def _fits(raw: bytes, headers: Mapping[str, str]) -> bool:
    message = parsed(raw)
    return all(str(message[name.replace("_", "-")]) == value for name, value in headers.items())


def parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    if not isinstance(message, EmailMessage):
        raise Surprise("a mail that cannot be read")
    return message


def text_of(raw: bytes) -> str:
    body = parsed(raw).get_body(("plain",))
    return "" if body is None else str(body.get_content())


def link_in(raw: bytes) -> str:
    found = _LINK.search(text_of(raw))
    if found is None:
        raise Surprise("the notice has no link")
    return found[0]


@dataclass
class Recipient:
    """A person with a mailbox and a browser, who decides about one letter."""

    browser: Browser
    mailbox: Mailbox

    def decide(self, link: str, choice: str) -> str:
        """Accept or refuse; returns the page shown after it."""
        page = self.browser.get(link).decode()
        page = self.browser.post(f"{link}/choice", {"choice": choice, "nonce": nonce_in(page)})
        code = _CODE.search(text_of(self.mailbox.wait("code")))
        if code is None:
            raise Surprise("the code mail has no code")
        return self.browser.post(f"{link}/decision", {"choice": choice, "code": code[1], "nonce": nonce_in(page)})


def nonce_in(page: str) -> str:
    found = _NONCE.search(page)
    if found is None:
        raise Surprise("the page has no form")
    return found[1]
