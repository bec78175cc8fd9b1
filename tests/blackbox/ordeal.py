"""kill -9 at random instants of whole lives of letters: deposit, notice, choice, code, decision, hand-over and proofs.

With several workers, every second time one of them dies alone; else all processes at one instant.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter

from storage.rows import LetterRow
from tests.blackbox import drive
from tests.blackbox.books import hold_against, settled_books
from tests.blackbox.drive import Site
from tests.blackbox.lives import Crowd
from tests.blackbox.sink import Sink, Taken

_ERROR = re.compile(r"level='error' event='([^']+)'")


def ordeal(where: Site, world: Sink, kills: int, workers: int) -> None:
    """Kill *where* so many times under a crowd, then hold its store against what everybody saw."""
    crowd = Crowd(where, world)
    process = where.start(workers)
    crowd.start()
    kinds: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    try:
        for number in range(kills):
            time.sleep(random.uniform(0.05, 2.5))
            errors += _errors(process)
            one = workers > 1 and number % 2 == 1
            kinds["one worker" if one else "all"] += 1
            process = _kill(where, one=one, workers=workers)
    except BaseException:
        crowd.give_up()
        raise
    crowd.finish(90)
    books = settled_books(where)
    assert process.stop() == 0
    errors += _errors(process)
    _tell(crowd, kinds, errors, world.all(), books.letters)
    hold_against(books, crowd, world)
    found = where.check()
    assert found["clean"], found["wrong"]
    assert found["letters"] == len(books.letters) >= len(crowd.answered)
    ends = Counter(row.state for row in books.letters.values())
    assert ends["handed_over"] and ends["refused"], f"nobody came to an end: {ends}"


def _kill(where: Site, *, one: bool, workers: int) -> drive.Process:
    assert where.process is not None
    found = where.process.workers()
    if one and found:
        drive.kill(random.choice(found))
        return where.process
    where.process.kill()
    return where.start(workers)


def _errors(process: drive.Process) -> Counter[str]:
    """What the gateway complained of, by the names of events; each line is told once."""
    lines = [process.said.popleft() for _ in range(len(process.said))]
    errors = [line for line in lines if _ERROR.search(line)]
    print("".join(f"{line}\n" for line in errors if "worker ended" not in line), end="")
    return Counter(found[1] for line in errors if (found := _ERROR.search(line)))


def _tell(
    crowd: Crowd, kinds: Counter[str], errors: Counter[str], mails: list[Taken], letters: dict[str, LetterRow]
) -> None:
    people = crowd.recipients.values()
    copies = Counter(mail.message_id for mail in mails)
    print(
        f"\nkills: {dict(kinds)}; {len(crowd.sent)} mails sent, {len(crowd.answered)} answered 250, {crowd.retries} retries; "
        f"{len(letters)} letters; {sum(who.decided for who in people)} decisions answered 303, "
        f"{sum(who.raw is not None for who in people)} letters read, {sum(who.tired for who in people)} out of codes; "
        f"{len(copies)} mails out, {sum(n > 1 for n in copies.values())} of them twice or more; complaints: {dict(errors)}"
    )
