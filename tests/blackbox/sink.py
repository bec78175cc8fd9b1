"""The world's mail servers for a gateway under test: an SMTP server in a thread that keeps what it is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.blackbox.drive import free_ports


@dataclass(frozen=True)
class Taken:
    """A mail that the sink answered 250."""

    mail_from: str
    rcpt_to: str
    raw: bytes
    at: float

    @property
    def message(self) -> EmailMessage:
        found = message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"])


@dataclass
class Sink:
    port: int = 0
    mails: list[Taken] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        with self._lock:
            self.mails += [Taken(envelope.mail_from or "", to, content, time.time()) for to in envelope.rcpt_tos]
        return "250 2.0.0 taken"

    def all(self) -> list[Taken]:
        with self._lock:
            return list(self.mails)

    def to(self, address: str) -> list[Taken]:
        """Those to one address, oldest first."""
        return [mail for mail in self.all() if mail.rcpt_to == address]

    def wait(self, wanted: Callable[[list[Taken]], bool], patience: float = 60.0) -> list[Taken]:
        """All mails, once they are as *wanted*."""
        end = time.monotonic() + patience
        while not wanted(self.all()):
            assert time.monotonic() < end, f"{len(self.all())} mails came, and not those that were waited for"
            time.sleep(0.1)
        return self.all()


@contextmanager
def sink() -> Iterator[Sink]:
    made = Sink(free_ports(1)[0])
    controller = Controller(made, hostname="127.0.0.1", port=made.port, decode_data=False)
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
