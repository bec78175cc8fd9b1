"""Senders and recipients who do not give up while a gateway is killed again and again under them, and what they saw.

A sender whose connection breaks sends the same mail again, as mail servers do. A recipient opens his notice, chooses, types the
code that was mailed, and reads; whatever breaks off he does again. Each remembers what he was told.
"""

from __future__ import annotations

import http.client
import itertools
import random
import re
import smtplib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from gateway.demo.people import Surprise, link_in, nonce_in, text_of
from tests.blackbox.drive import Site, message
from tests.blackbox.sink import Sink

_CODE = re.compile(r"^Code: ([0-9]{6})\r?$", re.MULTILINE)
_BROKEN = (OSError, http.client.HTTPException, Surprise)
"""What a client sees of a gateway that dies; smtplib's exceptions are OSError, too."""
AT_ONCE = 12
"""Letters under way at the same time."""


class Browser:
    """Cookies, no redirects: a 303 is seen as such."""

    def __init__(self, port: int) -> None:
        self._port, self._cookies = port, dict[str, str]()

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str, bytes]:
        """Status, Location and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
            if form is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, urlencode(form) if form is not None else None, headers)
            answer = connection.getresponse()
            body = answer.read()
            for line in answer.headers.get_all("Set-Cookie", []):
                name, _, value = line.partition(";")[0].partition("=")
                self._cookies[name] = value
            return answer.status, answer.headers.get("Location", ""), body
        finally:
            connection.close()


@dataclass
class Recipient:
    """One letter's recipient. The attributes are what he saw."""

    where: Site
    world: Sink
    address: str
    wish: str
    decided: bool = False  # a 303 after the code
    shown: bool = False  # the letter's page
    raw: bytes | None = None  # letter.eml
    finished: bool = False
    tired: bool = False  # no more codes within the hour
    said: list[str] = field(default_factory=list)

    def live(self, over: Callable[[], bool]) -> None:
        self.path = urlsplit(link_in(self.world.to(self.address)[0].raw)).path
        self.browser = Browser(self.where.ports["web"])
        while not (self.finished or self.tired or over()):
            try:
                self._step()
            except _BROKEN as error:
                self.said.append(repr(error))
            time.sleep(0.1)

    def _step(self) -> None:
        status, _, body = self.browser.ask("GET", self.path)
        page = body.decode()
        if status != 200:
            self.said.append(f"GET {status}")
        elif 'value="accept"' in page:
            self._choose(self.wish, nonce_in(page))
        elif self.wish == "refuse" and ('value="read"' in page or "receipt.pdf" in page):
            self.finished = True
        elif 'value="read"' in page:  # accepted, and the cookie went down with the answer
            self._choose("read", nonce_in(page))
        elif f"{self.path}/letter" in page:
            self._read()

    def _choose(self, choice: str, nonce: str) -> None:
        known = len(self._codes())
        status, _, body = self.browser.ask("POST", f"{self.path}/choice", {"choice": choice, "nonce": nonce})
        self.said.append(f"choice {status}")
        self.tired = status == 429
        if status != 200 or b'name="code"' not in body:
            return
        form = {"choice": choice, "nonce": nonce_in(body.decode())}
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for code in self._codes()[known:]:
                if self._decide({**form, "code": code}):
                    return
                known += 1
            time.sleep(0.1)
        self.said.append("no code that was right came")

    def _decide(self, form: dict[str, str]) -> bool:
        for _ in range(100):
            try:
                status, _, _ = self.browser.ask("POST", f"{self.path}/decision", form)
            except _BROKEN as error:
                self.said.append(f"decision {error!r}")
                time.sleep(0.2)
                continue
            self.said.append(f"decision {status}")
            if status == 303 and form["choice"] != "read":
                self.decided = True
            if status < 500:
                return status != 403
            time.sleep(0.2)
        return False

    def _codes(self) -> list[str]:
        """The codes that were mailed to him, oldest first; a second copy of a mail is the same code."""
        mails = {mail.message_id: mail for mail in self.world.to(self.address) if mail.message["Pli-Event"] == "code"}
        found = (_CODE.search(text_of(mail.raw)) for mail in mails.values())
        return [code[1] for code in found if code]

    def _read(self) -> None:
        status, _, _ = self.browser.ask("GET", f"{self.path}/letter")
        self.shown = self.shown or status == 200
        status, _, body = self.browser.ask("GET", f"{self.path}/letter.eml")
        if status == 200:
            self.raw, self.finished = body, True


@dataclass
class Crowd:
    """Senders that never stop, and a recipient for every notice that comes."""

    where: Site
    world: Sink
    sent: dict[str, bytes] = field(default_factory=dict)  # Message-ID to bytes
    answered: dict[str, str] = field(default_factory=dict)  # Message-ID to the 250's text
    recipients: dict[str, Recipient] = field(default_factory=dict)  # by address
    retries: int = 0
    enough: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, senders: int = 2) -> None:
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]
        self._threads.append(threading.Thread(target=self._receive))
        for thread in self._threads:
            thread.start()

    def finish(self, patience: float) -> None:
        """No new letters; returns when every recipient has come to his end, or after a while."""
        self.enough.set()
        for thread in self._threads[:-1]:
            thread.join(60)
        end = time.monotonic() + patience
        while time.monotonic() < end and not self._all_done():
            time.sleep(0.2)
        self.over.set()
        self._threads[-1].join(60)

    def give_up(self) -> None:
        self.enough.set()
        self.over.set()

    def _all_done(self) -> bool:
        done = sum(who.finished or who.tired for who in list(self.recipients.values()))
        return done >= len(self.answered)

    def _send(self) -> None:
        rng = random.Random()
        while not self.enough.is_set():
            if len(self.sent) - sum(who.finished for who in list(self.recipients.values())) > AT_ONCE:
                time.sleep(0.1)
                continue
            number = next(self._number)
            to, message_id = f"r{number}=example.net@letters.pli.test", f"<m{number}@example.org>"
            text = "x" * rng.choice((20, 3000, 70_000)) + "\n.\n..dots\n"
            raw = message(self.where.account, to, f"Letter {number}", text, message_id=message_id)
            self.sent[message_id] = raw
            while message_id not in self.answered and not self.over.is_set():
                try:
                    self.answered[message_id] = self.where.client().send([to], raw)
                except (*_BROKEN, smtplib.SMTPException):
                    self.retries += 1
                    time.sleep(0.05)

    def _receive(self) -> None:
        seen = 0
        with ThreadPoolExecutor(2 * AT_ONCE) as pool:
            while not self.over.is_set():
                mails = self.world.all()
                for mail in mails[seen:]:
                    if mail.rcpt_to.endswith("@example.net") and mail.rcpt_to not in self.recipients:
                        wish = "accept" if len(self.recipients) % 3 else "refuse"
                        who = Recipient(self.where, self.world, mail.rcpt_to, wish)
                        self.recipients[mail.rcpt_to] = who
                        pool.submit(who.live, self.over.is_set)
                seen = len(mails)
                time.sleep(0.1)
            with suppress(RuntimeError):
                pool.shutdown(cancel_futures=True)
