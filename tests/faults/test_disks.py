"""Failing and full disks under a running gateway, on every path that writes: message segments, the database's log, spools.

What was answered 250 is kept, nothing else is half kept, the peer may come back (451, or 452 for a full disk), and a disk that
is well again is enough: no restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.hurt import SYNCS, WRITES, failing_calls, filled, paths_of, small_disk
from tests.faults.scene import Scene, encoded_in, scene, until
from tests.postgres import ENGINE

beside_sqlite = pytest.mark.skipif(ENGINE != "sqlite", reason="files of SQLite; PostgreSQL keeps its own")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("disks") / "s") as made:
        made.deposit()
        yield made


@beside_sqlite
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("calls", [WRITES, SYNCS], ids=["write", "sync"])
@pytest.mark.parametrize("files", ["pli.db-wal", "blobs/*.seg"])
def test_a_file_that_cannot_be_written(gateway: Scene, files: str, calls: str, error: str) -> None:
    mails = [gateway.mail() for _ in range(3)]
    gateway.quiet()
    before = gateway.base.rows()
    answers = []
    with failing_calls(gateway.pid, calls, error, *paths_of(gateway.data, [files])):
        for message_id in mails:
            answers.append(gateway.hand_in(message_id))
    full = error == "ENOSPC" and not (calls == SYNCS and files == "pli.db-wal")
    wanted = (452, "4.3.1 ") if full else (451, "4.3.0 ")
    assert (answers[0][0], answers[0][1][:6]) == wanted
    if files == "pli.db-wal":
        assert [code for code, _ in answers] == [wanted[0]] * 3
        assert gateway.base.rows() == before
    # After a failure a segment is given up and the next mail goes to a new one, which no fault is laid on.
    assert all(code in (250, wanted[0]) for code, _ in answers)
    for message_id in mails:
        gateway.until_taken(message_id)
    gateway.clock(120)
    gateway.quiet()


@beside_sqlite
def test_a_proof_that_cannot_be_written(gateway: Scene) -> None:
    """Its mail waits. The letter itself was kept before the fault."""
    gateway.quiet()
    failed = gateway.log("mail put back")
    to = "proof@example.net"
    with gateway.base.failing("proof", "break"):  # so that no proof is made before the disk fails
        gateway.deposit(to)
        gateway.until_state(to, "notified")
        until(failed, "the proof was made")
        failed = gateway.log("proof not kept")
        with failing_calls(gateway.pid, WRITES, "EIO", *paths_of(gateway.data, ["blobs/*.seg"])):
            gateway.clock(120)
            until(failed, "the proof was kept")
    gateway.clock(120)
    gateway.quiet()


@beside_sqlite
def test_errors_that_come_and_go(gateway: Scene) -> None:
    """Every third write fails, of any file, while mails of both sizes come: spools on disk and in memory."""
    mails = [gateway.mail(text=("x" * 70 + "\n") * lines) for lines in (3, 40_000, 3, 40_000)]
    with failing_calls(gateway.pid, "pwrite64,fdatasync", "EIO", when="3+3"):
        codes = [gateway.hand_in(message_id)[0] for message_id in mails for _ in range(2)]
    assert set(codes) <= {0, 250, 451, 452}
    for message_id in mails:
        gateway.until_taken(message_id)
    gateway.clock(120)
    gateway.quiet()


def test_a_spool_that_cannot_be_written(gateway: Scene) -> None:
    """A mail beyond 2 MB waits in an unnamed file: its write fails, the reply comes after the mail's real end."""
    message_id = gateway.mail(text=("x" * 70 + "\n") * 60_000)
    with failing_calls(gateway.pid, "openat", "EIO"):
        code, text = gateway.hand_in(message_id)
    assert (code, text[:6]) == (451, "4.3.0 ")
    with failing_calls(gateway.pid, "openat", "ENOSPC"):
        code, text = gateway.hand_in(message_id)
    assert (code, text[:6]) == (452, "4.3.1 ")
    gateway.until_taken(message_id)


def test_a_full_disk(tmp_path: Path) -> None:
    """Refused before a mail travels, and after it; nothing that was taken is lost; room again is enough."""
    folder, long = tmp_path / "s", ("x" * 70 + "\n") * 3_000
    with (
        small_disk(folder / "data", "24m") as disk,
        scene(folder, env={"PLI_SMTP__MAX_BYTES": "1000000"}) as gateway,
    ):
        to = "full@example.net"
        link = gateway.letter(to)
        gateway.quiet()
        early, late = gateway.mail(text=long), gateway.mail(text=long)
        with gateway.session() as client:
            client.mail(gateway.where.account["address"])
            client.rcpt(encoded_in(gateway.sent[late]))
            client.putcmd("data")
            assert client.getreply()[0] == 354
            with filled(disk):
                code, text = gateway.hand_in(early)
                assert (code, text[:6]) == (452, "4.3.1 ")
                client.send(gateway.sent[late] + b".\r\n")
                code, said = client.getreply()
                assert gateway.get(f"http://127.0.0.1:{gateway.where.ports['web']}/healthz").status == 200
                if ENGINE == "sqlite":
                    assert (code, said[:6]) == (452, b"4.3.1 ")
                    page = gateway.choose(link, "accept")
                    assert page.status == 507
                    assert "Something went wrong on our side" in page.text
                else:
                    assert code == 250
                    page = gateway.get(link)
        for message_id in (early, late):
            gateway.until_taken(message_id)
        form = gateway.choose(link, "accept", page)
        assert gateway.decide(link, "accept", gateway.code(to), form).status == 303
        gateway.clock(120)
        gateway.quiet()


@beside_sqlite
def test_a_disk_that_becomes_read_only(gateway: Scene) -> None:
    """As the kernel makes one after an error: nothing can be opened for writing, changed or synced. Reading works again after it.

    A file system with files that are open for writing cannot be made so by hand, so the answers of the kernel are made here.
    """
    mails = [gateway.mail(text=("x" * 70 + "\n") * lines) for lines in (3, 60_000)]
    gateway.quiet()
    before = gateway.base.rows()
    with failing_calls(gateway.pid, f"openat,pwrite64,ftruncate,{SYNCS}", "EROFS"):
        for message_id in mails:
            code, text = gateway.hand_in(message_id)
            assert (code, text[:6]) == (451, "4.3.0 ")
        assert gateway.base.rows() == before
    for message_id in mails:
        gateway.until_taken(message_id)
    gateway.clock(120)
    gateway.quiet()
