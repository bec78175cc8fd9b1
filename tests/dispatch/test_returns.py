"""Return addresses name one mail, cannot be made by others, and survive what servers do to them."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dispatch.returns import Returns

RETURNS = Returns(b"k" * 32, "pli.test")


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_what_is_made_is_read_in_any_case(raw: bytes) -> None:
    address = RETURNS.make(raw.hex())
    local, _, domain = address.partition("@")
    assert len(local) <= 64
    assert domain == "pli.test"
    assert RETURNS.read(address) == RETURNS.read(address.upper()) == raw.hex()


def test_every_changed_sign_makes_it_nobodys() -> None:
    address = RETURNS.make(secrets.token_hex(16))
    for place in range(address.index("@")):
        for sign in "abcdefghijklmnopqrstuvwxyz234567":
            changed = address[:place] + sign + address[place + 1 :]
            assert changed == address or RETURNS.read(changed) is None


def test_other_keys_and_domains_do_not_read_it() -> None:
    address = RETURNS.make("0f" * 16)
    assert Returns(b"x" * 32, "pli.test").read(address) is None
    assert Returns(b"k" * 32, "other.test").read(address) is None
    assert RETURNS.read(address.replace("pli.test", "evil.test")) is None


@settings(deadline=None)
@given(st.text())
def test_foreign_addresses_are_nobodys(text: str) -> None:
    assert RETURNS.read(text) is None
    assert RETURNS.read(f"{text}@pli.test") is None


def test_only_an_intent_id_makes_an_address() -> None:
    for wrong in ("", "xyz", "0f" * 15):
        with pytest.raises(ValueError):
            RETURNS.make(wrong)
