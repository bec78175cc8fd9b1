"""What holds for every answer of the web server: headers, errors without insides, limits, languages, no scripts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.errors import OurFault, StorageFull, Unusable
from tests.needs import need
from tests.web.browser import Browser
from tests.web.stand_in import CODE, HOUSE, LETTER, NOW, TOKEN, Clock, StandIn, showing
from web.app import make_app
from web.serve import Server
from web.words import LANGUAGES, words

L = f"/l/{TOKEN}"
WEB = Path(__file__).parents[2] / "web"


async def well() -> bool:
    return True


async def test_every_answer_carries_the_security_headers(browser: Browser, counter: StandIn) -> None:
    answers = [
        await browser.get(path)
        for path in ("/", "/about", L, "/l/unknown", "/healthz", "/robots.txt", "/static/pli.css")
    ]
    answers += [await browser.get("/", "DELETE"), await browser.post(f"{L}/choice", {"nonce": "x" * 40_000})]
    counter.broken = RuntimeError("secret insides")
    answers.append(await browser.get(L))
    assert {answer.status for answer in answers} == {200, 404, 405, 413, 503}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        for name, value in (
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ):
            assert answer.headers[name] == value
        assert "noindex" in answer.headers["x-robots-tag"]
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers
    assert all(
        a.headers["cache-control"] == "no-store"
        for a in answers
        if a.headers["content-type"] != "text/css; charset=utf-8"
    )


@pytest.mark.parametrize("error", [RuntimeError("secret insides"), OurFault(detail="secret insides"), StorageFull()])
async def test_an_error_of_ours_says_nothing_of_our_insides(
    browser: Browser, counter: StandIn, error: Exception
) -> None:
    counter.broken = error
    page = await browser.get(L, Accept_Language="fr")
    assert page.status in (503, 507)
    assert "de notre côté" in page.text
    assert not re.search(r"secret|insides|Traceback|RuntimeError", page.text)
    assert (await browser.get("/healthz")).status == 503


async def test_bodies_have_a_limit_however_they_come(browser: Browser, counter: StandIn) -> None:
    assert (await browser.post(f"{L}/choice", {"nonce": "x" * 1_000_000})).status == 413
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    writer.write(f"POST {L}/choice HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n".encode())
    writer.write(
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        + b"4000\r\n"
        + b"x" * 0x4000
        + b"\r\n"
        + b"1\r\nx\r\n"
    )
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert counter.done == []


async def test_heads_have_a_limit(browser: Browser) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000)
    assert b" 400 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_a_peer_that_sends_its_request_too_slowly_is_let_go(
    monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    monkeypatch.setattr("web.serve._PATIENCE", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    writer.write(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_malformed_forms_are_answered(browser: Browser, counter: StandIn) -> None:
    for kind, body in (
        ("multipart/form-data; boundary=x", {"choice": "accept"}),
        ("multipart/form-data", {"choice": "accept"}),
        ("application/json", {"choice": "accept"}),
        ("application/x-www-form-urlencoded", {f"f{n}": "x" for n in range(100)}),
    ):
        assert (await browser.post(f"{L}/choice", body, Content_Type=kind)).status in (400, 403)
    assert counter.done == []


@pytest.mark.parametrize(
    ("query", "letter", "accepted", "spoken"),
    [
        ("", "en", "fr", "en"),
        ("", "fr", "en", "fr"),
        ("?lang=fr", "en", "en", "fr"),
        ("?lang=xx", "en", "fr", "en"),
        ("", "de", "en-GB,en;q=0.9,fr;q=0.1", "en"),
        ("", "de", "de,fr;q=0.5,en;q=0.4", "fr"),
        ("", "de", "x" * 5000, "fr"),
    ],
)
async def test_the_language_is_asked_for_or_the_letters_or_the_browsers(
    browser: Browser, counter: StandIn, query: str, letter: str, accepted: str, spoken: str
) -> None:
    counter.letters[TOKEN] = showing(language=letter)
    page = await browser.get(L + query, Accept_Language=accepted)
    assert f'<html lang="{spoken}">' in page.text
    assert page.headers["content-language"] == spoken


def leaves(table: dict[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", str(value)


def test_all_languages_have_the_same_texts_with_the_same_names_in_them() -> None:
    texts = {
        tag: dict(leaves(tomllib.loads((WEB / "locales" / f"{tag}.toml").read_text("utf-8")))) for tag in LANGUAGES
    }
    assert texts["fr"].keys() == texts["en"].keys()
    for key, text in texts["fr"].items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", texts["en"][key])), key


def test_every_text_that_a_template_names_is_there() -> None:
    named = {
        key for path in WEB.rglob("*.html") for key in re.findall(r'\bt\("([a-z_.0-9]+)"[,)]', path.read_text("utf-8"))
    }
    known = dict(leaves(words("en").texts))
    assert len(named) > 80
    assert [key for key in named if key not in known] == []


def test_no_page_has_a_script_or_fetches_from_elsewhere() -> None:
    for path in [*WEB.rglob("*.html"), *WEB.rglob("*.css"), *WEB.rglob("*.svg")]:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"<script|\son\w+=|javascript:|@import|url\(|(?:src|href)=\"http", text), path.name


def test_no_text_uses_words_that_are_reserved_to_qualified_providers() -> None:
    for path in WEB.rglob("*"):
        if path.is_file() and path.suffix in (".html", ".toml", ".py"):
            text = path.read_text("utf-8").lower()
            assert not re.search(r"recommandée? électronique|\blre\b", text), path.name


def test_days_and_sizes_are_written_as_people_write_them() -> None:
    at = datetime.fromisoformat("2026-03-31T22:30:00+00:00")
    assert words("fr").moment(at, "Europe/Paris") == "mercredi 1er avril 2026 à 00:30 (heure de Paris)"
    assert words("en").moment(at, "America/New_York") == "Tuesday 31 March 2026, 18:30 (New York time)"
    assert [words("fr").size(n).replace("\xa0", " ") for n in (0, 999, 1500, 25_000_000)] == [
        "0 octets",
        "999 octets",
        "1,5 ko",
        "25 Mo",
    ]


async def test_over_https_cookies_and_transport_are_bound_to_it(tmp_path: Path, counter: StandIn) -> None:
    openssl = need("openssl", "apt-get install openssl")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = await asyncio.create_subprocess_exec(
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key),
        "-out", str(cert), "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    server = Server(make_app(counter, HOUSE, Clock(), https=True, health=well), "127.0.0.1", 0, cert, key)
    await server.start()
    trust = ssl.create_default_context(cafile=cert)
    try:
        browser = Browser(server.port, trust=trust)
        assert (await browser.get(L)).headers["strict-transport-security"].startswith("max-age=")
        page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": showing().nonce})
        answer = await browser.post(f"{L}/decision", {"choice": "accept", "code": CODE, "nonce": page.nonce})
        assert re.match(r"__Host-pli-\w+=[^;]+; HttpOnly; Path=/; SameSite=lax; Secure$", answer.cookies[0])
        assert (await browser.get(f"{L}/letter.eml")).body == LETTER
        await asyncio.sleep(0.05)
        assert ("handed over", "eml") in counter.done
        old = ssl.create_default_context(cafile=cert)
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=old, server_hostname="localhost")
    finally:
        await server.stop()


async def test_a_port_that_is_taken_is_named_with_the_mend(browser: Browser, counter: StandIn) -> None:
    app = make_app(counter, HOUSE, Clock(), https=False, health=well)
    with pytest.raises(Unusable, match=rf"\[web\] listen: 127\.0\.0\.1:{browser.port} is taken"):
        await Server(app, "127.0.0.1", browser.port, None, None).start()
    with pytest.raises(Unusable, match="tls_cert"):
        await Server(app, "127.0.0.1", 0, Path("/nowhere/cert.pem"), None).start()


async def test_a_stopped_server_has_let_its_port_go(counter: StandIn) -> None:
    server = Server(make_app(counter, HOUSE, Clock(), https=False, health=well), "127.0.0.1", 0, None, None)
    await server.start()
    assert (await Browser(server.port).get("/healthz")).body == b'{"ok":true}'
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 1)


class Box:
    """A demo mailbox with one mail in it."""

    def __init__(self, raw: bytes) -> None:
        self.mail = raw

    def messages(self, to: str | None = None, since: datetime | None = None) -> list[Any]:
        mail = SimpleNamespace(
            id="1", to="john.doe@example.com", from_="pli@avis.test", subject="<b>Notice</b>", at=NOW, event="notice"
        )
        return [mail] if to in (None, mail.to) and (since is None or since <= NOW) else []

    def raw(self, id: str) -> bytes | None:
        return self.mail if id == "1" else None


async def test_the_demos_mailbox_lists_and_shows_mails(counter: StandIn) -> None:
    raw = LETTER.replace(b"https://example.org/terms", f"http://127.0.0.1/l/{TOKEN}".encode())
    app = make_app(counter, replace(HOUSE), Clock(), https=False, mailbox=Box(raw), health=well)
    server = Server(app, "127.0.0.1", 0, None, None)
    await server.start()
    try:
        browser = Browser(server.port)
        listed = (
            await browser.get("/mailbox/api/messages?to=john.doe%40example.com&since=2026-07-01T08:03:00+00:00")
        ).text
        assert listed == (
            '[{"id":"1","to":"john.doe@example.com","from":"pli@avis.test","subject":"<b>Notice</b>",'
            '"at":"2026-07-01T08:03:00+00:00","event":"notice"}]'
        )
        assert (await browser.get("/mailbox/api/messages?to=nobody@example.org")).text == "[]"
        assert (await browser.get("/mailbox/api/messages?since=2026-07-02")).text == "[]"
        assert (await browser.get("/mailbox/api/messages?since=soon")).status == 400
        assert (await browser.get("/mailbox/api/messages/1.eml")).body == raw
        assert (await browser.get("/mailbox/api/messages/2.eml")).status == 404
        assert "&lt;b&gt;Notice&lt;/b&gt;" in (await browser.get("/mailbox/")).text
        assert f'<a href="http://127.0.0.1/l/{TOKEN}"' in (await browser.get("/mailbox/view/1")).text
        assert (await browser.get("/mailbox/view/1/parts/1")).status == 404
    finally:
        await server.stop()


async def test_without_the_demo_there_is_no_mailbox(browser: Browser) -> None:
    for path in ("/mailbox/", "/mailbox/api/messages", "/mailbox/view/1"):
        assert (await browser.get(path)).status == 404
