"""Peers that hang, drop, or trickle, in both directions: the others are served, and what was promised is kept."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.blackbox.drive import free_ports
from tests.faults.hurt import cpu_seconds, descriptors, few_files
from tests.faults.scene import Scene, encoded_in, scene, until

STAGES = ("connected", "greeted", "ehlo", "mail", "rcpt", "data", "dotted")


@dataclass
class Bad:
    """A mail server that stops answering at *stage*, or hangs up there, until it is told to be good.

    dotted: the whole mail was taken, and no reply comes. calls: Message-IDs of the mails that came whole, by how often.
    """

    stage: str = ""
    hangs_up: bool = False
    good: threading.Event = field(default_factory=threading.Event)
    calls: Counter[str] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def turn_bad(self, stage: str, *, hangs_up: bool) -> None:
        self.stage, self.hangs_up = stage, hangs_up
        self.good.clear()

    def serve(self, listening: socket.socket) -> None:
        while not self.over.is_set():
            with suppress(TimeoutError):
                peer, _ = listening.accept()
                threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        peer.settimeout(30)
        with suppress(OSError), peer, peer.makefile("rwb") as file:

            def say(stage: str, reply: bytes) -> None:
                if stage == self.stage and not self.good.is_set():
                    if self.hangs_up:
                        raise ConnectionError
                    self.over.wait()
                    raise ConnectionError
                file.write(reply + b"\r\n")
                file.flush()

            say("connected", b"220 bad.test ESMTP")
            for line in file:
                verb = line[:4].upper()
                if verb == b"EHLO":
                    say("greeted", b"250 bad.test")
                elif verb == b"MAIL":
                    say("mail", b"250 ok")
                elif verb == b"RCPT":
                    say("rcpt", b"250 ok")
                elif verb == b"DATA":
                    say("data", b"354 go on")
                    for content in file:
                        if content == b".\r\n":
                            break
                        if content.lower().startswith(b"message-id:"):
                            self.calls[content.split(b":", 1)[1].strip().decode()] += 1
                    say("dotted", b"250 taken")
                elif verb == b"QUIT":
                    say("quit", b"221 bye")
                    return


@contextmanager
def bad() -> Iterator[Bad]:
    made = Bad()
    with socket.create_server(("127.0.0.1", made.port)) as listening:
        listening.settimeout(0.2)
        server = threading.Thread(target=made.serve, args=(listening,), daemon=True)
        server.start()
        try:
            yield made
        finally:
            made.over.set()
            server.join(5)


@dataclass
class Facing:
    """A gateway whose only way out is a bad server."""

    server: Bad
    gateway: Scene


@pytest.fixture(scope="module")
def facing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facing]:
    with bad() as server, scene(tmp_path_factory.mktemp("bad") / "s", relay=server.port) as made:
        yield Facing(server, made)


@pytest.mark.parametrize("stage", ["connected", "greeted", "rcpt", "data", "dotted"])
def test_a_mail_server_that_hangs_up(facing: Facing, stage: str) -> None:
    """Tried again, under the same Message-ID: after the final dot nobody knows whether it was taken, and it may come twice."""
    server, gateway = facing.server, facing.gateway
    server.turn_bad(stage, hangs_up=True)
    to = f"{stage}@example.net"
    tried = gateway.log("verdict='unknown'" if stage == "dotted" else "verdict='temporary'")
    gateway.deposit(to)
    until(tried, "nothing was tried")
    assert gateway.state(to) == "deposited"
    server.good.set()
    gateway.clock(400)
    gateway.until_state(to, "notified")
    gateway.clock(400)
    gateway.quiet()
    assert len(server.calls) == owed(gateway), "a mail left under two Message-IDs"
    assert max(server.calls.values()) <= (2 if stage == "dotted" else 1)


@pytest.mark.parametrize("stage", ["connected", "dotted"])
def test_mail_servers_that_hang_do_not_keep_the_others_waiting(facing: Facing, stage: str) -> None:
    """Letters to servers that never answer, while everything else goes its way; and stopping takes a bounded time."""
    server, gateway = facing.server, facing.gateway
    server.turn_bad(stage, hangs_up=False)
    for _ in range(3):
        gateway.deposit()
    until(lambda: leased(gateway) >= 3, "nothing was tried")
    server.good.set()  # for whoever calls now; those that hang go on hanging
    to = f"well-{stage}@example.net"
    gateway.deposit(to)
    gateway.until_state(to, "notified")
    began = time.monotonic()
    assert gateway.process.stop() == 0
    assert time.monotonic() - began < 30
    gateway.calm()
    gateway.where.start()
    gateway.clock(1000)
    until(lambda: gateway.base.value("SELECT count(*) FROM letter WHERE state <> 'notified'") == "0", "letters wait")
    gateway.quiet()
    assert len(server.calls) == owed(gateway), "a mail left under two Message-IDs"


def owed(gateway: Scene) -> int:
    return int(gateway.base.value("SELECT count(*) FROM intent"))


def leased(gateway: Scene) -> int:
    return int(gateway.base.value("SELECT count(*) FROM intent WHERE state = 'leased'"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("peers") / "s", env={"PLI_SMTP__TIMEOUT": "6"}) as made:
        yield made


def _drop(client: socket.socket, *, rudely: bool) -> None:
    if rudely:  # RST instead of FIN
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()


@pytest.mark.parametrize("rudely", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_sender_that_drops(gateway: Scene, stage: str, rudely: bool) -> None:
    """Before the final dot nothing is a deposit; after it it is one, heard or not. A retry makes no second."""
    message_id = gateway.mail(text="x" * 60_000 + "\n")
    raw = gateway.sent[message_id]
    deposits = int(gateway.base.value("SELECT count(*) FROM deposit"))
    context = ssl.create_default_context(cafile=gateway.where.ca)
    with socket.create_connection(("127.0.0.1", gateway.where.ports["submissions"]), timeout=20) as plain:
        if stage == "connected":
            _drop(plain, rudely=rudely)
        else:
            client = context.wrap_socket(plain, server_hostname="127.0.0.1")
            _talk_until(gateway, client, stage, raw)
            _drop(client, rudely=rudely)
    if stage == "dotted" and not rudely:  # a reset may take the end of the mail with it
        until(
            lambda: int(gateway.base.value("SELECT count(*) FROM deposit")) == deposits + 1, "the deposit was forgotten"
        )
    time.sleep(0.2)
    assert gateway.hand_in(message_id)[0] == 250
    assert int(gateway.base.value("SELECT count(*) FROM deposit")) == deposits + 1


def _talk_until(gateway: Scene, client: ssl.SSLSocket, stage: str, raw: bytes) -> None:
    import base64

    who = gateway.where.account
    login = base64.b64encode(f"\0{who['address']}\0{who['app_password']}".encode())
    lines = [
        ("greeted", b""),
        ("ehlo", b"EHLO client.test\r\n"),
        ("", b"AUTH PLAIN " + login + b"\r\n"),
        ("mail", f"MAIL FROM:<{who['address']}>\r\n".encode()),
        ("rcpt", f"RCPT TO:<{encoded_in(raw)}>\r\n".encode()),
        ("", b"DATA\r\n"),
    ]
    for name, line in lines:
        client.sendall(line)
        client.recv(4096)
        if name == stage:
            return
    client.sendall(raw[:30_000] if stage == "data" else raw + b".\r\n")


def test_senders_that_trickle(gateway: Scene) -> None:
    """A hundred octets of silence cost a sender his session (421 4.4.2), and nobody else his."""
    address = ("127.0.0.1", gateway.where.ports["submission"])
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(10)]
        began = time.monotonic()
        gateway.deposit()
        assert time.monotonic() - began < 5
        until(lambda: all(_trickled(client) for client in slow), "a slow sender was never let go", 30)
    gateway.deposit()


def _trickled(client: socket.socket) -> bool:
    """Send one octet; whether the other side has ended the session."""
    try:
        client.send(b"E")
        time.sleep(0.05)
        client.settimeout(0.01)
        while found := client.recv(4096):
            if b"421 4.4.2" in found:
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_visitors_that_trickle(gateway: Scene) -> None:
    """A request that never ends is cut off; pages go on being served meanwhile."""
    port = gateway.where.ports["web"]
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(20)]
    for client in slow:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
    assert gateway.get(f"http://127.0.0.1:{port}/").status == 200
    for client in slow:
        client.settimeout(60)
        with suppress(ConnectionError):
            while client.recv(4096):
                pass
        client.close()
    assert gateway.get(f"http://127.0.0.1:{port}/").status == 200


def test_few_descriptors(gateway: Scene) -> None:
    """Where no connection can be accepted for want of descriptors nothing spins, and who waited is served afterwards."""
    gateway.quiet()
    message_id = gateway.mail()
    until(lambda: descriptors(gateway.pid) < 40, "sessions of earlier tests never ended")
    ports = [gateway.where.ports[name] for name in ("submission", "web", "mx", "submissions") for _ in range(12)]
    with few_files(gateway.pid, 40):
        with ExitStack() as stack:
            for port in ports:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            time.sleep(1)
            before = cpu_seconds(gateway.pid)
            time.sleep(3)
            assert cpu_seconds(gateway.pid) - before < 1.5, "it spins"
            # 250 where a session of an earlier test has ended meanwhile and left its descriptor.
            assert gateway.hand_in(message_id, timeout=3)[0] in (0, 250, 421, 451, 452)
        # The connections are gone, and with them the want.
        gateway.until_taken(message_id, 30)
    gateway.deposit()
    assert gateway.get(f"http://127.0.0.1:{gateway.where.ports['web']}/healthz").status == 200
