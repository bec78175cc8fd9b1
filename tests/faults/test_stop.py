"""SIGTERM in the middle of everything, a clock that jumps, and a log that cannot be written."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.blackbox.drive import ROOT, environment
from tests.faults.scene import scene, until
from tests.needs import lacking

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def test_a_stop_in_the_middle_of_deposits_and_sends(tmp_path: Path) -> None:
    """Senders get a 250 or a 4xx, the process ends with 0 in bounded time, and the next one goes on."""
    with scene(tmp_path / "s") as gateway:
        mails = [gateway.mail(text=("x" * 70 + "\n") * 300 * (number % 3)) for number in range(24)]
        codes: list[int] = []

        def send(mine: list[str]) -> None:
            for message_id in mine:
                codes.append(gateway.hand_in(message_id)[0])

        senders = [threading.Thread(target=send, args=(mails[number::4],)) for number in range(4)]
        for sender in senders:
            sender.start()
        until(lambda: len(gateway.answered) >= 4, "nothing was taken")
        began = time.monotonic()
        assert gateway.process.stop() == 0
        assert time.monotonic() - began < 30
        for sender in senders:
            sender.join()
        assert all(code in (0, 250) or 400 <= code < 500 for code in codes), codes
        gateway.calm()
        gateway.where.start()
        for message_id in mails:
            gateway.until_taken(message_id)
        gateway.clock(120)
        gateway.quiet()
        notices = [mail for mail in gateway.world.all() if mail.rcpt_to != "jane.doe@example.org"]
        assert len({(mail.rcpt_to, mail.message_id) for mail in notices}) == len(mails), (
            "a notice under two Message-IDs"
        )


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """stderr on a full disk: nothing is written of what happens, and everything happens."""
    with scene(tmp_path / "s") as gateway:
        gateway.deposit()
        gateway.quiet()
        assert gateway.process.stop() == 0
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "gateway", "--config", str(gateway.where.config), "run"]
            silent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=full, cwd=ROOT, env=environment())
            try:
                until((gateway.data / "ready.json").exists, "it never got ready", 40)
                for _ in range(3):
                    assert gateway.hand_in(gateway.mail())[0] == 250
                gateway.deposit("silent@example.net")
                gateway.until_state("silent@example.net", "notified")
                with gateway.base.failing("intent", "break"):
                    assert gateway.hand_in(gateway.mail())[0] == 451
                gateway.deposit("after@example.net")
                gateway.until_state("after@example.net", "notified")
            finally:
                silent.send_signal(signal.SIGTERM)
                assert silent.wait(40) == 0
        gateway.where.start()


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    """Deposits are put off while the time cannot be trusted, the journal says so, and nothing else stops."""
    if not FAKETIME.exists():
        lacking("libfaketime", "apt-get install faketime")
    stamp = tmp_path / "stamp"
    stamp.write_text("+0\n")
    env = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with scene(tmp_path / "s", moves=False, env=env) as gateway:
        gateway.deposit()
        gateway.quiet()
        noticed = gateway.log("the clock jumped")
        stamp.write_text("+3600\n")
        with gateway.base.failing("journal", "break"):
            until(noticed, "nobody noticed", 60)
            code, text = gateway.hand_in(gateway.mail())
            assert (code, text[:6]) == (451, "4.3.0 ")
        assert gateway.get(f"http://127.0.0.1:{gateway.where.ports['web']}/").status == 200
        stamp.write_text("+0\n")
