"""The sender stays unknown until acceptance, also after a refusal (CPCE R.53-3 I): two senders' letters to one person look alike.

Everything that reaches the recipient is compared byte by byte, after ids, codes, dates and signatures were made alike.
"""

from __future__ import annotations

import re
import urllib.request
from itertools import pairwise
from typing import Any

import pytest

from gateway.demo.people import Recipient, link_in, text_of
from tests.blackbox.drive import Demo, message

pytestmark = pytest.mark.blackbox
TO = "wary@example.net"
SENDERS = (
    (0, "The matter of the blue house", "Dear Wary,\n\nI claim what is mine.\n", ()),
    (
        1,
        "Résiliation",
        "Bonjour,\n\n" + "voici un texte bien plus long. " * 200,
        ("X-Tenant: acme-corp", "Importance: high"),
    ),
)
_SECRETS = ("blue house", "plus long", "acme-corp")
_SAME: tuple[tuple[re.Pattern[bytes], bytes], ...] = tuple(
    (re.compile(pattern, re.MULTILINE | re.DOTALL), made)
    for pattern, made in (
        (rb"^DKIM-Signature:.*?(?=^\S)", b""),
        (rb"^(Date|date): [^\r\n]+", rb"\1: D"),
        (rb"/l/[a-z2-7]{32}", b"/l/TOKEN"),
        (rb"pli_[0-9a-z_-]+", b"COOKIE"),
        (rb'name="nonce"\s+value="[^"]+"', b'name="nonce" value="N"'),
        (rb"^Code: [0-9]{6}", b"Code: C"),
        (rb"\b[2-9A-HJKMNP-TV-Z]{5}-[2-9A-HJKMNP-TV-Z]{5}\b", b"REFERENCE"),
        (rb"\b[2-9A-HJKMNP-TV-Z]{4}(-[2-9A-HJKMNP-TV-Z]{4}){2}\b", b"ACCESS"),
        (rb"\b[2-9A-HJKMNP-TV-Z]{10,12}\b", b"REFERENCE"),
        (rb'value="[A-Za-z0-9_-]{32}"', b'value="NONCE"'),
        (rb"<[0-9a-f]{32}@avis\.test>", b"<ID@avis.test>"),
        (rb"[0-9a-f]{16,64}", b"HEX"),
        (rb"\b\d\d:\d\d(:\d\d)?\b", b"TIME"),
        (rb"\b[0-9]{6}\b", b"CODE"),
    )
)


def alike(raw: bytes) -> bytes:
    for pattern, made in _SAME:
        raw = pattern.sub(made, raw)
    return raw


def _page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        headers = "".join(f"{k}: {v}\n" for k, v in answer.getheaders() if k.lower() != "content-length")
        return headers.encode() + bytes(answer.read())


def _deposit(gateway: Demo, number: int, subject: str, text: str, headers: tuple[str, ...]) -> str:
    encoded = f"{TO.replace('@', '=')}@letters.pli.test"
    raw = message(gateway.account(number), encoded, subject, text, *headers)
    client = gateway.client(number, implicit_tls=number == 0)
    return client.send([encoded], raw).split("letters=")[1].strip()


def _story(gateway: Demo, number: int, plan: tuple[Any, ...]) -> dict[str, bytes]:
    """All that the recipient of one letter sees until his refusal and after it."""
    box = gateway.mailbox(TO)
    before = len([mail for mail in box.mails() if mail["event"] == "notice"])
    codes = len([mail for mail in box.mails() if mail["event"] == "code"])
    letter = _deposit(gateway, *plan)
    notice = box.wait("notice", before + 1)
    link = link_in(notice)
    gateway.mailbox(gateway.account(plan[0])["address"]).wait("notified", Pli_Letter=letter)
    seen = {"notice": notice, "page": _page(link)}
    recipient = Recipient(gateway.recipient(TO).browser, box)
    page = recipient.browser.get(link).decode()
    nonce = re.search(r'name="nonce"\s+value="([^"]+)"', page)
    assert nonce is not None
    asked = recipient.browser.post(f"{link}/choice", {"choice": "refuse", "nonce": nonce[1]})
    seen["asked"] = asked.encode()
    code_mail = box.wait("code", codes + 1)
    seen["code mail"] = code_mail
    code = re.search(r"^Code: ([0-9]{6})", text_of(code_mail), re.MULTILINE)
    nonce = re.search(r'name="nonce"\s+value="([^"]+)"', asked)
    assert code is not None
    assert nonce is not None
    form = {"choice": "refuse", "code": code[1], "nonce": nonce[1]}
    seen["refused"] = recipient.browser.post(f"{link}/decision", form).encode()
    seen["refused page"] = _page(link)
    seen["receipt mail"] = box.wait("receipt", number + 1)
    pdf = recipient.browser.get(f"{link}/receipt.pdf")
    seen["receipt"] = pdf
    return seen


def test_what_a_recipient_sees_does_not_depend_on_the_sender(gateway: Demo) -> None:
    stories = [_story(gateway, number, plan) for number, plan in enumerate(SENDERS)]
    for one, other in pairwise(stories):
        for what in one.keys() - {"receipt mail", "receipt"}:
            assert alike(one[what]) == alike(other[what]), what
    for (number, subject, _, headers), story in zip(SENDERS, stories, strict=True):
        who = gateway.account(number)
        for what, raw in story.items():
            for secret in (who["address"], who["name"], who["address"].split("@")[1], subject, *_SECRETS, *headers):
                assert secret.encode() not in raw, f"{what} says {secret}"


def test_the_receipt_of_a_refusal_does_not_name_the_sender(gateway: Demo, tmp_path: Any) -> None:
    import subprocess

    from tests.needs import need

    pdftotext = need("pdftotext", "apt-get install poppler-utils")
    story = _story(gateway, 2, SENDERS[0])
    path = tmp_path / "receipt.pdf"
    path.write_bytes(story["receipt"])
    text = subprocess.run([pdftotext, str(path), "-"], capture_output=True, text=True, check=True).stdout
    assert "refus" in text.lower()
    who = gateway.account(0)
    for secret in (who["address"], who["name"], "blue house"):
        assert secret not in text
