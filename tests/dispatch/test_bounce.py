"""Bounces in due form are read, other mails mean nothing, and no input harms the reader or brings a secret in."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.evidence import canonical
from gateway.demo.mailbox import bounce_message
from gateway.dispatch.bounce import DELAYED, DELIVERED, FAILED, OTHER, read_bounce
from tests.dispatch.samples import TOKEN
from tests.needs import need_shared

GOOD = bounce_message("r@pli.test", "jane@example.net", datetime(2026, 11, 25, tzinfo=UTC))


def report(*lines: str, type_: str = "message/delivery-status", encoding: str = "7bit") -> bytes:
    head = (
        "From: MAILER-DAEMON@mx.test\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nsorry\r\n"
        f"--b\r\nContent-Type: {type_}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return (head + "\r\n".join(lines) + "\r\n--b--\r\n").encode()


def test_a_plain_bounce() -> None:
    bounce = read_bounce(GOOD)
    assert bounce.verdict == FAILED
    assert bounce.facts() == {
        "verdict": FAILED,
        "action": "failed",
        "status": "5.2.1",
        "diagnostic": "smtp; 550 5.2.1 The mailbox is disabled",
        "reporting_mta": "dns; mailbox.test",
        "remote_mta": None,
    }


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ("failed", FAILED),
        ("Failed", FAILED),
        ("delayed", DELAYED),
        ("delivered", DELIVERED),
        ("relayed", OTHER),
        ("expanded", OTHER),
    ],
)
def test_actions(action: str, verdict: str) -> None:
    raw = report("Reporting-MTA: dns; mx.test", "", f"Action: {action}", "Status: 5.0.0 (why)")
    assert read_bounce(raw).verdict == verdict
    assert read_bounce(raw).status == "5.0.0"
    assert read_bounce(raw.replace(b"\r\n", b"\n")).verdict == verdict


def test_variants_of_the_form() -> None:
    body = [
        "Reporting-MTA: dns; mx.test",
        "",
        "Final-Recipient: utf-8; jös@example.net",
        "Action: failed",
        "Status: 5.1.1",
    ]
    assert read_bounce(report(*body, type_="message/global-delivery-status")).verdict == FAILED
    assert (
        read_bounce(report("UmVwb3J0aW5nLU1UQTogZG5zOyBtCgpBY3Rpb246IGZhaWxlZAo=", encoding="base64")).verdict == FAILED
    )
    assert (
        read_bounce(
            report("Reporting-MTA: dns; m", "", "", " ", "Action:=20failed", encoding="quoted-printable")
        ).verdict
        == FAILED
    )
    # one recipient that failed counts, whoever stands before him
    two = report("Reporting-MTA: dns; m", "", "Action: delayed", "Status: 4.0.0", "", "Action: failed", "Status: 5.0.0")
    assert read_bounce(two).verdict == FAILED
    assert read_bounce(report("Reporting-MTA: dns; m", "", "Status: 5.1.1")).verdict == FAILED
    assert read_bounce(report("Reporting-MTA: dns; m", "", "Status: 4.1.1")).verdict == OTHER


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"Subject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        b"Content-Type: text/plain\r\n\r\n" + GOOD,
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n"
        + GOOD
        + b"\r\n--x--\r\n",
        b"Content-Type: multipart/report\r\n\r\nno boundary",
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n--b--",
        report("nothing here"),
    ],
)
def test_what_is_no_bounce_means_nothing(raw: bytes) -> None:
    assert read_bounce(raw).verdict == OTHER


def test_diagnostics_are_bounded_and_without_secrets() -> None:
    link = f"https://pli.test/l/{TOKEN}"
    raw = report("Reporting-MTA: dns; m", "", "Action: failed", f"Diagnostic-Code: smtp; 554 {link} {'x ' * 5000}\x00")
    bounce = read_bounce(raw)
    assert bounce.diagnostic is not None
    assert TOKEN not in str(bounce.facts())
    assert len(bounce.diagnostic) <= 500


_HEAD = b"Content-Type: multipart/report; boundary=b"
_EVIL = {
    "semicolons in quotes": _HEAD + b'; x="' + b";" * 240_000 + b"\r\n\r\n",
    "parameters without values": _HEAD + b"; " + b"a;" * 120_000 + b"\r\n\r\n",
    "parameters in pieces": _HEAD + b"".join(b"; p%d*%d*=a" % (n, n) for n in range(20_000)) + b"\r\n\r\n",
    "parts of semicolons": _HEAD
    + b"\r\n\r\n"
    + (b'--b\r\nContent-Type: multipart/mixed; boundary=c; x="' + b";" * 60_000 + b"\r\n\r\n\r\n") * 4,
    "blank lines": _HEAD + b"\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" + b"a: b\r\n \r\n" * 30_000,
    "blanks": b"\n" + b" " * 250_000,
    "boundaries and blanks": _HEAD + b"\r\n\r\n" + (b"\n--b" + b" " * 300 + b"x") * 800,
}


@pytest.mark.parametrize("name", _EVIL)
def test_no_bounce_takes_long(name: str) -> None:
    """One mail to a return address must not hold up anything."""
    begin = time.process_time()
    read_bounce(_EVIL[name])
    assert time.process_time() - begin < 0.5


def test_many_parts_and_depth_end_soon() -> None:
    nested = b"".join(b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" for _ in range(20_000))
    assert read_bounce(b"Content-Type: multipart/report; boundary=b\r\n\r\n" + nested).verdict == OTHER
    many = b"--b\r\n\r\nx\r\n" * 20_000
    assert read_bounce(b"Content-Type: multipart/report; boundary=b\r\n\r\n" + many).verdict == OTHER


@settings(deadline=None)
@given(st.lists(st.sampled_from(GOOD.split(b"\r\n")) | st.binary(max_size=30), max_size=40))
def test_no_input_breaks_the_reader(lines: list[bytes]) -> None:
    canonical(read_bounce(b"\r\n".join(lines)).facts())


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3))
def test_no_damage_breaks_the_reader(place: int, junk: bytes) -> None:
    canonical(read_bounce(GOOD[:place] + junk + GOOD[place + 1 :]).facts())


def test_bounces_of_others_from_the_corpus() -> None:
    folder = need_shared("corpora") / "enmime"
    found = {path.name: read_bounce(path.read_bytes()) for path in sorted(folder.glob("testdata-*dsn*"))}
    assert {name: bounce.verdict for name, bounce in found.items()} == {
        "testdata-delayed_dsn.raw": DELAYED,
        "testdata-dsn_with_multipart_alternative.raw": FAILED,
        "testdata-multi_recipient_dsn.raw": FAILED,
        "testdata-simple_dsn.raw": FAILED,
        "testdata-simple_dsn_with_html.raw": FAILED,
    }
    assert found["testdata-dsn_with_multipart_alternative.raw"].status == "5.1.10"


def test_ordinary_mails_of_the_corpus_are_no_bounces() -> None:
    folder = need_shared("corpora") / "enmime"
    mails = [path for path in folder.glob("*.raw") if not path.name.startswith("testdata-")]
    assert len(mails) > 50
    assert {read_bounce(path.read_bytes()).verdict for path in mails} == {OTHER}
