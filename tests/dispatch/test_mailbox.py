"""The demo's mailbox is a real SMTP server: it keeps bytes, tells mails apart, refuses some, and lets some come back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.core.letter import Event
from gateway.demo import mailbox as module
from gateway.demo.mailbox import Mailbox, Received
from gateway.dispatch import compose
from gateway.dispatch.attempt import Outcome, Verdict, attempt
from gateway.dispatch.bounce import FAILED, read_bounce
from gateway.dispatch.route import Host
from tests.dispatch import samples
from tests.dispatch.samples import HOUSE
from tests.dispatch.test_attempt import certificate

HERE = "127.0.0.1"


@asynccontextmanager
async def mailbox(folder: Path, mx: int = 1, tls: ssl.SSLContext | None = None) -> AsyncIterator[Mailbox]:
    made = Mailbox(folder / "mailbox", clock=SystemClock(), mx=lambda: (HERE, mx), tls=tls)
    await made.start(HERE, 0)
    try:
        yield made
    finally:
        await made.stop()
        await asyncio.sleep(0.05)


async def send(to: str, box: Mailbox, message: bytes, sender: str = "rabc@pli.test") -> Outcome:
    return await attempt(
        [Host("mailbox.test", HERE, box.port)],
        mail_from=sender,
        rcpt_to=to,
        message=message,
        local_hostname="avis.test",
        ca=None,
        clock=SystemClock(),
    )


async def test_bytes_and_events(tmp_path: Path) -> None:
    context, _ = certificate(tmp_path, "mailbox.test")
    long_lines = samples.original(raw=b"Subject: \xc3\xa9\r\n\r\n.\r\n" + b"x" * 20_000 + b"\r\n")
    mails = [
        ("notice", compose.notice(HOUSE, samples.notice())),
        ("reminded", compose.notice(HOUSE, samples.reminder())),
        ("code", compose.code(HOUSE, samples.code())),
        ("receipt", compose.receipt(HOUSE, samples.receipt())),
        ("original", compose.original(HOUSE, long_lines)),
        ("handed-over", compose.status(HOUSE, samples.status(Event.HAND_OVER, "fr"))),
        (None, b"Subject: =?x\xff\r\nFrom: \xe9 <\r\n\r\n\x00\r\n"),
    ]
    heard: list[Received] = []
    async with mailbox(tmp_path, tls=context) as box:
        box.listen(heard.append)
        for _, raw in mails:
            outcome = await send("jane.roe@example.net", box, raw)
            assert outcome.verdict is Verdict.TAKEN
            assert outcome.facts()["tls"] is not None
        found = box.messages()
        assert found == heard
        assert [mail.event for mail in found] == [event for event, _ in mails]
        assert [box.raw(mail.id) for mail in found] == [raw for _, raw in mails]
        assert found[0].subject == "Notice of a letter with proof, reference ABCDE-FGHJK"
        assert found[0].from_ == "pli@avis.test"
        assert box.messages(to="JANE.ROE@example.net") == found
        assert box.messages(to="other@example.net") == []
        assert box.messages(since=found[3].at) == found[3:]
        assert box.messages(since=found[-1].at + timedelta(seconds=1)) == []
        for wrong in ("", "999", "../secret", "1/2", "x"):
            assert box.raw(wrong) is None


async def test_bounce_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LATE", 0.05)
    notice = compose.notice(HOUSE, samples.notice())
    async with mailbox(tmp_path / "gateway") as gateway, mailbox(tmp_path, mx=gateway.port) as box:
        refused = await send("nobody@bounce.example.net", box, notice)
        assert refused.verdict is Verdict.PERMANENT
        assert refused.facts()["reason"].startswith("550 5.1.1")
        assert not box.messages()
        assert (await send("nobody@late-bounce.example.net", box, notice)).verdict is Verdict.TAKEN
        assert len(box.messages()) == 1
        for _ in range(100):
            await asyncio.sleep(0.02)
            if gateway.messages():
                break
        [back] = gateway.messages(to="rabc@pli.test")
        bounce = read_bounce(gateway.raw(back.id) or b"")
        assert (bounce.verdict, bounce.status) == (FAILED, "5.2.1")
        # a bounce of a bounce must never come back
        assert (await send("x@late-bounce.example.net", box, notice, sender="")).verdict is Verdict.TAKEN
        await asyncio.sleep(0.2)
        assert len(gateway.messages()) == 1


async def test_a_port_that_is_taken_is_an_error_at_start(tmp_path: Path) -> None:
    async with mailbox(tmp_path) as box:
        other = Mailbox(tmp_path / "other", clock=SystemClock(), mx=lambda: (HERE, 1))
        with pytest.raises(OSError):
            await other.start(HERE, box.port)
