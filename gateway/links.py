"""Links and typed codes: the secrets that a notice carries, derived and never stored.

A link token is HMAC-SHA-256(link key, letter id, generation), 160 bits in base32; the database holds its SHA-256. The access code
is for typing beside the notice's reference. Also here: the stateless nonces of forms, and random references.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # no 0 O 1 I L U: for reading aloud and typing
NONCE_LIFE = timedelta(hours=12)


def random_reference(length: int = 10) -> str:
    """A random reference without its hyphens; 10 characters hold 49 bits, 16 hold 78."""
    number, text = secrets.randbelow(len(_ALPHABET) ** length), ""
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        text += _ALPHABET[rest]
    return text


def grouped(reference: str, size: int = 5) -> str:
    """As printed: ABCDE-FGHJK."""
    return "-".join(reference[i : i + size] for i in range(0, len(reference), size))


def typed(text: str) -> str:
    """What a person typed for a reference or access code, in the stored form; at most 64 characters."""
    return "".join(c for c in text[:64].upper() if c in _ALPHABET)


class Links:
    """Secrets under one link key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, letter_id: str, generation: int) -> str:
        """The link token of a letter: 32 characters a-z2-7."""
        return base64.b32encode(self._mac("token", letter_id, str(generation))[:20]).decode().lower()

    def access_code(self, letter_id: str, generation: int) -> str:
        """The code to type beside the reference: 12 characters, 59 bits."""
        number = int.from_bytes(self._mac("typed", letter_id, str(generation)), "big")
        code = ""
        for _ in range(12):
            number, rest = divmod(number, len(_ALPHABET))
            code += _ALPHABET[rest]
        return code

    def nonce(self, token: str, purpose: str, now: datetime) -> str:
        """A form nonce that needs no row: an expiry and a MAC over it, the letter and the purpose."""
        expires = int((now + NONCE_LIFE).timestamp())
        return f"{expires:x}.{self._mac('nonce', token_digest(token), purpose, str(expires)).hex()[:40]}"

    def nonce_holds(self, nonce: str, token: str, purpose: str, now: datetime) -> bool:
        stamp, _, mac = nonce.partition(".")
        try:
            expires = int(stamp, 16) if len(stamp) <= 12 else 0
        except ValueError:
            return False
        wanted = self._mac("nonce", token_digest(token), purpose, str(expires)).hex()[:40]
        return hmac.compare_digest(wanted.encode(), mac.encode("utf-8", "replace")) and now.timestamp() < expires

    def code_digest(self, code_id: str, code: str) -> str:
        """How a mailed code is kept: keyed, since six digits alone could be tried out."""
        return self._mac("code", code_id, code).hex()

    def _mac(self, *parts: str) -> bytes:
        message = b"".join(len(data).to_bytes(4, "big") + data for data in (part.encode() for part in parts))
        return hmac.digest(self._key, message, "sha256")


def token_digest(token: str) -> str:
    """How a token, a session secret or a decision nonce is kept."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
