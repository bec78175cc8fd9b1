"""The database is locked by somebody, restarted, or gone for a while: 451 meanwhile, and then all goes on by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.blackbox.drive import pli
from tests.faults.hurt import locked
from tests.faults.scene import Page, Scene, scene, until
from tests.postgres import ENGINE, private_server

on_sqlite = pytest.mark.skipif(ENGINE != "sqlite", reason="a lock on SQLite's file")
on_postgres = pytest.mark.skipif(ENGINE != "postgres", reason="PostgreSQL's server")


def _away(gateway: Scene, link: str, form: Page) -> None:
    """What peers and visitors see while the database cannot be used."""
    code, text = gateway.hand_in(gateway.mail(), timeout=60)
    assert (code, text[:6]) == (451, "4.3.0 "), text
    page = gateway.choose(link, "accept", form)
    assert page.status == 503
    assert "Something went wrong on our side" in page.text


@on_sqlite
def test_a_lock_longer_than_the_patience(tmp_path: Path) -> None:
    with scene(tmp_path / "s") as gateway:
        to = "locked@example.net"
        link = gateway.letter(to)
        form = gateway.get(link)
        gateway.quiet()
        before = gateway.base.rows()
        with locked(gateway.data / "pli.db"):
            _away(gateway, link, form)
        assert gateway.base.rows() == before
        for message_id in gateway.sent:
            gateway.until_taken(message_id)
        form = gateway.choose(link, "accept", form)
        assert gateway.decide(link, "accept", gateway.code(to), form).status == 303
        gateway.clock(120)
        gateway.quiet()
        # A short lock is waited for: commands that write beside the running gateway cost no deposit, and the queue no mail.
        locks = sum("database is locked" in line for line in gateway.process.said)
        for number in range(3):
            with locked(gateway.data / "pli.db"):
                time.sleep(0.3)
            done = pli("account", "add", f"a{number}@example.org", "--name", "John Roe", config=gateway.where.config)
            assert done.returncode == 0, done.stderr
            assert gateway.hand_in(gateway.mail())[0] == 250
        gateway.quiet()
        assert sum("database is locked" in line for line in gateway.process.said) == locks


@on_postgres
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts(tmp_path: Path, mode: str) -> None:
    """immediate: as after a crash of the server. Sessions are cut in the middle; at the most one answer each is a 451."""
    server = private_server()
    with scene(tmp_path / "s", server=server) as gateway:
        link = gateway.letter("restart@example.net")
        for _ in range(2):
            gateway.quiet()
            server.restart(mode)
            gateway.until_taken(gateway.mail())
            gateway.clock(120)
        assert gateway.get(link).status == 200
        gateway.quiet()


@on_postgres
def test_a_server_that_is_gone_for_a_minute(tmp_path: Path) -> None:
    server = private_server()
    with scene(tmp_path / "s", server=server) as gateway:
        to = "gone@example.net"
        link = gateway.letter(to)
        form = gateway.get(link)
        gateway.quiet()
        waiting = gateway.deposit()
        server.stop("immediate")
        began = time.monotonic()
        for _ in range(2):
            _away(gateway, link, form)
        assert time.monotonic() - began < 60
        assert gateway.get(f"http://127.0.0.1:{gateway.where.ports['web']}/healthz").status == 503
        time.sleep(max(0.0, began + 60 - time.monotonic()))
        server.start()
        assert waiting in gateway.answered
        for message_id in gateway.sent:
            gateway.until_taken(message_id)
        until(lambda: gateway.get(link).status == 200, "the portal never came back")
        form = gateway.choose(link, "accept", form)
        assert gateway.decide(link, "accept", gateway.code(to), form).status == 303
        gateway.clock(120)
        gateway.quiet()
