"""The SMTP listeners themselves: ports, certificates, TLS, limits, patience, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import weakref
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import Unusable
from gateway.intake.listener import Listeners
from gateway.sections import HostPort, Smtp
from storage.blobs import Blobs
from tests.intake_desk import HOST, Now, TestDesk, house, make_certificate
from tests.needs import need


def _listeners(folder: Path, **settings: Any) -> Listeners:
    certificate, key = make_certificate(folder)
    smtp = Smtp(submissions=None, submission=None, mx=None, tls_cert=certificate, tls_key=key)
    return Listeners(smtp.model_copy(update=settings), TestDesk(Blobs(folder / "blobs")), Now(), hostname=HOST)


async def test_a_port_that_is_taken_is_named_with_its_setting_and_nothing_stays_bound(tmp_path: Path) -> None:
    with socket.socket() as other, socket.socket() as free:
        other.bind(("127.0.0.1", 0))
        other.listen()
        free.bind(("127.0.0.1", 0))
        free_port, taken = free.getsockname()[1], other.getsockname()[1]
        free.close()
        listeners = _listeners(
            tmp_path, submissions=HostPort("127.0.0.1", free_port), submission=HostPort("127.0.0.1", taken)
        )
        with pytest.raises(
            Unusable, match=rf"\[smtp\] submission: 127\.0\.0\.1:{taken} is taken .*choose another port"
        ):
            await listeners.start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", free_port)


async def test_an_address_of_another_machine_is_named_with_its_setting(tmp_path: Path) -> None:
    listeners = _listeners(tmp_path, mx=HostPort("192.0.2.1", 25))
    with pytest.raises(Unusable, match=r"\[smtp\] mx: 192\.0\.2\.1:25 is no address of this machine"):
        await listeners.start()


async def test_only_what_is_named_listens_and_the_ports_are_those_really_bound(tmp_path: Path) -> None:
    listeners = _listeners(tmp_path, mx=HostPort("localhost", 0))
    await listeners.start()
    try:
        assert list(listeners.ports) == ["mx"]
        for family in {found[0] for found in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}:
            reader, writer = await asyncio.open_connection("localhost", listeners.ports["mx"], family=family)
            assert (await reader.readline()).startswith(b"220 ")
            writer.close()
            await writer.wait_closed()
    finally:
        await listeners.stop()


async def test_without_a_certificate_port_25_offers_no_tls(tmp_path: Path) -> None:
    listeners = _listeners(tmp_path, mx=HostPort("127.0.0.1", 0), tls_cert=None, tls_key=None)
    await listeners.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listeners.ports["mx"])
    writer.write(b"EHLO x\r\nSTARTTLS\r\nQUIT\r\n")
    heard = (await reader.read()).decode()
    assert "250 ENHANCEDSTATUSCODES\r\n502 5.5.1 " in heard
    writer.close()
    await writer.wait_closed()
    await listeners.stop()


async def test_certificates_that_cannot_be_used_are_named_with_their_setting(tmp_path: Path) -> None:
    expired, expired_key = make_certificate(tmp_path, "old", days=-1)
    other, other_key = make_certificate(tmp_path, "other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    cases = [
        (expired, expired_key, r"\[smtp\] tls_cert: .*old\.crt is expired since 20.*renew it"),
        (other, expired_key, r"\[smtp\] tls_key: .*old\.key is no readable key without a password, or not the one of"),
        (other, nonsense, r"\[smtp\] tls_key: "),
        (nonsense, other_key, r"\[smtp\] tls_cert: .*no readable certificate"),
        (tmp_path / "absent", other_key, r"\[smtp\] tls_cert: .*absent"),
    ]
    for certificate, key, message in cases:
        listeners = _listeners(tmp_path, mx=HostPort("127.0.0.1", 0), tls_cert=certificate, tls_key=key)
        with pytest.raises(Unusable, match=message):
            await listeners.start()


async def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        certificate = at.listeners._certificate
        assert certificate is not None

        async def served() -> bytes | None:
            certificate._looked -= 60
            _, writer = await asyncio.open_connection("127.0.0.1", at.port("submissions"), ssl=_trusting())
            found: ssl.SSLObject = writer.get_extra_info("ssl_object")
            writer.close()
            await writer.wait_closed()
            return found.getpeercert(binary_form=True)

        first = await served()
        fresh, fresh_key = make_certificate(tmp_path, "fresh")
        fresh.replace(certificate.certificate)
        assert await served() == first  # it does not fit the key: half way through a renewal
        fresh_key.replace(certificate.key)
        assert await served() == ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text()) != first


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize(
    ("options", "works"),
    [
        (["-tls1_3"], True),
        (["-tls1_2"], True),
        (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], False),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], False),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("way", ["submission", "submissions"])
async def test_openssl_gets_modern_tls_and_no_other(tmp_path: Path, options: list[str], works: bool, way: str) -> None:
    openssl = need("openssl", "apt-get install openssl")
    async with house(tmp_path) as at:
        starttls = ["-starttls", "smtp"] if way == "submission" else []
        connect = ["-connect", f"127.0.0.1:{at.port(way)}", "-CAfile", str(at.certificate), "-verify_return_error"]
        done = await asyncio.to_thread(
            subprocess.run,
            [openssl, "s_client", *connect, *starttls, *options, "-crlf", "-ign_eof"],
            input=b"EHLO openssl\nQUIT\n",
            capture_output=True,
            check=False,
            timeout=20,
        )
        assert (b"250 AUTH PLAIN LOGIN" in done.stdout) == works
        assert (done.returncode == 0) == works


async def test_a_peer_with_too_many_connections_is_told_so(tmp_path: Path) -> None:
    async with house(tmp_path, max_per_peer=2) as at:
        first, second = await at.connect("submission"), await at.connect("mx")
        assert (await first.hear()).startswith("220 ") and (await second.hear()).startswith("220 ")
        for way in ("submission", "submissions", "mx"):
            third = await at.connect(way)
            assert (await third.hear()).startswith("421 4.7.0 ")
            assert await third.line() == ""
            await third.close()
        await second.close()
        await _calm(at.listeners, 1)
        fourth = await at.connect("submissions")
        assert (await fourth.hear()).startswith("220 ")
        await first.close()
        await fourth.close()


async def test_connections_count_before_their_handshake(tmp_path: Path) -> None:
    async with house(tmp_path, max_connections=2) as at:
        silent = [await asyncio.open_connection("127.0.0.1", at.port("submissions")) for _ in range(2)]
        await _calm(at.listeners, 2)
        peer = await at.connect("submission")
        assert (await peer.hear()).startswith("421 4.7.0 ")
        await peer.close()
        for _, writer in silent:
            writer.close()
            await writer.wait_closed()
        await _calm(at.listeners, 0)


async def _calm(listeners: Listeners, count: int) -> None:
    async with asyncio.timeout(5):
        while listeners._open != count:
            await asyncio.sleep(0.01)


async def test_a_closed_session_waits_for_no_garbage_collector(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        gc.collect()
        gc.disable()
        try:
            for way in ("submission", "submissions", "mx"):
                peer = await at.connect(way)
                await peer.hear()
                await peer.say("EHLO x")
                if way == "submission":
                    await peer.start_tls()
                (session,) = at.listeners._sessions
                seen = weakref.ref(session)
                del session
                await peer.say("QUIT")
                await peer.close()
                await _calm(at.listeners, 0)
                await asyncio.sleep(0.05)
                assert seen() is None, way
        finally:
            gc.enable()


async def test_a_slow_client_may_be_slow_as_long_as_something_comes(tmp_path: Path) -> None:
    async with house(tmp_path, timeout=0.4) as at:
        at.desk.hold = asyncio.Event()
        peer = await at.connect("submissions")
        await peer.hear()
        await peer.log_in()
        await peer.begin()
        for _ in range(8):
            await asyncio.sleep(0.1)
            peer.send(b"slowly\r\n")
        peer.send(b".\r\n")
        await asyncio.sleep(0.6)  # our own slowness costs him nothing
        at.desk.hold.set()
        assert (await peer.hear()).startswith("250 ")
        await peer.close()


async def test_a_silent_client_is_cut(tmp_path: Path) -> None:
    async with house(tmp_path, timeout=0.3) as at:
        for way in ("submission", "submissions"):
            peer = await at.connect(way)
            await peer.hear()
            assert (await peer.hear()).startswith("421 4.4.2 ")
            assert await peer.line() == ""
            await peer.close()
        dripping = await at.connect("mx")
        await dripping.hear()
        cut = asyncio.create_task(dripping.hear())
        for _ in range(10):  # bytes without a command buy no time
            if not cut.done():
                dripping.send(b"N")
                await asyncio.sleep(0.05)
        assert cut.done()
        assert cut.result().startswith("421 4.4.2 ")
        await dripping.close()
        at_data = await at.connect("submissions")
        await at_data.hear()
        await at_data.log_in()
        await at_data.begin()
        assert (await at_data.hear()).startswith("421 4.4.2 ")
        assert at.desk.spools[0].head == b"" and not at.desk.stored
        await at_data.close()


async def test_stopping_ends_idle_sessions_and_waits_for_mails_on_their_way(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        idle, busy = await at.connect("mx"), await at.connect("submissions")
        handshaking = await asyncio.open_connection("127.0.0.1", at.port("submissions"))
        await idle.hear()
        await busy.hear()
        await busy.log_in()
        await busy.begin()
        stopping = asyncio.create_task(at.listeners.stop())
        assert (await idle.hear()).startswith("421 4.3.2 ")
        assert await idle.line() == ""
        with pytest.raises(ConnectionRefusedError):
            await at.connect("mx")
        assert not stopping.done()
        assert (await busy.say("text\r\n.")).startswith("250 2.0.0 deposit=")
        assert (await busy.hear()).startswith("421 4.3.2 ")
        assert await busy.line() == ""
        await asyncio.wait_for(stopping, 3)
        assert at.desk.stored[0].raw == b"text\r\n"
        for peer in (idle, busy):
            await peer.close()
        handshaking[1].close()
        await handshaking[1].wait_closed()


async def test_stopping_waits_no_longer_than_told_but_for_what_is_being_stored(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        at.desk.hold = asyncio.Event()
        stuck, storing = await at.connect("submissions"), await at.connect("submissions")
        for peer in (stuck, storing):
            await peer.hear()
            await peer.log_in()
            await peer.begin()
        storing.send(b"text\r\n.\r\n")
        await at.desk.began.wait()
        stopping = asyncio.create_task(at.listeners.stop(grace=0.2))
        await asyncio.sleep(0.4)
        assert not stopping.done()
        at.desk.hold.set()
        await asyncio.wait_for(stopping, 3)
        assert [stored.raw for stored in at.desk.stored] == [b"text\r\n"]
        for peer in (stuck, storing):
            await peer.close()
