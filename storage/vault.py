"""Encryption at rest: columns, keyed indexes, data keys and the message stream, all AES-256-GCM and HMAC-SHA-256.

The vault holds keys given to it as bytes; where they live is not its business. Every ciphertext is bound to a context (table,
column, row), so that a row cannot be moved under another identity unnoticed.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterator
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 65536
"""Plaintext bytes in one authenticated chunk of a stream."""
_TAG = 16
_NONCE = 12
_STREAM_SALT = 16
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)
"""Kept, as json.dumps would make one for each value."""


class Sealed(Exception):
    """A ciphertext that does not open: wrong key, wrong place, or changed bytes."""


class Vault:
    """Keys in use. master and index: 32 bytes each."""

    def __init__(self, master: bytes, index: bytes) -> None:
        if len(master) != 32 or len(index) != 32:
            raise ValueError("vault keys have 32 bytes")
        self._columns = AESGCM(_derive(master, b"columns"))
        self._wrapping = AESGCM(_derive(master, b"wrapping"))
        self._index = index

    def seal(self, plain: bytes, context: str) -> bytes:
        return _encrypt(self._columns, plain, context)

    def open(self, sealed: bytes, context: str) -> bytes:
        return _decrypt(self._columns, sealed, context)

    def seal_json(self, value: object, context: str) -> bytes:
        return _encrypt(self._columns, _JSON.encode(value).encode(), context)

    def open_json(self, sealed: bytes, context: str) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.open(sealed, context)))

    def index(self, kind: str, *values: str) -> str:
        """A keyed digest to look *values* up by; hexadecimal. Without the key nobody can test a guess."""
        message = kind.encode()
        for value in values:
            data = value.encode("utf-8", "surrogatepass")
            message += len(data).to_bytes(8, "big") + data
        return hmac.digest(self._index, message, "sha256").hex()

    def wrap(self, data_key: bytes, deposit_id: str, holder: str) -> bytes:
        return _encrypt(self._wrapping, data_key, f"{deposit_id}/{holder}")

    def unwrap(self, wrapped: bytes, deposit_id: str, holder: str) -> bytes:
        return _decrypt(self._wrapping, wrapped, f"{deposit_id}/{holder}")


def new_data_key() -> bytes:
    return os.urandom(32)


class StreamSealer:
    """Encrypts a stream in chunks (the STREAM construction: counter nonces, a last-chunk mark, a key for this stream alone)."""

    def __init__(self, data_key: bytes) -> None:
        self._salt = os.urandom(_STREAM_SALT)
        self._aead = AESGCM(_stream_key(data_key, self._salt))
        self._counter = 0
        self._pending = bytearray()
        self._begun = False

    def update(self, data: bytes) -> bytes:
        """Take plaintext; return what ciphertext is complete."""
        self._pending += data
        if len(self._pending) <= CHUNK:  # nothing is complete yet, as in most mails to their end
            return self._begin()
        out = bytearray(self._begin())
        # A full chunk waits until more follows: only then it is known not to be the last.
        whole = (len(self._pending) - 1) // CHUNK * CHUNK
        with memoryview(self._pending) as view:
            for at in range(0, whole, CHUNK):
                out += self._chunk(view[at : at + CHUNK], last=False)
        del self._pending[:whole]
        return bytes(out)

    def finish(self) -> bytes:
        return self._begin() + self._chunk(self._pending, last=True)

    def _begin(self) -> bytes:
        """What goes before the next piece: the salt before the first."""
        head, self._begun = b"" if self._begun else self._salt, True
        return head

    def _chunk(self, plain: bytes | bytearray | memoryview, *, last: bool) -> bytes:
        sealed = self._aead.encrypt(_stream_nonce(self._counter, last=last), plain, None)
        self._counter += 1
        return sealed


def open_stream(data_key: bytes, sealed: bytes) -> bytes:
    """The plaintext of a whole stream; raises Sealed for any change, cut or reordering."""
    return b"".join(_open_chunks(data_key, sealed))


def _open_chunks(data_key: bytes, sealed: bytes) -> Iterator[bytes]:
    if len(sealed) < _STREAM_SALT + _TAG:
        raise Sealed("the stream is cut")
    aead = AESGCM(_stream_key(data_key, sealed[:_STREAM_SALT]))
    at, counter, size = _STREAM_SALT, 0, CHUNK + _TAG
    while at < len(sealed):
        chunk, at = sealed[at : at + size], at + size
        try:
            yield aead.decrypt(_stream_nonce(counter, last=at >= len(sealed)), chunk, None)
        except InvalidTag as error:
            raise Sealed(f"chunk {counter} of the stream does not open") from error
        counter += 1


def _stream_key(data_key: bytes, salt: bytes) -> bytes:
    return hmac.digest(data_key, b"pli stream" + salt, "sha256")


def _stream_nonce(counter: int, *, last: bool) -> bytes:
    return counter.to_bytes(_NONCE - 1, "big") + (b"\x01" if last else b"\x00")


def _derive(master: bytes, purpose: bytes) -> bytes:
    return hmac.digest(master, b"pli " + purpose, "sha256")


def _encrypt(aead: AESGCM, plain: bytes, context: str) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + aead.encrypt(nonce, plain, context.encode())


def _decrypt(aead: AESGCM, sealed: bytes, context: str) -> bytes:
    if len(sealed) < _NONCE + _TAG:
        raise Sealed(f"{context} is cut")
    try:
        return aead.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
    except InvalidTag as error:
        raise Sealed(f"{context} does not open") from error
