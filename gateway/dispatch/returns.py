"""Return addresses: the envelope sender of each mail we send names that mail, signed, so that only true bounces find it.

Not here: what a bounce says (bounce.py), what follows from it (intake/door.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

_MAC_BYTES = 12
_LOCAL = re.compile(r"r([a-z2-7]{26})([a-z2-7]{20})")
"""47 of the 64 octets that a local part may have (RFC 5321 4.5.3.1.1); one case, since some servers change it."""


class Returns:
    """Makes and reads return addresses under one key (32 bytes) at one domain."""

    def __init__(self, key: bytes, domain: str) -> None:
        self._key = key
        self._domain = domain.lower()

    def make(self, intent_id: str) -> str:
        """The return address of a mail; *intent_id* is 32 hexadecimal digits."""
        raw = bytes.fromhex(intent_id)
        if len(raw) != 16:
            raise ValueError("an intent id has 32 hexadecimal digits")
        return f"r{_letters(raw)}{self._mac(raw)}@{self._domain}"

    def read(self, address: str) -> str | None:
        """The intent id that *address* was made for, or None for every address that is not ours."""
        local, _, domain = address.lower().rpartition("@")
        found = _LOCAL.fullmatch(local)
        if found is None or domain != self._domain:
            return None
        try:
            raw = base64.b32decode(found[1].upper() + "======")
        except binascii.Error:
            return None
        if _letters(raw) != found[1]:  # two unused bits: one address, one writing
            return None
        return raw.hex() if hmac.compare_digest(self._mac(raw), found[2]) else None

    def _mac(self, raw: bytes) -> str:
        return _letters(hmac.digest(self._key, b"return address\0" + raw, hashlib.sha256)[:_MAC_BYTES])


def _letters(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()
