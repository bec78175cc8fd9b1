"""Messages through the SMTP listeners over real sockets: exact bytes, no smuggling, bounds, and what becomes of trouble."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import BadContent, StorageFull
from gateway.intake.desk import Receipt
from gateway.intake.submission import receipt_lines
from storage.blobs import Spool
from tests.intake_desk import HOST, House, Peer, house
from tests.needs import need_shared


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def _sender(at: House, way: str = "submissions") -> Peer:
    """A client that has logged in."""
    peer = await at.connect(way)
    await peer.hear()
    if way == "submission":
        await peer.say("EHLO x")
        await peer.start_tls()
    await peer.log_in()
    return peer


def _stuffed(message: bytes) -> bytes:
    return re.sub(rb"(?m)^\.", b"..", message)


MESSAGES = {
    "empty": b"",
    "dots": b".\r\n..\r\n.leading\r\n\r\n.\r\n...\r\nend.\r\n",
    "long lines": b"Subject: x\r\n\r\n" + b"a" * 300_000 + b"\r\n" + b"." * 2000 + b"\r\n",
    "raw 8-bit": b"Subject: \xff\xfe \xe9t\xe9\r\n\r\n"
    + bytes(b for b in range(1, 256) if b not in (10, 13))
    + b"\r\n",
    "blanks": b"\r\n \r\n\t\r\n\r\n\r\n",
}


@pytest.mark.parametrize("way", ["submission", "submissions"])
@pytest.mark.parametrize("name", MESSAGES)
async def test_the_bytes_that_were_sent_are_the_bytes_that_are_kept(at: House, name: str, way: str) -> None:
    peer = await _sender(at, way)
    await peer.begin("bob@example.org")
    peer.send(_stuffed(MESSAGES[name]))
    assert (await peer.say(".")).startswith("250 2.0.0 deposit=")
    assert at.desk.stored[0].raw == MESSAGES[name]
    await peer.close()


async def test_mails_that_others_wrote_are_kept_as_they_are(at: House) -> None:
    corpora = need_shared("corpora")
    files = sorted(file for folder in ("enmime", "mime4j") for file in (corpora / folder).iterdir())
    messages = [re.sub(rb"\r\n|\r|\n", b"\r\n", file.read_bytes().replace(b"\0", b"")) for file in files]
    messages = [message if message.endswith(b"\r\n") else message + b"\r\n" for message in messages]
    assert len(messages) > 150
    peer = await _sender(at)
    for message in messages:
        await peer.begin()
        peer.send(_stuffed(message))
        assert (await peer.say(".")).startswith("250 ")
    assert [stored.raw for stored in at.desk.stored] == messages
    await peer.close()


async def test_a_long_mail_comes_whole_from_the_disk(tmp_path: Path) -> None:
    message = b"".join(b"%d .\r\n." % n for n in range(1_500_000)) + b"\r\n"
    async with house(tmp_path, max_bytes=30_000_000) as at:
        peer = await _sender(at)
        await peer.begin()
        peer.send(message.replace(b"\r\n.", b"\r\n.."))
        assert (await peer.say(".")).startswith("250")
        assert at.desk.stored[0].raw == message
        await peer.close()


# The seven sequences of SEC Consult's "SMTP smuggling" (2023), as public scanners send them.
FALSE_ENDS = [b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n\0.\r\n"]


@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_false_end_smuggles_no_second_mail(at: House, end: bytes, in_pieces: bool) -> None:
    peer = await _sender(at)
    await peer.begin()
    inner = b"MAIL FROM:<alice@customer.example>\r\nRCPT TO:<smuggled@example.org>\r\nDATA\r\nSubject: 2\r\n\r\nx"
    wire = b"Subject: 1\r\n\r\ntext" + end + inner + b"\r\n.\r\n"
    for piece in (bytes([byte]) for byte in wire) if in_pieces else [wire]:
        peer.send(piece)
        if in_pieces:
            await asyncio.sleep(0)
    assert (await peer.hear()).startswith("550 5.6.0 ")
    assert (await peer.say("NOOP")) == "250 2.0.0 OK"  # one mail, one reply: both sides agree where it ended
    assert not at.desk.stored
    assert at.desk.spools[0].head == b""
    await peer.close()


async def test_after_a_mail_that_is_too_big_the_session_goes_on(at: House) -> None:
    peer = await _sender(at)
    await peer.begin()
    peer.send((b"x" * 998 + b"\r\n") * 1001)
    assert (await peer.say(".")).startswith("552 5.3.4 ")
    await peer.begin()
    assert (await peer.say("small\r\n.")).startswith("250 ")
    assert [stored.raw for stored in at.desk.stored] == [b"small\r\n"]
    await peer.close()


async def test_the_greatest_mail_fits_to_the_byte(at: House) -> None:
    peer = await _sender(at)
    for size, reply in ((1_000_000, "250"), (1_000_001, "552")):
        await peer.begin()
        peer.send(b"x" * (size - 2))
        assert (await peer.say("\r\n.")).startswith(reply)
    assert len(at.desk.stored[0].raw) == 1_000_000
    await peer.close()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_hundred_megabytes_without_a_line_end_take_no_memory(at: House) -> None:
    peer = await _sender(at)
    await peer.begin()
    before, most, block = _resident(), 0, b"x" * 1_000_000
    for _ in range(100):
        peer.send(block)
        await peer.writer.drain()
        most = max(most, _resident() - before)
    assert (await peer.say("\r\n.")).startswith("552 5.3.4 ")
    assert most < 25_000_000
    assert at.desk.spools[0].size <= 1_000_000
    assert (await peer.say("NOOP")).startswith("250 ")
    await peer.close()


async def test_a_command_without_an_end_takes_no_memory(at: House) -> None:
    peer = await at.connect("mx")
    await peer.hear()
    before = _resident()
    with pytest.raises(ConnectionError):
        for _ in range(100):
            peer.send(b"x" * 1_000_000)
            await peer.writer.drain()
    assert _resident() - before < 25_000_000
    await peer.close()


async def test_a_client_that_floods_us_while_we_store_has_to_wait(at: House) -> None:
    at.desk.hold = asyncio.Event()
    peer = await _sender(at)
    await peer.begin()
    peer.send(b"text\r\n.\r\n")
    await at.desk.began.wait()
    block, sent = b"RSET\r\n" * 100_000, 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            while sent < 50_000_000:
                peer.send(block)
                await peer.writer.drain()
                sent += len(block)
    peer.writer.transport.abort()
    at.desk.hold.set()
    await _until(lambda: bool(at.desk.stored))


async def test_a_client_that_goes_away_during_the_deposit_loses_nothing(at: House) -> None:
    at.desk.hold = asyncio.Event()
    peer = await _sender(at)
    await peer.begin()
    peer.send(b"text\r\n.\r\n")
    await at.desk.began.wait()
    peer.writer.transport.abort()
    await asyncio.sleep(0.1)
    assert not at.desk.stored
    at.desk.hold.set()
    await _until(lambda: bool(at.desk.stored))
    assert at.desk.stored[0].raw == b"text\r\n"
    await _until(lambda: at.desk.spools[0].head == b"")  # and the spool is cleared


async def test_a_client_that_goes_away_within_the_content_leaves_nothing(at: House) -> None:
    peer = await _sender(at)
    await peer.begin()
    peer.send(b"x" * 800_000)
    await _until(lambda: at.desk.spools[0].head != b"")
    await peer.close()
    await _until(lambda: len(at.listeners._tasks) == 0)
    assert not at.desk.stored
    assert at.desk.spools[0].head == b""


async def test_a_client_that_closes_its_half_still_hears_the_answers(at: House) -> None:
    peer = await at.connect("mx")
    peer.send(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b+1@gateway.example>\r\nDATA\r\ntext\r\n.\r\nQUIT\r\n")
    peer.writer.write_eof()
    heard = await asyncio.wait_for(peer.reader.read(), 5)
    assert [line[:3] for line in heard.decode().splitlines() if line[3] == " "] == [
        *("220", "250", "250", "250", "354", "250", "221")
    ]
    await peer.close()


TROUBLE: list[tuple[Exception, str]] = [
    (ValueError("secret /var/lib/pli"), "451 4.3.0 "),
    (OSError(errno.ENOSPC, "No space left on device", "/var/lib/pli"), "452 4.3.1 "),
    (OSError(errno.EIO, "Input/output error", "/var/lib/pli"), "451 4.3.0 "),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused", "/var/run/postgresql"), "451 4.3.0 "),
    (StorageFull(), "452 4.3.1 "),
    (BadContent("No Bcc line, please"), "550 5.6.0 No Bcc line, please"),
]


@pytest.mark.parametrize(("error", "reply"), TROUBLE, ids=lambda value: type(value).__name__)
async def test_trouble_with_a_deposit_is_told_without_our_insides(at: House, error: Exception, reply: str) -> None:
    peer = await _sender(at)
    at.desk.trouble = error
    await peer.begin()
    heard = await peer.say("text\r\n.")
    assert heard.startswith(reply)
    assert "var" not in heard and "Errno" not in heard and "\n" not in heard
    at.desk.trouble = None
    await peer.begin()
    assert (await peer.say("text\r\n.")).startswith("250 ")
    await peer.close()


async def test_a_full_disk_is_told_before_megabytes_travel(at: House) -> None:
    peer = await _sender(at)
    at.desk.no_spool = StorageFull()
    await peer.say("MAIL FROM:<alice@customer.example>")
    await peer.say("RCPT TO:<bob@example.org>")
    assert (await peer.say("DATA")).startswith("452 4.3.1 ")
    assert (await peer.say("RSET")).startswith("250 ")
    await peer.close()


class _FullSpool(Spool):
    def write(self, data: bytes) -> None:
        if self.size > 600_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(data)


async def test_a_disk_that_fills_up_within_the_content(at: House, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(at.desk.blobs, "spool", lambda: _FullSpool(tmp_path))
    peer = await _sender(at)
    await peer.begin()
    peer.send(b"NOOP\r\n" * 150_000)  # none of it may be answered as a command
    assert (await peer.say(".")).startswith("452 4.3.1 ")
    assert (await peer.say("NOOP")) == "250 2.0.0 OK"
    await peer.close()


async def test_the_desk_hears_where_a_mail_came_from_and_what_was_asked(at: House) -> None:
    peer = await _sender(at)
    await peer.say("MAIL FROM:<Alice@customer.example> BODY=8BITMIME RET=hdrs ENVID=QQ+2B314 SMTPUTF8")
    await peer.say("RCPT TO:<jürgen@example.org> NOTIFY=delay,failure ORCPT=utf-8;j\\x{FC}rgen@example.org")
    await peer.say('RCPT TO:<"jane doe"@example.org>')
    await peer.say("DATA")
    await peer.say(".")
    stored = at.desk.stored[0]
    assert (stored.envelope.mail_from, stored.envelope.envid) == ("Alice@customer.example", "QQ+314")
    assert (stored.envelope.ret, stored.envelope.smtputf8) == ("HDRS", True)
    first, second = stored.envelope.recipients
    assert (first.address, first.notify) == ("jürgen@example.org", "DELAY,FAILURE")
    assert first.orcpt == "utf-8;jürgen@example.org"
    assert (second.address, second.notify, second.orcpt) == ('"jane doe"@example.org', None, None)
    origin = stored.origin
    assert (origin.peer, origin.helo, origin.listener) == ("127.0.0.1", "client.example", "submissions")
    assert origin.mechanism == "PLAIN"
    assert re.fullmatch(r"TLSv1\.3 TLS_\w+", origin.tls or "")
    await peer.close()


async def test_a_bounce_is_kept_up_to_its_first_megabyte(tmp_path: Path) -> None:
    async with house(tmp_path, max_bytes=3_000_000) as at:
        peer = await at.connect("mx")
        await peer.hear()
        assert "SIZE 4048576" in await peer.say("EHLO mta.example")
        for line in ("MAIL FROM:<> BODY=8BITMIME", "RCPT TO:<b+x@gateway.example>", "DATA"):
            await peer.say(line)
        bounce = b"To: b+x\r\n\r\n" + b"y" * 65_000 + b"\r\n"
        peer.send(bounce + (b"z" * 70 + b"\r\n") * 40_000)
        assert (await peer.say(".")).startswith("250 ")
        address, raw, origin = at.desk.returned[0]
        assert address == "b+x@gateway.example"
        assert raw.startswith(bounce) and len(raw) == 1024 * 1024
        assert (origin.listener, origin.tls, origin.mechanism) == ("mx", None, None)
        await peer.close()


async def test_a_reply_of_many_lines_leaves_in_one_piece(at: House) -> None:
    peer = await at.connect("submission")
    await peer.hear()
    peer.send(b"EHLO x\r\n")
    heard = await peer.reader.read(4096)
    assert heard.startswith(f"250-{HOST}".encode()) and heard.endswith(b"250 STARTTLS\r\n")
    await peer.close()


def test_many_letters_are_told_in_lines_that_any_client_can_read() -> None:
    letters = tuple(f"{n:032x}" for n in range(100))
    lines = receipt_lines(Receipt("d" * 32, letters, held=False))
    assert lines[0].startswith(f"250 2.0.0 deposit={'d' * 32} letters={letters[0]},")
    assert max(map(len, lines)) <= 510  # RFC 5321 4.5.3.1.5, without CRLF
    assert ",".join(re.search(r"letters=(\S+)", line)[1] for line in lines) == ",".join(letters)  # type: ignore[index]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
