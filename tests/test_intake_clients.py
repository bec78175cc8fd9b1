"""Real mail clients hand letters to the SMTP listeners: swaks, curl and Python's smtplib."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.intake_desk import PASSWORD, House, house
from tests.needs import lacking, need

MAIL = b"From: Alice <alice@customer.example>\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\nLine\r\n.\r\n.dot\r\n"
USER = "alice@customer.example"


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, check=False, timeout=30, errors="replace"
    )


async def _swaks() -> str:
    swaks = need("swaks", "apt-get install swaks libnet-ssleay-perl")
    if "TLS supported" not in (await _run(swaks, "--support")).stdout:
        lacking("TLS for swaks", "apt-get install libnet-ssleay-perl")
    return swaks


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("way", ["submission", "submissions"])
async def test_swaks_hands_in_a_letter(at: House, tmp_path: Path, way: str, mechanism: str) -> None:
    swaks = await _swaks()
    (tmp_path / "mail.eml").write_bytes(MAIL.replace(b"\r\n", b"\n"))
    tls = "--tls" if way == "submission" else "--tlsc"
    done = await _run(
        *(swaks, "--server", f"localhost:{at.port(way)}", tls, "--tls-verify", "--tls-ca-path", str(at.certificate)),
        *("--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD, "--from", USER),
        *("--to", "bob@example.org,carol@example.org", "--data", f"@{tmp_path / 'mail.eml'}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"<~  250 2.0.0 deposit={'d' * 32} letters={0:032x},{1:032x}" in done.stdout
    assert at.desk.stored[0].raw.startswith(MAIL)
    assert at.desk.stored[0].origin.mechanism == mechanism


async def test_swaks_hears_every_refusal(at: House) -> None:
    swaks = await _swaks()
    server = [swaks, "--server", f"localhost:{at.port()}", "--to", "bob@example.org", "--from", USER]
    wrong = await _run(*server, "--tls", "--auth", "PLAIN", "--auth-user", USER, "--auth-password", "wrong")
    assert (wrong.returncode, "<~* 535 5.7.8 " in wrong.stdout) == (28, True)
    clear = await _run(*server, "--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD)
    assert clear.returncode == 28  # no AUTH is offered in the clear
    stranger = await _run(
        swaks, "--server", f"localhost:{at.port('mx')}", "--to", "letter@gateway.example", "--from", USER
    )
    assert (stranger.returncode, "<** 550 5.7.1 " in stranger.stdout) == (24, True)
    assert not at.desk.stored


async def _curl(at: House, way: str, file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    curl = need("curl", "apt-get install curl")
    scheme = "smtps" if way == "submissions" else "smtp"
    return await _run(
        *(curl, "-sS", "-v", "--url", f"{scheme}://localhost:{at.port(way)}/client.name", "--ssl-reqd"),
        *("--cacert", str(at.certificate), "--user", f"{USER}:{PASSWORD}", "--mail-from", USER),
        *("--mail-rcpt", "bob@example.org", "-T", str(file), *more),
    )


@pytest.mark.parametrize("way", ["submission", "submissions"])
async def test_curl_hands_in_a_letter(at: House, tmp_path: Path, way: str) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL)
    done = await _curl(at, way, file)
    assert done.returncode == 0, done.stderr
    assert at.desk.stored[0].raw == MAIL


async def test_curl_with_bare_lf_is_told_how_to_do_better(at: House, tmp_path: Path) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL.replace(b"\r\n", b"\n"))
    refused = await _curl(at, "submissions", file)
    assert refused.returncode != 0
    assert "550 5.6.0 " in refused.stderr and "--crlf" in refused.stderr
    assert not at.desk.stored
    taken = await _curl(at, "submissions", file, "--crlf")
    assert taken.returncode == 0, taken.stderr
    assert at.desk.stored[0].raw.startswith(MAIL)


@pytest.mark.parametrize("way", ["submission", "submissions"])
async def test_smtplib_hands_in_a_letter_with_delivery_wishes(at: House, way: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = USER, "bob@example.org, carol@example.org", "Grüße"
    message.set_content("été\n.\n")

    def send() -> dict[str, tuple[int, bytes]]:
        context = ssl.create_default_context(cafile=str(at.certificate))
        if way == "submissions":
            client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", at.port(way), context=context, timeout=10)
        else:
            client = smtplib.SMTP("localhost", at.port(way), timeout=10)
        with client:
            if way == "submission":
                client.starttls(context=context)
            client.login(USER, PASSWORD)
            assert client.has_extn("DSN") and client.has_extn("SMTPUTF8") and not client.has_extn("CHUNKING")
            return client.send_message(
                message, mail_options=["BODY=8BITMIME", "RET=FULL"], rcpt_options=["NOTIFY=SUCCESS,FAILURE"]
            )

    assert await asyncio.to_thread(send) == {}
    envelope = at.desk.stored[0].envelope
    assert (envelope.ret, [recipient.notify for recipient in envelope.recipients]) == ("FULL", ["SUCCESS,FAILURE"] * 2)


async def test_many_clients_at_once(at: House) -> None:
    def send(n: int) -> None:
        context = ssl.create_default_context(cafile=str(at.certificate))
        with smtplib.SMTP_SSL("localhost", at.port("submissions"), context=context, timeout=10) as client:
            client.login(USER, PASSWORD)
            for part in range(3):
                client.sendmail(USER, ["bob@example.org"], f"Subject: {n}.{part}\r\n\r\n{'x' * 5000}\r\n".encode())

    with ThreadPoolExecutor(10) as clients:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(clients, send, n) for n in range(10)))
    subjects = sorted(stored.raw.split(b"\r\n")[0] for stored in at.desk.stored)
    assert subjects == sorted(f"Subject: {n}.{part}".encode() for n in range(10) for part in range(3))
