"""The Merkle tree hash, against the vectors that the reference log published (RFC 6962 2.1, kept by RFC 9162 2.1.1)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.merkle import leaf_hash, tree_hash

ENTRIES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                                            "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_known_roots(size: int) -> None:
    assert tree_hash(ENTRIES[:size]).hex() == ROOTS[size]


def _by_the_letter(entries: list[bytes]) -> bytes:
    """RFC 9162 2.1.1 as it is written: split at the largest power of two below the size."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\1" + _by_the_letter(entries[:k]) + _by_the_letter(entries[k:])).digest()


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_is_the_recursion_of_the_rfc(entries: list[bytes]) -> None:
    assert tree_hash(entries) == _by_the_letter(entries)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_node_is_no_leaf(left: bytes, right: bytes) -> None:
    """Else an inner node could be shown as an entry (second preimage)."""
    assert tree_hash([left, right]) != leaf_hash(leaf_hash(left) + leaf_hash(right))
