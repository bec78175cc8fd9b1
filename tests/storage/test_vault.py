"""The vault: what was sealed opens whole, in its own place, with its own key, and in no other way."""

from __future__ import annotations

import secrets
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.vault import CHUNK, Sealed, StreamSealer, Vault, new_data_key, open_stream

VAULT = Vault(b"m" * 32, b"i" * 32)


@given(plain=st.binary(max_size=300), context=st.text(max_size=40))
def test_a_column_opens_in_its_context(plain: bytes, context: str) -> None:
    sealed = VAULT.seal(plain, context)
    assert VAULT.open(sealed, context) == plain
    assert len(plain) < 8 or plain not in sealed
    with pytest.raises(Sealed):
        VAULT.open(sealed, context + "x")


@given(plain=st.binary(max_size=60), at=st.integers(0), bit=st.integers(0, 7))
def test_any_changed_bit_of_a_column_is_seen(plain: bytes, at: int, bit: int) -> None:
    sealed = bytearray(VAULT.seal(plain, "c"))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(Sealed):
        VAULT.open(bytes(sealed), "c")


@pytest.mark.parametrize("cut", [0, 5, 12, 20])
def test_a_cut_column_is_sealed_and_no_other_error(cut: int) -> None:
    with pytest.raises(Sealed):
        VAULT.open(VAULT.seal(b"hello", "c")[:cut], "c")


def test_json_keeps_every_text() -> None:
    value = {"name": "Zoë \udcff \0 \U0001f4ee", "n": 1, "list": [None, True], "deep": {"é": 1.5}}
    assert VAULT.open_json(VAULT.seal_json(value, "c"), "c") == value


def test_other_keys_open_nothing() -> None:
    sealed, wrapped = VAULT.seal(b"x", "c"), VAULT.wrap(b"k" * 32, "d", "h")
    other = Vault(b"M" * 32, b"i" * 32)
    with pytest.raises(Sealed):
        other.open(sealed, "c")
    with pytest.raises(Sealed):
        other.unwrap(wrapped, "d", "h")


def test_a_data_key_is_wrapped_for_one_holder_of_one_deposit() -> None:
    key = new_data_key()
    wrapped = VAULT.wrap(key, "deposit", "letter")
    assert VAULT.unwrap(wrapped, "deposit", "letter") == key
    for where in (("deposit", "sender"), ("other", "letter"), ("deposit/letter", "")):
        with pytest.raises(Sealed):
            VAULT.unwrap(wrapped, *where)
    with pytest.raises(Sealed):  # a wrapped key is no column
        VAULT.open(wrapped, "deposit/letter")


def test_the_index_is_keyed_and_keeps_values_apart() -> None:
    assert VAULT.index("a", "x", "y") == VAULT.index("a", "x", "y")
    others = {
        VAULT.index("b", "x", "y"),
        VAULT.index("a", "xy"),
        VAULT.index("a", "xy", ""),
        VAULT.index("a", "", "xy"),
        Vault(b"m" * 32, b"I" * 32).index("a", "x", "y"),
    }
    assert len(others) == 5
    assert VAULT.index("a", "x", "y") not in others
    assert VAULT.index("a", "caf\udce9")  # junk in a header has an index, too


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(b"", b"i" * 32)


# -- the stream ----------------------------------------------------------------------------------------------------------


def _sealed(key: bytes, parts: list[bytes]) -> bytes:
    sealer = StreamSealer(key)
    return b"".join([*(sealer.update(part) for part in parts), sealer.finish()])


_SIZES = st.sampled_from(
    [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK]
)


@given(size=_SIZES, cuts=st.lists(st.integers(0, 3 * CHUNK), max_size=6))
def test_a_stream_opens_whole_however_it_arrived(size: int, cuts: list[int]) -> None:
    plain = (b"0123456789abcdef" * (CHUNK * 3 // 16))[:size]
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    parts = [plain[a:b] for a, b in pairwise(edges)]
    key = new_data_key()
    assert open_stream(key, _sealed(key, parts)) == plain


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_stream_that_was_tampered_with_does_not_open(size: int) -> None:
    key = new_data_key()
    sealed = _sealed(key, [secrets.token_bytes(size)])
    step = CHUNK + 16
    head, chunks = sealed[:16], [sealed[at : at + step] for at in range(16, len(sealed), step)]
    wrong = [
        sealed[:-1],
        sealed + b"\0",
        sealed + chunks[-1],
        head + b"".join(chunks[:-1]),  # the last chunk gone
        head,
        b"",
        bytes([sealed[0] ^ 1]) + sealed[1:],
        sealed[:16] + bytes([sealed[16] ^ 1]) + sealed[17:],
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
    ]
    if len(chunks) > 2:
        wrong += [head + b"".join([chunks[1], chunks[0], *chunks[2:]]), head + b"".join([chunks[0], *chunks[2:]])]
    for number, changed in enumerate(wrong):
        with pytest.raises(Sealed):
            open_stream(key, changed)
            pytest.fail(f"change {number} was not seen")
    with pytest.raises(Sealed):
        open_stream(new_data_key(), sealed)


def test_two_streams_of_one_key_do_not_mix() -> None:
    key, plain = new_data_key(), b"x" * (CHUNK + 5)
    one, two = _sealed(key, [plain]), _sealed(key, [plain])
    assert one != two
    with pytest.raises(Sealed):
        open_stream(key, one[: 16 + CHUNK + 16] + two[16 + CHUNK + 16 :])


def test_nothing_comes_out_before_a_chunk_is_known_not_to_be_the_last() -> None:
    sealer = StreamSealer(new_data_key())
    assert [len(sealer.update(part)) for part in (b"", b"x", b"x" * (CHUNK - 1), b"x")] == [16, 0, 0, CHUNK + 16]
    assert len(sealer.finish()) == 1 + 16
    assert len(StreamSealer(new_data_key()).finish()) == 16 + 16
