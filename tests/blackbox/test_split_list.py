"""A long list of recipients that a relay splits: parts of one mail on parallel connections are one deposit, each letter once.

Postfix splits at 50 recipients (smtp_destination_recipient_limit) and sends each part again until it hears 250. Here the gateway
dies in the middle, too (kill -9).
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest

from tests.blackbox.drive import Site, message, pli, site
from tests.blackbox.sink import sink

pytestmark = pytest.mark.blackbox
ROUNDS = 3
_QUIET = {"PLI_DISPATCH__CONCURRENCY": "0"}
"""The mails that these letters owe are another matter."""


def _parts(number: int) -> list[list[str]]:
    names = [f"list{number}.r{n}=example.net@letters.pli.test" for n in range(130)]
    return [names[:50], names[50:100], names[100:]]


def _send(where: Site, part: list[str], raw: bytes, replies: list[str]) -> None:
    """As a relay does: until a 250 comes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            replies.append(where.client().send(part, raw))
            return
        except OSError:  # refused, cut off or deferred: smtplib's exceptions are OSError, too
            time.sleep(0.02)


def test_parts_of_a_list_are_one_deposit_though_the_gateway_dies(tmp_path: Path) -> None:
    with sink() as world, site(tmp_path / "s", world.port) as where:
        where.start(**_QUIET)
        for number in range(ROUNDS):
            raw = message(where.account, "members@example.org", f"List {number}", "Hello, all.\n")
            replies: list[list[str]] = [[], [], []]
            senders = [
                threading.Thread(target=_send, args=(where, part, raw, kept))
                for part, kept in zip(_parts(number), replies, strict=True)
            ]
            for sender in senders:
                sender.start()
            time.sleep(random.uniform(0, 0.4))
            assert where.process is not None
            where.process.kill()
            where.start(**_QUIET)
            for sender in senders:
                sender.join(90)
            assert all(replies), "a part was never taken"
            again = [where.client().send(part, raw) for part in _parts(number)]  # as after a 250 that was lost
            assert again == [kept[0] for kept in replies]
        _each_once(where)
        assert where.process is not None
        where.process.stop()
        assert where.check()["clean"]


def _each_once(where: Site) -> None:
    done = pli("letter", "list", "--json", "--limit", "100000", config=where.config)
    assert done.returncode == 0, done.stderr
    letters = json.loads(done.stdout)
    for number in range(ROUNDS):
        of_it = [letter for letter in letters if letter["recipient"].startswith(f"list{number}.")]
        assert len({letter["deposit"] for letter in of_it}) == 1
        assert len(of_it) == len({letter["recipient"] for letter in of_it}) == 130
    assert len(letters) == ROUNDS * 130
