"""The hand-over is the last octet that the recipient's side took: not the request, not the first octets, not a peer that left."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from gateway.core.letter import State
from tests.web.browser import Browser
from tests.web.stand_in import LETTER, NOW, TOKEN, StandIn, session, showing
from web.portal.sessions import Sessions
from web.serve import Server

L = f"/l/{TOKEN}"
BIG = LETTER + os.urandom(12_000_000).hex().encode()


@pytest.fixture(autouse=True)
def accepted(counter: StandIn, browser: Browser) -> None:
    counter.letters[TOKEN] = showing(state=State.ACCEPTED, open=False, decision="accept", decided_at=NOW)
    browser.cookies[Sessions(https=False).name(TOKEN)] = session(TOKEN)


def request(browser: Browser, path: str, method: str = "GET") -> bytes:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return f"{method} {L}/{path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode()


async def ask(browser: Browser, path: str, method: str = "GET") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port, limit=65536)
    writer.write(request(browser, path, method))
    return reader, writer


@pytest.mark.parametrize(("path", "form"), [("letter", "page"), ("letter.eml", "eml"), ("letter.zip", "zip")])
async def test_each_form_of_the_whole_letter_is_a_hand_over(
    browser: Browser, counter: StandIn, path: str, form: str
) -> None:
    assert (await browser.get(f"{L}/{path}")).status == 200
    await asyncio.sleep(0.05)
    assert counter.done == [("handed over", form)]


@pytest.mark.parametrize("path", ["parts/1", "receipt.pdf"])
async def test_a_part_and_a_receipt_come_after_it(browser: Browser, counter: StandIn, path: str) -> None:
    answer = await browser.get(f"{L}/{path}")
    assert (answer.status, answer.headers["location"], answer.body) == (303, f"{L}/letter", b"")
    assert counter.done == []


async def test_a_part_and_a_receipt_are_none(browser: Browser, counter: StandIn) -> None:
    counter.letters[TOKEN] = showing(state=State.HANDED_OVER, open=False, decision="accept", decided_at=NOW)
    for path, status in (("parts/1", 404), ("receipt.pdf", 200)):
        assert (await browser.get(f"{L}/{path}")).status == status
    await asyncio.sleep(0.05)
    assert (counter.done, counter.broken_off) == ([], [])


@pytest.mark.parametrize("path", ["letter", "letter.eml", "letter.zip"])
async def test_a_head_is_none(browser: Browser, counter: StandIn, path: str) -> None:
    reader, writer = await ask(browser, path, "HEAD")
    assert b" 200 " in await reader.readline()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.05)
    assert (counter.done, counter.broken_off) == ([], [])


async def test_who_leaves_before_the_last_octet_was_handed_nothing(browser: Browser, counter: StandIn) -> None:
    counter.raw = BIG
    reader, writer = await ask(browser, "letter.eml")
    await reader.readexactly(len(BIG) // 2)
    writer.close()
    await asyncio.sleep(0.3)
    assert counter.done == []
    [(form, sent, total)] = counter.broken_off
    assert (form, total) == ("eml", len(BIG))
    assert len(BIG) // 2 <= sent < len(BIG)


async def test_octets_that_still_lie_in_our_kernel_were_not_taken(browser: Browser, counter: StandIn) -> None:
    counter.raw = LETTER + bytes(300_000)  # small enough that our kernel has room for all of it
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.connect(("127.0.0.1", browser.port))
        peer.sendall(request(browser, "letter.eml"))
        await asyncio.sleep(0.3)
        assert len(peer.recv(4096)) == 4096
    await asyncio.sleep(0.2)
    assert counter.done == []
    assert counter.broken_off == [("eml", len(counter.raw) - 1, len(counter.raw))]


async def test_it_waits_for_a_slow_reader_to_take_everything(browser: Browser, counter: StandIn) -> None:
    counter.raw = BIG
    reader, writer = await ask(browser, "letter.eml")
    await reader.readexactly(len(BIG) // 2)
    await asyncio.sleep(0.3)
    assert counter.done == []
    rest = b""
    while not rest.endswith(BIG[-100:]):
        rest = rest[-100:] + await asyncio.wait_for(reader.read(1_000_000), 5)
    await asyncio.sleep(0.05)
    assert counter.done == [("handed over", "eml")]
    writer.close()
    await asyncio.sleep(0.05)
    assert counter.broken_off == []


async def test_a_reader_that_takes_nothing_more_is_let_go(
    browser: Browser, counter: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.serve._PATIENCE", 0.2)
    counter.raw = BIG
    reader, writer = await ask(browser, "letter.eml")
    await reader.readexactly(1000)
    await asyncio.sleep(1.0)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(len(BIG))
    assert counter.done == []
    assert [form for form, _, _ in counter.broken_off] == ["eml"]
    writer.close()


async def test_a_record_that_failed_for_a_moment_is_made_again(browser: Browser, counter: StandIn) -> None:
    counter.failing_hand_overs = 1
    assert (await browser.get(f"{L}/letter")).status == 200
    await asyncio.sleep(0.8)
    assert counter.done == [("handed over", "page")]


async def test_a_broken_transfer_whose_record_failed_for_a_moment_is_recorded_again(
    browser: Browser, counter: StandIn
) -> None:
    counter.raw, counter.failing_failures = BIG, 1
    reader, writer = await ask(browser, "letter.eml")
    await reader.readexactly(1000)
    writer.transport.abort()
    await asyncio.sleep(1.0)
    assert [form for form, _, _ in counter.broken_off] == ["eml"]


async def test_a_transfer_that_our_own_end_cuts_is_told_too(
    browser: Browser, counter: StandIn, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._server.config, "timeout_graceful_shutdown", 0.2)  # type: ignore[union-attr]
    counter.raw, counter.failing_failures = BIG, 1
    reader, writer = await ask(browser, "letter.eml")
    await reader.readexactly(1000)
    await server.stop()  # what it closes afterwards, the record needs
    assert [form for form, _, _ in counter.broken_off] == ["eml"]
    assert counter.done == []
    writer.close()


async def test_who_clicks_before_the_record_is_made_is_not_sent_back(browser: Browser, counter: StandIn) -> None:
    counter.failing_hand_overs = 1  # the second try comes half a second later
    assert (await browser.get(f"{L}/letter")).status == 200
    assert (await browser.get(f"{L}/receipt.pdf")).status == 200
