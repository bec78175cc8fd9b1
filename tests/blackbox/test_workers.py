"""`pli run --workers N`: one ready line, shared ports, a dead worker comes back, and none outlives the supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox import drive
from tests.blackbox.books import hold_against, settled_books
from tests.blackbox.drive import Site, message, pli, site
from tests.blackbox.lives import Crowd
from tests.blackbox.sink import Sink, sink
from tests.postgres import new_database

pytestmark = pytest.mark.blackbox


@pytest.fixture(scope="module")
def world() -> Iterator[Sink]:
    with sink() as made:
        yield made


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, world: Sink) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("workers") / "s", world.port, database=new_database()) as made:
        yield made


def _until(what: Callable[[], bool], patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_two_workers_share_the_work_and_do_every_piece_of_it_once(where: Site, world: Sink) -> None:
    process = where.start(2)
    assert process.ready["pid"] == process.popen.pid
    assert sorted(process.ready["workers"]) == sorted(process.workers())
    assert json.loads((where.folder / "data" / "ready.json").read_text()) == process.ready
    crowd = Crowd(where, world)
    crowd.start(senders=3)
    time.sleep(6)
    crowd.finish(60)
    books = settled_books(where)
    said = "\n".join(process.said)
    assert process.stop() == 0
    assert not (where.folder / "data" / "ready.json").exists()
    hold_against(books, crowd, world)
    copies = Counter(mail.message_id for mail in world.all())
    assert copies and set(copies.values()) == {1}, "a mail was claimed twice"
    assert len(books.letters) == len(crowd.answered) > 3
    for pid in process.ready["workers"]:
        for event in ("deposit", "mail"):
            assert f"event='{event}'" in "".join(line for line in said.split("\n") if f"worker={pid}" in line)
    assert where.check()["clean"]


def test_a_worker_that_dies_is_started_again_and_nobody_outlives_the_supervisor(where: Site) -> None:
    process = where.start(2)
    first, second = process.ready["workers"]
    drive.kill(first)
    ready = where.folder / "data" / "ready.json"
    _until(lambda: first not in json.loads(ready.read_text())["workers"])
    again = json.loads(ready.read_text())
    assert second in again["workers"] and len(again["workers"]) == 2
    assert again["pid"] == process.popen.pid
    assert any("event='worker ended'" in line for line in process.said)
    workers = process.workers()
    process.popen.kill()
    process._ended()
    _until(lambda: not any(map(_alive, workers)))


def test_ctrl_c_stops_all_of_them(where: Site) -> None:
    process = where.start(3)
    workers = process.workers()
    process.popen.send_signal(signal.SIGINT)
    assert process._ended() == 0
    assert len(workers) == 3 and not any(map(_alive, workers))


def test_any_free_port_is_the_same_for_all_workers(where: Site, world: Sink) -> None:
    ports = {"PLI_SMTP__SUBMISSIONS": "127.0.0.1:0", "PLI_WEB__LISTEN": "127.0.0.1:0"}
    process = drive.start(["run", "--workers", "2"], config=where.config, env=ports)
    try:
        listening = Path("/proc/net/tcp").read_text().split("\n")
        for name in ("submissions", "web"):
            at = f"0100007F:{process.ready['ports'][name]:04X} 00000000:0000 0A"
            assert sum(at in line for line in listening) == 2, "each worker listens, and the supervisor does not"
    finally:
        assert process.stop() == 0


def test_leases_of_a_killed_worker_pass_on_at_once(where: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a server that never greets: mails stay under way
        process = where.start(2, PLI_DISPATCH__RELAY=f"127.0.0.1:{silent.getsockname()[1]}")
        try:
            to = "stuck=example.net@letters.pli.test"
            where.client().send([to], message(where.account, to, "Stuck", "Hello\n"))
            time.sleep(1)
            for pid in process.workers():
                drive.kill(pid)
            _until(lambda: any("leases of a dead process freed" in line for line in process.said))
        finally:
            process.kill()


def test_what_cannot_start_is_said_once_and_ends_all(where: Site, tmp_path: Path) -> None:
    refused = pli("run", "--workers", "2", config=where.config, env={"PLI_DATABASE__URL": f"sqlite:{tmp_path}/pli.db"})
    assert refused.returncode == 2 and "SQLite takes one process" in refused.stderr and "postgres://" in refused.stderr
    with socket.create_server(("127.0.0.1", where.ports["mx"])):
        taken = pli("run", "--workers", "2", config=where.config)
    assert taken.returncode == 2 and f"[smtp] mx: 127.0.0.1:{where.ports['mx']} is taken" in taken.stderr
    empty = pli("run", "--workers", "2", config=where.config, env={"PLI_DATABASE__URL": new_database()})
    assert empty.returncode == 2 and empty.stderr.count("pli migrate") == 1, empty.stderr
    assert empty.stdout == "" and "Traceback" not in empty.stderr
    assert os.listdir(where.folder / "data").count("ready.json") == 0
