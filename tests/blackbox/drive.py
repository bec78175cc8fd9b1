"""Gateways in processes of their own, driven from outside: by commands, SMTP, HTTP and the mailbox API, and by kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demo.people import Browser, Mailbox, Recipient, SmtpClient, link_in
from tests.postgres import ENGINE, new_database

ROOT = Path(__file__).resolve().parents[2]
PLI = [sys.executable, "-m", "gateway"]
PATIENCE = 40.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without any PLI_ variable of the person who runs the tests."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PLI_")}
    return {**ours, "PYTHONPATH": str(ROOT), **(more or {})}


def pli(
    *words: str, config: Path | None = None, given: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [*PLI, *(["--config", str(config)] if config else []), *words]
    return subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment(env), check=False
    )


def free_ports(number: int) -> list[int]:
    """Ports below those that the system gives to outgoing connections, one of which could take such a port meanwhile."""
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(12_000, 21_000)
        if port not in found and _is_free(port):
            found.append(port)
    return found


@dataclass
class Process:
    """A gateway in a process. ready: its ready line."""

    popen: subprocess.Popen[str]
    ready: dict[str, Any]
    said: deque[str] = field(default_factory=lambda: deque(maxlen=2000))

    reader: threading.Thread | None = None

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """kill -9, at one instant for it and all its workers."""
        with suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGSTOP)  # it starts no other worker meanwhile
        for pid in [self.popen.pid, *self.workers()]:
            kill(pid)
        self._ended()

    def workers(self) -> list[int]:
        """The process ids of its workers, those that were started again among them."""
        found = subprocess.run(["pgrep", "-P", str(self.popen.pid)], capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]

    def _ended(self) -> int:
        code = self.popen.wait(30)
        if self.reader is not None:
            self.reader.join(30)
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        return code


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def start(words: Sequence[str], config: Path | None = None, env: Mapping[str, str] | None = None) -> Process:
    """Start a command that stays up, and wait for its ready line."""
    command = [*PLI, *(["--config", str(config)] if config else []), *words]
    popen = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment(env), bufsize=1
    )
    process, answered = Process(popen, {}), threading.Event()

    def listen() -> None:
        for line in popen.stdout or ():
            process.said.append(line.rstrip("\n"))
            if line.startswith('{"ready"') and not answered.is_set():
                process.ready = json.loads(line)
                answered.set()
        answered.set()

    process.reader = threading.Thread(target=listen, daemon=True)
    process.reader.start()
    if not answered.wait(PATIENCE) or not process.ready:
        process.kill()
        raise AssertionError("the gateway did not get ready:\n" + "\n".join(process.said))
    return process


@dataclass
class Demo:
    """`pli demo` by hand, in its own folder."""

    process: Process
    folder: Path

    @property
    def url(self) -> str:
        return str(self.process.ready["urls"]["portal"])

    @property
    def ca(self) -> str:
        return str(self.process.ready["ca"])

    def port(self, name: str) -> int:
        return int(self.process.ready["ports"][name])

    def account(self, number: int = 0) -> dict[str, str]:
        return dict(self.process.ready["accounts"][number])

    def client(self, number: int = 0, *, implicit_tls: bool = True) -> SmtpClient:
        who, port = self.account(number), self.port("submissions" if implicit_tls else "submission")
        return SmtpClient("127.0.0.1", port, self.ca, who["address"], who["app_password"], implicit_tls)

    def mailbox(self, address: str) -> Mailbox:
        return Mailbox(Browser(self.url), address)

    def recipient(self, address: str) -> Recipient:
        return Recipient(Browser(self.url), self.mailbox(address))

    def deposit(
        self, to: str, *, number: int = 0, subject: str = "A letter", text: str = "Hello.\n"
    ) -> tuple[str, bytes]:
        """Send a letter to *to* by the encoded address; returns its id and the bytes that were sent."""
        encoded = f"{to.replace('@', '=')}@letters.pli.test"
        raw = message(self.account(number), encoded, subject, text)
        reply = self.client(number).send([encoded], raw)
        return reply.split("letters=")[1].strip(), raw

    def link(self, address: str) -> str:
        """The link in the first notice to *address*, once the gateway knows that the notice was taken."""
        link, end = link_in(self.mailbox(address).wait("notice")), time.monotonic() + PATIENCE
        while b'name="nonce"' not in Browser(self.url).get(link):
            assert time.monotonic() < end, "the letter's page never had a form"
            time.sleep(0.1)
        return link

    def move_clock(self, seconds: float) -> None:
        """Set the offset of the demo's clock."""
        half = self.folder / "clock.new"
        half.write_text(f"{seconds:.3f}\n")
        half.replace(self.folder / "clock")

    def config(self) -> dict[str, str]:
        """Environment under which commands see this demo's store."""
        return dict(self.process.ready.get("environment", {}))


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    base = 0
    for _ in range(20):
        base = random.randrange(21_000, 32_000)
        if all(_is_free(base + offset) for offset in (80, 465, 587, 25, 26)):
            break
    more = ["--database", new_database()] if ENGINE == "postgres" else []
    process = start(["demo", "--dir", str(folder), "--base-port", str(base), *more])
    try:
        yield Demo(process, folder)
    finally:
        if process.popen.poll() is None:
            process.stop()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def message(
    who: Mapping[str, str], to: str, subject: str, text: str, *more: str, message_id: str | None = None
) -> bytes:
    """A plain mail as a client would write it. more: further header lines."""
    lines = [
        f"From: {who['name']} <{who['address']}>",
        f"To: {to}",
        f"Subject: {subject}",
        "Date: " + time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime()),
        f"Message-ID: {message_id or f'<{os.urandom(12).hex()}@example.org>'}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        *more,
        "",
        *text.split("\n"),
    ]
    return "\r\n".join(lines).encode() + b"\r\n"


@dataclass
class Site:
    """A configured gateway (`pli run`) in *folder* that can be killed and started again, with one account."""

    folder: Path
    ports: dict[str, int]
    relay: int
    account: dict[str, str] = field(default_factory=dict)
    process: Process | None = None

    @property
    def config(self) -> Path:
        return self.folder / "pli.toml"

    @property
    def ca(self) -> str:
        return str(self.folder / "tls.pem")

    def set_up(self, *, database: str = "", more: str = "") -> None:
        """Files, keys, schema and an account, by commands alone. database: "" is one of the engine under test."""
        if not database and ENGINE == "postgres":
            database = new_database()
        self.folder.mkdir(parents=True, exist_ok=True)
        _self_signed(self.folder)
        p = self.ports
        self.config.write_text(
            f"""
[gateway]
domain = "pli.test"
letters_domain = "letters.pli.test"
notice_domain = "avis.test"
public_url = "http://127.0.0.1:{p["web"]}"
data_dir = "{self.folder}/data"
keys_dir = "{self.folder}/keys"
environment = "demo"
language = "en"
[operator]
name = "Test Post"
[database]
url = "{database}"
[smtp]
submissions = "127.0.0.1:{p["submissions"]}"
submission = "127.0.0.1:{p["submission"]}"
mx = "127.0.0.1:{p["mx"]}"
tls_cert = "{self.folder}/tls.pem"
tls_key = "{self.folder}/tls.key"
[web]
listen = "127.0.0.1:{p["web"]}"
[dispatch]
relay = "127.0.0.1:{self.relay}"
{more}
"""
        )
        (self.folder / "data").mkdir(mode=0o700, exist_ok=True)
        for words in (["keys", "init"], ["migrate"]):
            done = pli(*words, config=self.config)
            assert done.returncode == 0, done.stderr
        done = pli("account", "add", "jane.doe@example.org", "--name", "Jane Doe", "--json", config=self.config)
        assert done.returncode == 0, done.stderr
        self.account = json.loads(done.stdout)

    def start(self, workers: int = 1, /, **env: str) -> Process:
        words = ["run"] if workers == 1 else ["run", "--workers", str(workers)]
        self.process = start(words, config=self.config, env=env)
        return self.process

    def check(self) -> dict[str, Any]:
        """What `pli check` finds, while the gateway is down or up."""
        done = pli("check", "--json", config=self.config)
        assert done.returncode in (0, 1), done.stderr
        return dict(json.loads(done.stdout))

    def client(self) -> SmtpClient:
        return SmtpClient(
            "127.0.0.1", self.ports["submissions"], self.ca, self.account["address"], self.account["app_password"]
        )


@contextmanager
def site(folder: Path, relay: int, **more: str) -> Iterator[Site]:
    names = ("submissions", "submission", "mx", "web")
    made = Site(folder, dict(zip(names, free_ports(4), strict=True)), relay)
    made.set_up(**more)
    try:
        yield made
    finally:
        if made.process is not None and made.process.popen.poll() is None:
            made.process.stop()


def _self_signed(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "tls.key").chmod(0o600)
