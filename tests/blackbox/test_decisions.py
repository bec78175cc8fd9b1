"""Who decides, and what does not: a hundred at once, link scanners, wrong codes, and late visitors."""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

import pytest

from gateway.demo.people import nonce_in, text_of
from tests.blackbox.drive import Demo

pytestmark = pytest.mark.blackbox
_CODE = re.compile(r"^Code: ([0-9]{6})\r?$", re.MULTILINE)


def _post(url: str, form: dict[str, str]) -> tuple[int, str, str | None]:
    """Status, body and session cookie of one POST, without following redirects."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        body, origin = urllib.parse.urlencode(form), f"{parts.scheme}://{parts.netloc}"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        connection.request("POST", parts.path, body, headers)
        answer = connection.getresponse()
        cookies: SimpleCookie = SimpleCookie(answer.getheader("Set-Cookie") or "")
        return answer.status, answer.read().decode(), next(iter(cookies), None)
    finally:
        connection.close()


def _get(url: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


def _code(gateway: Demo, to: str, number: int = 1) -> str:
    found = _CODE.search(text_of(gateway.mailbox(to).wait("code", number)))
    assert found is not None
    return found[1]


def _events(gateway: Demo, letter: str, event: str | None = None) -> list[dict[str, str]]:
    """The status mails of a letter."""
    box = gateway.mailbox(gateway.account()["address"])
    found = []
    for mail in box.mails():
        if f"Pli-Letter: {letter}".encode() in box.raw(mail["id"]) and event in (None, mail["event"]):
            found.append(mail)
    return found


def test_a_hundred_parallel_decisions_have_one_winner_and_one_set_of_evidence(gateway: Demo) -> None:
    to = "race@example.net"
    letter, _ = gateway.deposit(to)
    link = gateway.link(to)
    pages = {}
    # Only the code asked for last is live and it is bound to its choice, so half of the forms lie about theirs.
    for choice in ("refuse", "accept"):
        status, pages[choice], _ = _post(f"{link}/choice", {"choice": choice, "nonce": nonce_in(_get(link)[1])})
        assert status == 200
    code, results = _code(gateway, to, 2), []
    barrier = threading.Barrier(100)

    def decide(choice: str) -> None:
        barrier.wait()
        results.append(
            (choice, *_post(f"{link}/decision", {"choice": choice, "code": code, "nonce": nonce_in(pages["accept"])}))
        )

    threads = [threading.Thread(target=decide, args=("accept" if i % 2 else "refuse",)) for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 100
    assert {status for _, status, _, _ in results} <= {200, 303, 403}, Counter(status for _, status, _, _ in results)
    sessions = [choice for choice, status, _, cookie in results if cookie is not None]
    assert sessions == ["accept"], "exactly one request made the decision and opened a session"
    gateway.mailbox(gateway.account()["address"]).wait("accepted", Pli_Letter=letter)
    assert len(_events(gateway, letter, "accepted")) == 1
    assert _events(gateway, letter, "refused") == []
    # A second decision shows the first.
    status, page, cookie = _post(
        f"{link}/decision", {"choice": "refuse", "code": code, "nonce": nonce_in(pages["refuse"])}
    )
    assert (status, cookie) == (200, None)
    assert "accepted" in page.lower()


def test_what_a_link_scanner_does_changes_nothing(gateway: Demo) -> None:
    to = "scanned@example.net"
    letter, _ = gateway.deposit(to)
    link = gateway.link(to)
    gateway.mailbox(gateway.account()["address"]).wait("notified", Pli_Letter=letter)
    before = [mail["event"] for mail in _events(gateway, letter)]
    for _ in range(3):
        assert _get(link, "HEAD")[0] == 200
        status, page = _get(link)
        assert status == 200
    # It follows every link of the page, and submits every form with what the page gives.
    for path in set(re.findall(r'href="([^":]+)"', page)):
        _get(urllib.parse.urljoin(link, path))
    for path in ("letter", "letter.eml", "letter.zip", "parts/1", "receipt.pdf"):
        assert _get(f"{link}/{path}")[0] in (401, 403), path
    nonce = nonce_in(page)
    for choice in ("accept", "refuse"):
        status, asked, cookie = _post(f"{link}/choice", {"choice": choice, "nonce": nonce})
        assert (status, cookie) == (200, None)
        status, _, cookie = _post(f"{link}/decision", {"choice": choice, "code": "", "nonce": nonce_in(asked)})
        assert (status, cookie) == (403, None)
    assert [mail["event"] for mail in _events(gateway, letter)] == before
    shown = json.loads(_show(gateway, letter))
    assert shown["state"] == "notified"
    assert shown["decision"] is None
    # The person is not locked out by it.
    recipient = gateway.recipient(to)
    status, asked, _ = _post(f"{link}/choice", {"choice": "refuse", "nonce": nonce_in(_get(link)[1])})
    assert status == 200
    form = {"choice": "refuse", "code": _code(gateway, to, 3), "nonce": nonce_in(asked)}
    assert "refused" in recipient.browser.post(f"{link}/decision", form).lower()


def test_five_wrong_codes_lock_the_code_and_not_the_letter(gateway: Demo) -> None:
    to = "locked@example.net"
    gateway.deposit(to)
    link = gateway.link(to)
    _, asked, _ = _post(f"{link}/choice", {"choice": "accept", "nonce": nonce_in(_get(link)[1])})
    right = _code(gateway, to)
    wrong = f"{(int(right) + 1) % 1_000_000:06}"
    for _ in range(5):
        assert _post(f"{link}/decision", {"choice": "accept", "code": wrong, "nonce": nonce_in(asked)})[0] == 403
    assert _post(f"{link}/decision", {"choice": "accept", "code": right, "nonce": nonce_in(asked)})[0] == 403
    for number in (2, 3):
        status, asked, _ = _post(f"{link}/choice", {"choice": "accept", "nonce": nonce_in(_get(link)[1])})
        assert status == 200
        right = _code(gateway, to, number)
    # Three codes an hour.
    assert _post(f"{link}/choice", {"choice": "accept", "nonce": nonce_in(_get(link)[1])})[0] == 429
    status, _, cookie = _post(f"{link}/decision", {"choice": "accept", "code": right, "nonce": nonce_in(asked)})
    assert status == 303
    assert cookie is not None


def test_an_unknown_link_is_not_found_and_says_nothing(gateway: Demo) -> None:
    for path in ("/l/" + "a" * 32, "/l/" + "b" * 500, "/l/../../etc/passwd", "/l/%00"):
        status, page = _get(gateway.url + path)
        assert status == 404, path
        assert "Traceback" not in page


def test_a_foreign_form_is_refused(gateway: Demo) -> None:
    to = "foreign@example.net"
    gateway.deposit(to)
    link = gateway.link(to)
    assert _post(f"{link}/choice", {"choice": "accept", "nonce": "made-up"})[0] == 403
    other = "other@example.net"
    gateway.deposit(other)
    nonce = nonce_in(_get(gateway.link(other))[1])
    assert _post(f"{link}/choice", {"choice": "accept", "nonce": nonce})[0] == 403


def _show(gateway: Demo, letter: str) -> str:
    from tests.blackbox.drive import pli

    done = pli("letter", "show", letter, "--json", config=gateway.folder / "pli.toml")
    assert done.returncode == 0, done.stderr
    return done.stdout
