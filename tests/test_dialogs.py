"""SMTP dialogs in plain text (tests/dialogs/*.smtp), played to real listeners: in the clear, after STARTTLS, under implicit TLS.

A file names its ways in a line "on:". Then, from behind the greeting (and the handshake): `C:` a line to send, `R:` raw text with
Python's escapes, `S:` a pattern for the next line, `S*:` for all lines of the next reply, `T:` the TLS handshake, `E:` the
connection is closed. `20x ` before a line repeats it. $PLAIN and its like are filled in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.intake_desk import PASSWORD, Peer, house, plain

DIALOGS = Path(__file__).parent / "dialogs"
WORDS = {"$PLAIN_FOR_BOSS": plain(identity="boss@customer.example"), "$PLAIN": plain(PASSWORD), "$LONG": "x" * 70_000}
# Each reply has an enhanced code of its class (RFC 2034 4), but for greetings and replies to EHLO, and 3xx, which have none.
_EHLO = r"250[ -](?:gateway\.example|[A-Z0-9]{3,}(?: [A-Z0-9 ]+)?)"
_REPLY = re.compile(rf"{_EHLO}|3[0-9]{{2}} .*|([245])[0-9]{{2}}[ -]\1\.[0-9]\.[0-9]{{1,2}} .+|452 5\.5\.3 .+")
LISTENER = {
    "plain": "submission",
    "starttls": "submission",
    "tls": "submissions",
    "mx": "mx",
    "mx-starttls": "mx",
}


def _cases() -> Iterator[tuple[str, str]]:
    for file in sorted(DIALOGS.glob("*.smtp")):
        ways = next(line for line in file.read_text("utf-8").splitlines() if line.startswith("on:"))
        for way in ways.split()[1:]:
            yield file.stem, way


def _steps(name: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of each step."""
    for number, line in enumerate((DIALOGS / f"{name}.smtp").read_text("utf-8").splitlines(), 1):
        if not line or line.startswith(("#", "on:")):
            continue
        found = re.fullmatch(r"(?:([0-9]+)x )?(C|R|S\*|S|T|E):(?: (.*))?", line)
        assert found, f"{name}.smtp line {number} cannot be read: {line}"
        text = found[3] or ""
        for word, value in WORDS.items():
            text = text.replace(word, value)
        for _ in range(int(found[1] or 1)):
            yield found[2], text


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(("name", "way"), list(_cases()))
def test_dialog(name: str, way: str, loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_dialog(name, way, tmp_path))


async def _dialog(name: str, way: str, folder: Path) -> None:
    async with house(folder) as at:
        peer = await at.connect(LISTENER[way])
        try:
            assert re.fullmatch(r"220 gateway\.example ESMTP .*", await peer.hear())
            if way.endswith("starttls"):
                await peer.say("EHLO before")
                await peer.start_tls()
            for step, (kind, text) in enumerate(_steps(name), 1):
                await _play(peer, kind, text, f"step {step}: {kind}: {text[:80]}")
        finally:
            await peer.close()


async def _play(peer: Peer, kind: str, text: str, where: str) -> None:
    if kind == "C":
        peer.send(text.encode() + b"\r\n")
    elif kind == "R":
        peer.send(text.encode("latin-1").decode("unicode_escape").encode("latin-1"))
    elif kind in ("S", "S*"):
        heard = [await peer.line()] if kind == "S" else (await peer.hear()).split("\n")
        assert all(re.fullmatch(text, line) for line in heard), f"{where}\nheard: {heard}"
        assert all(_REPLY.fullmatch(line) for line in heard), f"{where}\nno enhanced code: {heard}"
    elif kind == "T":
        await peer.handshake()
    else:
        assert await peer.line() == "", where
