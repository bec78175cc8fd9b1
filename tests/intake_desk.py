"""A desk for the SMTP listener's tests: real spools and a real blob store, a post office of a few lines, real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.core.errors import BadPassword, BadRecipient, Deferred, NullMx, Refused, Stranger
from gateway.intake.desk import Account, Envelope, Origin, Receipt
from gateway.intake.listener import Listeners
from gateway.sections import HostPort, Smtp
from storage.blobs import Blobs, Spool

ALICE = Account(
    "a1", frozenset({"alice@customer.example", "sales@customer.example", "élise@xn--bcher-kva.example"}), "Alice"
)
PASSWORD = "correct-horse-battery-staple"
HOST = "gateway.example"


@dataclass(frozen=True)
class Stored:
    envelope: Envelope
    origin: Origin
    raw: bytes


@dataclass
class TestDesk:
    """Implements gateway.intake.desk.Desk. hold: awaited within each deposit; trouble: raised by it."""

    __test__ = False

    blobs: Blobs
    stored: list[Stored] = field(default_factory=list)
    returned: list[tuple[str, bytes, Origin]] = field(default_factory=list)
    spools: list[Spool] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: Exception | None = None
    no_spool: Exception | None = None
    kept_bytes: bool = True

    async def authenticate(self, username: str, password: str) -> Account:
        if (username.lower(), password) != ("alice@customer.example", PASSWORD):
            raise BadPassword
        return ALICE

    async def check_recipient(self, account: Account, address: str) -> None:
        if address.startswith("junk"):
            raise BadRecipient
        if address.endswith("@nomail.example"):
            raise NullMx
        if address.startswith("crash"):
            raise ValueError("secret /var/lib/path")

    def check_recipients(self, account: Account, recipients: Sequence[str]) -> None:
        if recipients == ["relay@elsewhere.example"]:
            raise Stranger

    def spool(self) -> Spool:
        if self.no_spool is not None:
            raise self.no_spool
        self.spools.append(self.blobs.spool())
        return self.spools[-1]

    async def deposit(self, account: Account, envelope: Envelope, origin: Origin, spool: Spool) -> Receipt:
        self.began.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.trouble is not None:
            raise self.trouble
        data_key, digest = spool.data_key, spool.sha256
        reference = await self.blobs.keep(spool)
        if self.kept_bytes:
            raw = await self.blobs.read(reference, data_key)
            assert hashlib.sha256(raw).hexdigest() == digest
            assert len(raw) == spool.size
            self.stored.append(Stored(envelope, origin, raw))
        letters = tuple(f"{n:032x}" for n in range(len(envelope.recipients)))
        return Receipt("d" * 32, letters, held=envelope.recipients[0].address.startswith("held"))

    async def refused(
        self, account: Account, envelope: Envelope, origin: Origin, spool: Spool | None, error: Refused
    ) -> None:
        self.rejected.append(error.smtp_reply)

    def is_return_address(self, address: str) -> bool:
        return address.startswith("b+")

    async def take_return(self, address: str, raw: bytes, origin: Origin) -> None:
        if address.startswith("b+early"):
            raise Deferred
        self.returned.append((address, raw, origin))


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


def make_certificate(folder: Path, name: str = "smtp", days: int = 30) -> tuple[Path, Path]:
    """A self-signed certificate for localhost: (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.{HOST}")])
    start = datetime.now(UTC) - timedelta(days=60)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@dataclass
class House:
    """Listeners that run, their desk, and ways to connect."""

    listeners: Listeners
    desk: TestDesk
    certificate: Path

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def port(self, name: str = "submission") -> int:
        return self.listeners.ports[name]

    async def connect(self, name: str) -> Peer:
        secured: dict[str, Any] = {"ssl": self.trust, "server_hostname": "localhost"} if name == "submissions" else {}
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port(name), **secured)
        return Peer(reader, writer, self.trust)


@dataclass
class Peer:
    """The other end of an SMTP connection, by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    trust: ssl.SSLContext

    async def hear(self) -> str:
        """One whole reply, its lines joined by newlines; "" where the connection is closed."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return "\n".join(lines)

    async def line(self) -> str:
        """The next line; "" where the connection is closed."""
        return (await asyncio.wait_for(self.reader.readline(), 10)).decode().removesuffix("\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def say(self, line: str | bytes) -> str:
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return await self.hear()

    async def start_tls(self) -> None:
        assert (await self.say("STARTTLS")).startswith("220")
        await self.handshake()

    async def handshake(self) -> None:
        await self.writer.start_tls(self.trust, server_hostname="localhost")

    async def log_in(self) -> None:
        assert (await self.say("EHLO client.example")).startswith("250")
        assert (await self.say(plain())).startswith("235")

    async def begin(self, *recipients: str) -> None:
        assert (await self.say("MAIL FROM:<alice@customer.example>")).startswith("250")
        for recipient in recipients or ("bob@example.org",):
            assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await self.say("DATA")).startswith("354")

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), 5)


def plain(password: str = PASSWORD, identity: str = "", user: str = "alice@customer.example") -> str:
    import base64

    return "AUTH PLAIN " + base64.b64encode(f"{identity}\0{user}\0{password}".encode()).decode()


@asynccontextmanager
async def house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """Three listeners on free ports of this machine; settings: those of [smtp]."""
    certificate, key = make_certificate(folder)
    here = HostPort("127.0.0.1", 0)
    smtp = Smtp(submissions=here, submission=here, mx=here, tls_cert=certificate, tls_key=key).model_copy(
        update={"max_bytes": 1_000_000, "max_recipients": 5, "timeout": 10, **settings}
    )
    blobs = Blobs(folder / "blobs")
    blobs.open()
    desk = TestDesk(blobs)
    listeners = Listeners(smtp, desk, Now(), hostname=HOST)
    await listeners.start()
    try:
        yield House(listeners, desk, certificate)
    finally:
        if desk.hold is not None:
            desk.hold.set()
        await listeners.stop(grace=2)
        blobs.close()
