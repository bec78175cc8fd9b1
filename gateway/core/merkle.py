"""The Merkle tree hash of RFC 9162 2.1.1. Not here: inclusion and consistency proofs, which come with the public log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def tree_hash(entries: Sequence[bytes]) -> bytes:
    """MTH(entries): 32 bytes; of no entries, the SHA-256 of the empty string."""
    if not entries:
        return hashlib.sha256(b"").digest()
    level = [leaf_hash(entry) for entry in entries]
    while len(level) > 1:
        # Pairing neighbours and lifting an odd last node gives the largest-power-of-two split of RFC 9162.
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
