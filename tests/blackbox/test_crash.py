"""kill -9 at random instants while letters come in: what was answered 250 is there, once, whole; nothing else is there twice.

A sender whose connection breaks sends the same mail again, as mail servers do. PLI_CRASHES sets the number of kills.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.blackbox.drive import Site, message, pli, site
from tests.blackbox.ordeal import ordeal
from tests.blackbox.sink import Sink, Taken, sink

KILLS = int(os.environ.get("PLI_CRASHES", "6"))
SENDERS = 3


@dataclass
class Stream:
    """Senders that never stop: each takes a new mail, and sends it until a 250 comes."""

    where: Site
    sent: dict[str, bytes] = field(default_factory=dict)  # Message-ID to bytes
    answered: dict[str, str] = field(default_factory=dict)  # Message-ID to the 250's text
    retries: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        rng = random.Random()
        while not self.over.is_set():
            number = next(self._number)
            to, message_id = f"r{number}=example.net@letters.pli.test", f"<m{number}@example.org>"
            text = "x" * rng.choice((20, 3000, 70_000)) + "\n.\n..dots\n"
            raw = message(self.where.account, to, f"Letter {number}", text, message_id=message_id)
            self.sent[message_id] = raw
            while message_id not in self.answered:
                try:
                    self.answered[message_id] = self.where.client().send([to], raw)
                except OSError:  # refused or cut off: smtplib's exceptions are OSError, too
                    self.retries += 1
                    time.sleep(0.05)
                if self.over.is_set() and message_id not in self.answered:
                    return


def _deposited(where: Site) -> list[dict[str, str]]:
    done = pli("letter", "list", "--json", "--limit", "1000000", config=where.config)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.blackbox
def test_nothing_that_was_answered_250_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    with sink() as world, site(tmp_path / "s", world.port) as where:
        stream = Stream(where)
        where.start()
        senders = [threading.Thread(target=stream.run) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(KILLS):
                time.sleep(random.uniform(0.05, 1.2))
                assert where.process is not None
                where.process.kill()
                where.start()
        finally:
            time.sleep(0.5)
            stream.over.set()
            for sender in senders:
                sender.join(60)
        letters = _deposited(where)
        _each_once_and_whole(stream, letters)
        _queue_resumes(world, letters)
        if where.process is not None:
            where.process.stop()
        found = where.check()
        assert found["clean"], found["wrong"]
        assert found["letters"] == len(letters)
        print(
            f"{KILLS} kills, {len(stream.answered)} answered 250, {stream.retries} retries, {len(world.all())} mails out"
        )


@pytest.mark.blackbox
def test_whole_lives_of_letters_come_through_kill_9(tmp_path: Path) -> None:
    with sink() as world, site(tmp_path / "s", world.port) as where:
        ordeal(where, world, KILLS, workers=1)


def _each_once_and_whole(stream: Stream, letters: list[dict[str, str]]) -> None:
    by_message = defaultdict(list)
    for letter in letters:
        by_message[letter["message_id"]].append(letter)
    assert [m for m, found in by_message.items() if len(found) > 1] == [], "a mail became two letters"
    assert [m for m in stream.answered if m not in by_message] == [], "a mail that was answered 250 is gone"
    for message_id, [letter] in by_message.items():
        assert letter["sha256"] == hashlib.sha256(stream.sent[message_id]).hexdigest()
        if message_id in stream.answered:
            assert letter["letter"] in stream.answered[message_id]


def _queue_resumes(world: Sink, letters: list[dict[str, str]]) -> None:
    """Every letter's notice arrives, and a second copy after a crash is the same mail."""
    recipients = {letter["recipient"] for letter in letters}

    def all_told(mails: list[Taken]) -> bool:
        return recipients <= {mail.rcpt_to for mail in mails}

    ids = Counter((mail.rcpt_to, mail.message_id) for mail in world.wait(all_told) if mail.rcpt_to in recipients)
    several = [to for to, count in Counter(to for to, _ in ids).items() if count > 1]
    assert several == [], "a recipient got two different notices of one letter"
