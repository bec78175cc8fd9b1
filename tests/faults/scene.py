"""A gateway in a process with senders, recipients and the world's mail servers around it, and what must hold after any fault.

Every 250 is written down when it comes; `whole` compares the list with the store. Not here: the faults (hurt.py).
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import re
import smtplib
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from gateway.demo.people import link_in, nonce_in, text_of
from tests.blackbox.drive import Process, Site, message, pli, site, start
from tests.blackbox.sink import Sink, Taken, sink
from tests.faults.base import Base
from tests.postgres import ENGINE, Server, new_database

PATIENCE = 30.0
_CODE = re.compile(r"^Code: ([0-9]{6})\r?$", re.MULTILINE)


def until(wanted: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until *wanted* holds."""
    end = time.monotonic() + patience
    while not wanted():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@dataclass(frozen=True)
class Page:
    status: int
    text: str
    cookie: str = ""


@dataclass
class Scene:
    """One gateway. relay: where it sends everything. sent, answered: by Message-ID, the bytes and the text of the 250."""

    where: Site
    world: Sink
    base: Base
    sent: dict[str, bytes] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    _number: Iterator[int] = field(default_factory=itertools.count)
    _offset: float = 0.0

    @property
    def process(self) -> Process:
        assert self.where.process is not None
        return self.where.process

    @property
    def pid(self) -> int:
        return self.process.popen.pid

    @property
    def data(self) -> Path:
        return self.where.folder / "data"

    def clock(self, seconds: float) -> None:
        """Move the gateway's clock on by *seconds*."""
        self._offset += seconds
        half = self.where.folder / "clock.new"
        half.write_text(f"{self._offset:.3f}\n")
        half.replace(self.where.folder / "clock")

    # -- the sender ---------------------------------------------------------------------------------------------------

    def mail(self, to: str = "", text: str = "Hello.\n") -> str:
        """Write a mail to a new recipient; returns its Message-ID."""
        number = next(self._number)
        to, message_id = to or f"r{number}@example.net", f"<f{number}@example.org>"
        encoded = f"{to.replace('@', '=')}@letters.pli.test"
        self.sent[message_id] = message(self.where.account, encoded, f"Letter {number}", text, message_id=message_id)
        return message_id

    def hand_in(self, message_id: str, timeout: float = PATIENCE) -> tuple[int, str]:
        """Send a mail that was written; returns code and text of the reply that ended it (0 where the connection broke)."""
        raw = self.sent[message_id]
        try:
            with self.session(timeout) as client:
                code, text = client.mail(self.where.account["address"], ["BODY=8BITMIME"])
                if code == 250:
                    code, text = client.rcpt(encoded_in(raw))
                if code == 250:
                    code, text = client.data(raw)
        except smtplib.SMTPResponseException as error:
            code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        except OSError as error:  # refused or cut off
            return 0, str(error)
        said = text.decode("utf-8", "replace")
        if code == 250:
            self.answered[message_id] = said
        return code, said

    @contextmanager
    def session(self, timeout: float = PATIENCE) -> Iterator[smtplib.SMTP_SSL]:
        """A session that has logged in. Raises SMTPResponseException for a reply that refuses, OSError for a broken one."""
        context = ssl.create_default_context(cafile=self.where.ca)
        client = smtplib.SMTP_SSL("127.0.0.1", self.where.ports["submissions"], context=context, timeout=timeout)
        try:
            client.login(self.where.account["address"], self.where.account["app_password"])
            yield client
            client.quit()
        finally:
            client.close()

    def deposit(self, to: str = "", patience: float = PATIENCE) -> str:
        """Send a new mail until it is taken; returns its Message-ID."""
        message_id = self.mail(to)
        self.until_taken(message_id, patience)
        return message_id

    def until_taken(self, message_id: str, patience: float = PATIENCE) -> None:
        last = (0, "")
        end = time.monotonic() + patience
        while message_id not in self.answered:
            assert time.monotonic() < end, f"{message_id} was not taken within {patience:.0f} s: {last}"
            last = self.hand_in(message_id)
            assert last[0] in (0, 250) or 400 <= last[0] < 500, last
            time.sleep(0.05)

    # -- the recipient ------------------------------------------------------------------------------------------------

    def letter(self, to: str) -> str:
        """Deposit a letter to *to*, and its link once the gateway knows that the notice was taken."""
        self.deposit(to)
        link = link_in(self.mail_to(to, "notice").raw)
        until(lambda: 'name="nonce"' in self.get(link).text, f"the page of {to} never had a form")
        return link

    def mail_to(self, to: str, what: str, number: int = 1) -> Taken:
        """The *number*-th notice or code mail to an address."""
        found: list[Taken] = []

        def there() -> bool:
            mails = [mail for mail in self.world.all() if mail.rcpt_to == to]
            found[:] = [mail for mail in mails if (mail.message["Pli-Event"] == "code") == (what == "code")]
            return len(found) >= number

        until(there, f"no {what} number {number} to {to}")
        return found[number - 1]

    def get(self, url: str, cookie: str = "") -> Page:
        return self._ask("GET", url, None, cookie)

    def post(self, url: str, **form: str) -> Page:
        return self._ask("POST", url, form, "")

    def _ask(self, method: str, url: str, form: dict[str, str] | None, cookie: str) -> Page:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        headers = {
            "Accept-Language": "en",
            "Origin": f"{parts.scheme}://{parts.netloc}",
            **({"Cookie": cookie} if cookie else {}),
        }
        body = None
        if form is not None:
            headers["Content-Type"], body = "application/x-www-form-urlencoded", urllib.parse.urlencode(form)
        try:
            connection.request(method, parts.path, body, headers)
            answer = connection.getresponse()
            cookies: SimpleCookie = SimpleCookie(answer.getheader("Set-Cookie") or "")
            kept = "; ".join(f"{name}={found.value}" for name, found in cookies.items())
            return Page(answer.status, answer.read().decode("utf-8", "replace"), kept)
        finally:
            connection.close()

    def choose(self, link: str, choice: str, page: Page | None = None) -> Page:
        """Post the form of *page* (else of the letter's page as it is now)."""
        return self.post(f"{link}/choice", choice=choice, nonce=nonce_in((page or self.get(link)).text))

    def code(self, to: str, number: int = 1) -> str:
        found = _CODE.search(text_of(self.mail_to(to, "code", number).raw))
        assert found is not None
        return found[1]

    def decide(self, link: str, choice: str, code: str, form: Page) -> Page:
        return self.post(f"{link}/decision", choice=choice, code=code, nonce=nonce_in(form.text))

    # -- what must hold -----------------------------------------------------------------------------------------------

    def letters(self) -> list[dict[str, str]]:
        done = pli("letter", "list", "--json", "--limit", "1000000", config=self.where.config)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    def state(self, to: str) -> str:
        """Of the letter to an address that only one has."""
        return self.base.value(f"SELECT state FROM letter WHERE id = '{self.letter_id(to)}'")

    def letter_id(self, to: str) -> str:
        encoded = to.replace("@", "=")
        found = [said for m, said in self.answered.items() if encoded_in(self.sent[m]).startswith(f"{encoded}@")]
        return found[0].partition("letters=")[2].split(",")[0]

    def quiet(self) -> None:
        """Wait until no mail is due or on its way."""
        busy = "SELECT count(*) FROM intent WHERE state IN ('due', 'leased')"
        until(lambda: self.base.value(busy) == "0", "the queue never came to rest")

    def until_state(self, to: str, state: str) -> None:
        until(lambda: self.state(to) == state, f"the letter to {to} is not {state}")

    def whole(self) -> None:
        """Every 250 is kept, once and byte for byte; the store is what its evidence proves; nothing was left uncaught."""
        by_message: dict[str, list[dict[str, str]]] = {}
        for letter in self.letters():
            by_message.setdefault(letter["message_id"], []).append(letter)
        assert [m for m in self.answered if m not in by_message] == [], "a mail that was answered 250 is gone"
        assert [m for m, found in by_message.items() if len(found) > 1] == [], "a mail became two letters"
        for message_id, [letter] in by_message.items():
            assert letter["sha256"] == hashlib.sha256(self.sent[message_id]).hexdigest()
            if message_id in self.answered:
                assert letter["letter"] in self.answered[message_id]
        found = self.where.check()
        assert found["clean"], found["wrong"]
        self.calm()

    def calm(self) -> None:
        uncaught = ("Traceback", "was never retrieved", "Task was destroyed", "Exception in callback", "exc_info")
        said = [line for line in self.process.said if any(word in line for word in uncaught)]
        assert said == [], "\n".join(self.process.said)

    def log(self, words: str) -> Callable[[], bool]:
        """Whether a line with *words* came into the log after now."""
        before = sum(words in line for line in list(self.process.said))
        return lambda: sum(words in line for line in list(self.process.said)) > before


def encoded_in(raw: bytes) -> str:
    found = re.search(rb"^To: (\S+)\r$", raw, re.MULTILINE)
    assert found is not None
    return found[1].decode()


@contextmanager
def scene(
    folder: Path,
    *,
    more: str = "",
    relay: int = 0,
    moves: bool = True,
    env: dict[str, str] | None = None,
    server: Server | None = None,
) -> Iterator[Scene]:
    """A running gateway. relay: another port than the sink's. moves: its clock is a file that `Scene.clock` writes.

    server: a PostgreSQL of the test's own.
    """
    url = new_database(server) if ENGINE == "postgres" else ""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clock").write_text("0\n")
    clock = f'[clock]\nsource = "file:{folder}/clock"\n' if moves else ""
    with sink() as world, site(folder, relay or world.port, database=url, more=more + clock) as where:
        made = Scene(where, world, Base(url, folder / "data" / "pli.db", server))
        where.process = start(["run"], config=where.config, env=env)
        yield made
        made.whole()
        if made.process.popen.poll() is None:
            assert made.process.stop() == 0
        made.calm()
