"""Arguments of SMTP commands: whatever is sent is read or refused in words, and what is read is what was written."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.intake.syntax import (
    BadSyntax,
    read_mail_parameters,
    read_path,
    read_plain,
    read_rcpt_parameters,
    unbase64,
)

_REPLY = re.compile(r"5[0-9][0-9] 5\.[0-9]{1,3}\.[0-9]{1,3} [ -~]+")
_WORDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=80)
_PIECES = st.lists(
    st.sampled_from(
        ["FROM:", "TO:", "<", ">", "@", "a", '"', "\\", " ", "SIZE=", "1", "ORCPT=", ";", "NOTIFY=", "\t", "+2B"]
    )
)


@settings(deadline=None)
@given(st.one_of(_WORDS, _PIECES.map("".join)), st.sampled_from(["FROM", "TO"]))
def test_any_argument_is_read_or_refused(argument: str, keyword: str) -> None:
    try:
        path = read_path(keyword, argument)
        assert "\x7f" not in path.address and not any(c < " " for c in path.address)
        (read_mail_parameters if keyword == "FROM" else read_rcpt_parameters)(path.parameters)
    except BadSyntax as error:
        assert _REPLY.fullmatch(error.reply)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
def test_xtext_says_what_was_encoded(text: str) -> None:
    encoded = "".join(c if c not in "+=" else f"+{ord(c):02X}" for c in text)
    assert read_mail_parameters({"ENVID": encoded}).envid == text
    assert read_rcpt_parameters({"ORCPT": f"RFC822;{encoded}"}) == (None, f"rfc822;{text}")


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_sasl_response_is_read_or_refused(response: bytes) -> None:
    assert unbase64(base64.b64encode(response).decode() or "=") == response
    try:
        read = read_plain(response)
    except BadSyntax as error:
        assert error.reply.startswith("501 5.5.2 ")
    else:
        assert "\0".join(read).encode() == response


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("TO:<jane.doe@example.org>", "jane.doe@example.org"),
        ("to: <jane.doe@example.org> NOTIFY=NEVER", "jane.doe@example.org"),
        ("TO:jane.doe@example.org NOTIFY=NEVER", "jane.doe@example.org"),
        ('TO:<"a > b"@example.org>', '"a > b"@example.org'),
        ('TO:<"@x:"@example.org>', '"@x:"@example.org'),
        ("TO:<@a.example,@b.example:jane@example.org>", "jane@example.org"),
        ("TO:<jane.doe=example.org@gateway.example>", "jane.doe=example.org@gateway.example"),
        ("TO:<>", ""),
    ],
)
def test_paths(argument: str, address: str) -> None:
    assert read_path("TO", argument).address == address


@pytest.mark.parametrize(
    "argument", ["TO:<a@b.example", "TO:a@b.example>", "TO:<a@b.example>x", "TO:<a\x00@b>", "TO:a b@c"]
)
def test_what_is_no_path(argument: str) -> None:
    with pytest.raises(BadSyntax, match=r"^5(01 5\.5\.4|53 5\.1\.3) "):
        read_path("TO", argument)


@pytest.mark.parametrize("orcpt", ["utf-8;a\\x{110000}b", "utf-8;a\\x{D800}b", "rfc822;a+00b", "rfc822;", ";a", "a"])
def test_original_recipients_that_nobody_could_write_are_refused(orcpt: str) -> None:
    with pytest.raises(BadSyntax, match=r"^501 5\.5\.4 "):
        read_rcpt_parameters({"ORCPT": orcpt})
