"""Link tokens: the text that base64 would write, whatever way it is written."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from gateway.links import Links


@given(st.binary(min_size=32, max_size=32), st.text("0123456789abcdef", max_size=32), st.integers(1, 99))
def test_a_token_is_160_bits_of_its_mac_in_base32(key: bytes, letter_id: str, generation: int) -> None:
    links = Links(key)
    mac = links._mac("token", letter_id, str(generation))
    assert links.token(letter_id, generation) == base64.b32encode(mac[:20]).decode().lower()
