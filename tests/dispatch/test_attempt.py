"""One attempt against Postfix's smtp-sink and against servers that we watch: verdicts, TLS, parameters, what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.x509.oid import NameOID

from gateway.clock import SystemClock
from gateway.core.evidence import canonical, parse_instant
from gateway.dispatch.attempt import Outcome, Verdict, attempt
from gateway.dispatch.route import Host
from tests.dispatch.samples import TOKEN
from tests.needs import need

HERE = "127.0.0.1"
RETURN = "rabc@pli.test"
MESSAGE = b"From: a@avis.test\r\nTo: b@example.net\r\n\r\n.dot\r\n..two\r\nend\r\n"


async def send(*hosts: Host, to: str = "b@example.net", message: bytes = MESSAGE, ca: Path | None = None) -> Outcome:
    outcome = await attempt(
        hosts,
        mail_from=RETURN,
        rcpt_to=to,
        message=message,
        local_hostname="avis.test",
        ca=ca,
        clock=SystemClock(),
    )
    facts = outcome.facts()
    canonical(facts)
    assert parse_instant(facts["began_at"]) <= parse_instant(facts["ended_at"]) <= datetime.now(UTC)
    assert facts["verdict"] == outcome.verdict.value
    return outcome


async def close(server: asyncio.Server) -> None:
    server.close()
    await asyncio.sleep(0.05)  # its connections see that the peer has gone


def free_port() -> int:
    with socket.create_server((HERE, 0)) as found:
        return int(found.getsockname()[1])


@asynccontextmanager
async def smtp_sink(*options: str) -> AsyncIterator[Host]:
    program, port = need("smtp-sink", "apt-get install postfix"), free_port()
    command = [program, "-u", "nobody", *options, f"{HERE}:{port}", "10"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection(HERE, port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.02)
        yield Host("sink.test", HERE, port)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    ("options", "verdict", "reason"),
    [
        ((), Verdict.TAKEN, r"250 .*"),
        (("-B", "550 5.1.1 no such user", "-f", "RCPT"), Verdict.PERMANENT, "550 5.1.1 no such user"),
        (("-b", "451 4.7.1 greylisted", "-r", "DATA"), Verdict.TEMPORARY, "451 4.7.1 greylisted"),
        (("-b", "450 4.7.1 greylisted", "-r", "RCPT"), Verdict.TEMPORARY, "450 4.7.1 greylisted"),
        (("-B", "554 5.7.1 spam", "-f", "."), Verdict.PERMANENT, "554 5.7.1 spam"),
        (("-B", "550 5.7.1 no", "-f", "MAIL"), Verdict.PERMANENT, "550 5.7.1 no"),
        (("-B", "554 5.7.1 go away", "-f", "CONNECT"), Verdict.TEMPORARY, "554 5.7.1 go away"),
        (("-q", "RCPT"), Verdict.TEMPORARY, ".+"),
        (("-q", "DATA"), Verdict.TEMPORARY, ".+"),
        (("-q", "."), Verdict.UNKNOWN, ".+"),
        (("-e",), Verdict.TAKEN, r"250 .*"),  # knows no EHLO
    ],
)
async def test_what_postfix_s_sink_does(options: tuple[str, ...], verdict: Verdict, reason: str) -> None:
    async with smtp_sink(*options) as host:
        outcome = await send(host)
    assert outcome.verdict is verdict
    facts = outcome.facts()
    assert re.fullmatch(reason, facts["reason"]), facts
    assert (facts["host"], facts["address"], facts["port"], facts["via"]) == host
    assert facts["tls"] is None


async def test_a_relay_is_called_one() -> None:
    async with smtp_sink() as host:
        assert (await send(host)).facts()["via"] == "mx"
        assert (await send(host._replace(via="relay"))).facts()["via"] == "relay"


async def test_the_next_host_is_tried_until_one_decides() -> None:
    nobody = Host("nobody.test", HERE, free_port())
    async with smtp_sink("-b", "450 4.7.1 later", "-r", "RCPT") as soft, smtp_sink() as good, smtp_sink() as never:
        outcome = await send(nobody, soft, good, never)
    assert outcome.verdict is Verdict.TAKEN
    facts = outcome.facts()
    assert facts["port"] == good.port
    assert [(one["port"], one["reason"][:3]) for one in facts["tried"]] == [
        (nobody.port, facts["tried"][0]["reason"][:3]),
        (soft.port, "450"),
    ]
    async with smtp_sink("-q", ".") as vanishes, smtp_sink() as good:
        outcome = await send(vanishes, good)
    assert outcome.verdict is Verdict.UNKNOWN, "a mail that may have been taken goes nowhere else"
    assert (await send(nobody)).verdict is Verdict.TEMPORARY


# -- a server that we watch -----------------------------------------------------------------------------------------------


class _Smtp(SMTP):
    """Notes its commands, and offers and understands DSN."""

    watch: Watch

    async def smtp_EHLO(self, hostname: str) -> None:
        await super().smtp_EHLO(hostname)

    async def smtp_MAIL(self, arg: str | None = None) -> None:
        self.watch.commands.append(f"MAIL {arg}")
        await super().smtp_MAIL(re.sub(r" (?:RET|ENVID)=\S+", "", arg or ""))

    async def smtp_RCPT(self, arg: str | None = None) -> None:
        self.watch.commands.append(f"RCPT {arg}")
        await super().smtp_RCPT(re.sub(r" (?:NOTIFY|ORCPT)=\S+", "", arg or ""))


@dataclass
class Watch:
    dsn: bool = True
    eight_bit: bool = True
    break_tls: bool = False
    answer: str = "250 2.0.0 OK"
    commands: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    tls: list[bool] = field(default_factory=list)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        offered = [line for line in responses if self.eight_bit or "8BITMIME" not in line]
        return [*offered[:-1], *(["250-DSN"] if self.dsn else []), offered[-1]]

    def handle_STARTTLS(self, server: SMTP, session: Session, envelope: Envelope) -> bool:
        return True

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.contents.append(envelope.original_content or b"")
        self.tls.append(session.ssl is not None)
        return self.answer


@asynccontextmanager
async def watched(watch: Watch, tls: ssl.SSLContext | None = None, *, utf8: bool = True) -> AsyncIterator[Host]:
    def session() -> SMTP:
        made = _Smtp(watch, enable_SMTPUTF8=utf8, hostname="mx.test", tls_context=tls, loop=asyncio.get_running_loop())
        made.watch = watch
        return made

    server = await asyncio.get_running_loop().create_server(session, HERE, 0)
    try:
        yield Host("mx.test", HERE, server.sockets[0].getsockname()[1])
    finally:
        await close(server)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for *name*, and the file to trust it with."""
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(IPv4Address(HERE))])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context, pem


async def test_the_bytes_arrive_as_they_were_and_the_replies_are_kept() -> None:
    watch = Watch()
    async with watched(watch) as host:
        facts = (await send(host)).facts()
    assert watch.contents == [MESSAGE]
    assert [(reply["command"], reply["code"]) for reply in facts["replies"]] == [
        ("", 220), ("EHLO", 250), ("MAIL", 250), ("RCPT", 250), ("DATA", 354), (".", 250),
    ]  # fmt: skip
    assert "dsn" in facts["extensions"]
    assert facts["reason"] == "250 2.0.0 OK"


async def test_parameters_are_those_that_the_server_offers() -> None:
    watch = Watch()
    async with watched(watch) as host:
        await send(host, to="a+b@example.net")
    mail, rcpt = watch.commands
    assert mail == f"MAIL FROM:<{RETURN}> SIZE={len(MESSAGE)} RET=HDRS ENVID=rabc"
    assert rcpt == "RCPT TO:<a+b@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb@example.net"
    plain = Watch(dsn=False)
    async with watched(plain) as host:
        await send(host)
    assert plain.commands == [f"MAIL FROM:<{RETURN}> SIZE={len(MESSAGE)}", "RCPT TO:<b@example.net>"]


async def test_eight_bit_mail_and_international_addresses_need_a_server_that_knows_them() -> None:
    eight = MESSAGE + "été\r\n".encode()
    watch = Watch()
    async with watched(watch) as host:
        assert (await send(host, message=eight)).verdict is Verdict.TAKEN
        assert (await send(host, message=eight, to="jös@example.net")).verdict is Verdict.TAKEN
    assert watch.contents == [eight, eight]
    assert "BODY=8BITMIME" in watch.commands[0]
    assert "SMTPUTF8" not in watch.commands[0]
    assert "BODY=8BITMIME SMTPUTF8" in watch.commands[2]
    assert watch.commands[3] == "RCPT TO:<jös@example.net> NOTIFY=FAILURE,DELAY"
    old = Watch(eight_bit=False)
    async with watched(old, utf8=False) as host:
        outcome = await send(host, message=eight)
        assert (outcome.verdict, outcome.facts()["reason"][:9]) == (Verdict.PERMANENT, "554 5.6.3")
        outcome = await send(host, to="jös@example.net")
        assert (outcome.verdict, outcome.facts()["reason"][:9]) == (Verdict.PERMANENT, "553 5.6.7")
    assert not old.commands


async def test_tls_is_used_unverified_and_recorded_so(tmp_path: Path) -> None:
    context, _ = certificate(tmp_path, "mx.test")
    watch = Watch()
    async with watched(watch, context) as host:
        facts = (await send(host)).facts()
    assert watch.tls == [True]
    assert facts["tls"]["version"] == "TLSv1.3"
    assert facts["tls"]["verified"] is None
    assert re.fullmatch("[0-9a-f]{64}", facts["tls"]["certificate_sha256"])
    assert facts["tls_trouble"] == []


@pytest.mark.parametrize(("name", "verified"), [("mx.test", True), ("other.test", False)])
async def test_with_trust_anchors_verification_is_recorded_and_never_demanded(
    tmp_path: Path, name: str, verified: bool
) -> None:
    context, pem = certificate(tmp_path, name)
    watch = Watch()
    async with watched(watch, context) as host:
        outcome = await send(host, ca=pem)
    assert outcome.verdict is Verdict.TAKEN
    assert len(watch.contents) == 1
    facts = outcome.facts()
    assert facts["tls"]["verified"] is verified
    assert len(facts["tls_trouble"]) == (0 if verified else 1)


async def test_a_handshake_that_fails_ends_in_plaintext_on_the_record(tmp_path: Path) -> None:
    context, pem = certificate(tmp_path, "mx.test")
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # does not fit its key
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    watch = Watch()
    async with watched(watch, context) as host:
        outcome = await send(host, ca=pem)
    assert outcome.verdict is Verdict.TAKEN
    assert watch.tls == [False]
    facts = outcome.facts()
    assert facts["tls"] is None
    assert len(facts["tls_trouble"]) == 2


async def _scripted(replies: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the client may leave at any point
            await _talk(replies, reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _talk(replies: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mx.test\r\n")
    while line := (await reader.readline()).decode().strip():
        verb = line.split(" ")[0].split(":")[0].upper()
        writer.write(replies.get(verb, "250 OK").encode("utf-8", "surrogateescape") + b"\r\n")
        if verb == "DATA":
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(replies.get(".", "250 2.0.0 OK").encode() + b"\r\n")
        if verb == "QUIT":
            break


@asynccontextmanager
async def scripted(**replies: str) -> AsyncIterator[Host]:
    answers: dict[str, str] = {"DATA": "354 go on", "QUIT": "221 bye"} | {
        k.replace("DOT", "."): v for k, v in replies.items()
    }
    server = await asyncio.start_server(lambda r, w: _scripted(answers, r, w), HERE, 0)
    try:
        yield Host("mx.test", HERE, server.sockets[0].getsockname()[1])
    finally:
        await close(server)


async def test_starttls_offered_and_refused_goes_on_in_plaintext() -> None:
    async with scripted(EHLO="250-mx.test\r\n250 STARTTLS", STARTTLS="454 4.7.0 not now") as host:
        outcome = await send(host)
    assert outcome.verdict is Verdict.TAKEN
    facts: dict[str, Any] = outcome.facts()
    assert facts["tls"] is None
    assert {"command": "STARTTLS", "code": 454, "text": "4.7.0 not now"} in facts["replies"]


@pytest.mark.parametrize(
    ("replies", "verdict"),
    [
        ({"MAIL": "530 5.7.0 Must issue a STARTTLS command first"}, Verdict.TEMPORARY),
        ({"MAIL": "421 4.3.2 shutting down"}, Verdict.TEMPORARY),
        ({"DATA": "250 what"}, Verdict.TEMPORARY),
        ({"RCPT": "nonsense"}, Verdict.TEMPORARY),
        ({"DOT": "nonsense"}, Verdict.UNKNOWN),
        ({"DOT": "354 more"}, Verdict.UNKNOWN),
        ({"DOT": "421 4.3.2 shutting down"}, Verdict.TEMPORARY),
        ({"QUIT": "nonsense"}, Verdict.TAKEN),
    ],
)
async def test_odd_replies(replies: dict[str, str], verdict: Verdict) -> None:
    async with scripted(**replies) as host:
        assert (await send(host)).verdict is verdict


async def test_replies_are_bounded_and_bring_no_secret_into_the_record() -> None:
    text = f"554 5.7.1 https://pli.test/l/{TOKEN} is listed \udce9\x1b[31m {'x' * 3000}"
    async with scripted(DOT=text.replace("\udce9", "?"), RCPT=f"250 ok \udce9 {TOKEN}") as host:
        outcome = await send(host)
    assert outcome.verdict is Verdict.PERMANENT
    assert TOKEN not in str(outcome.facts())
    assert all(len(reply["text"]) <= 500 for reply in outcome.facts()["replies"])


async def test_a_peer_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, HERE, 0)
    try:
        monkeypatch.setattr("gateway.dispatch.dialogue._CONNECT", 0.2)
        host = Host("mx.test", HERE, server.sockets[0].getsockname()[1])
        assert (await send(host)).verdict is Verdict.TEMPORARY
        monkeypatch.setattr("gateway.dispatch.dialogue._CONNECT", 60)
        monkeypatch.setattr("gateway.dispatch.attempt._BUDGET", 0.2)
        outcome = await send(host, host, host)
        assert outcome.verdict is Verdict.TEMPORARY
        assert outcome.facts()["reason"] == "no time left"
    finally:
        await close(server)
