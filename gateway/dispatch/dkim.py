"""DKIM signatures on everything we send: one RSA and one Ed25519 signature per mail (RFC 6376, 8301, 8463).

Canonicalisation is dkimpy's; keys are loaded once and kept as objects, since its own signer reads PEM at each mail.
Not here: the keys themselves (proof/keys.py), verifying what others signed (intake/).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import dkim
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from dkim.canonicalization import Relaxed

from gateway.core.errors import OurFault, Unusable

RSA, ED25519 = "rsa-sha256", "ed25519-sha256"

_HEADERS = (
    "From", "To", "Cc", "Reply-To", "Sender", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "MIME-Version",
    "Content-Type", "Content-Transfer-Encoding", "Auto-Submitted", "Pli-Notice", "Pli-Letter", "Pli-Event", "Pli-State",
)  # fmt: skip
"""Signed once more than they stand in the mail, so that nobody can add one on the way (RFC 6376 8.15)."""
_LEAST_BITS = 2048


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One signing key. algorithm: RSA or ED25519. selector: the same whoever the sender of a letter is (CPCE R.53-3 I)."""

    selector: str
    algorithm: str
    key: RSAPrivateKey | Ed25519PrivateKey

    def __post_init__(self) -> None:
        wanted = {RSA: RSAPrivateKey, ED25519: Ed25519PrivateKey}.get(self.algorithm)
        if wanted is None or not isinstance(self.key, wanted):
            raise Unusable(f"DKIM key {self.selector}: {self.algorithm} does not fit a {type(self.key).__name__}")
        if isinstance(self.key, RSAPrivateKey) and self.key.key_size < _LEAST_BITS:  # RFC 8301 3.2
            raise Unusable(f"DKIM key {self.selector}: {self.key.key_size} bits are too few; make one of {_LEAST_BITS}")

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(hashlib.sha256(data).digest())  # RFC 8463 3: PureEdDSA over the SHA-256

    def record(self) -> str:
        """The text of the key's DNS record (RFC 6376 3.6.1, RFC 8463 4)."""
        public = self.key.public_key()
        if isinstance(self.key, RSAPrivateKey):
            raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={_base64(raw)}"
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={_base64(raw)}"


def dns_records(keys: Sequence[DkimKey], domains: Iterable[str]) -> list[str]:
    """What the DNS must say, as lines "name record"."""
    return [f"{key.selector}._domainkey.{domain} {key.record()}" for domain in domains for key in keys]


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with all keys. CPU-bound (about 2 ms, longer for large mails): call it in a thread."""

    keys: Sequence[DkimKey]

    def sign(self, message: bytes, domain: str, at: datetime) -> bytes:
        """*message* with a DKIM-Signature per key on top, d=*domain*, t=*at*.

        Raises OurFault for a message whose lines do not all end in CRLF: the peer would read other bytes than were signed.
        """
        endings = message.count(b"\r\n")
        if not endings == message.count(b"\n") == message.count(b"\r") or not message.endswith(b"\r\n"):
            raise OurFault(detail="a message with bare CR or LF, or without a last CRLF, cannot be signed")
        head, separator, body = message.partition(b"\r\n\r\n")
        if not separator:
            raise OurFault(detail="a message without a body cannot be signed")
        headers, _ = dkim.rfc822_parse(head + separator)
        body_hash = _base64(hashlib.sha256(Relaxed.canonicalize_body(body)).digest())
        canonical = Relaxed.canonicalize_headers(headers)
        names = _names(canonical)
        covered = _covered(canonical, names)
        made = [_header(key, domain, int(at.timestamp()), names, body_hash, covered) for key in self.keys]
        return b"".join(made) + message


def _names(canonical: Sequence[tuple[bytes, bytes]]) -> list[str]:
    present = [name for name, _ in canonical]
    return [name for name in _HEADERS for _ in range(present.count(name.lower().encode()) + 1)]


def _covered(canonical: Sequence[tuple[bytes, bytes]], names: Iterable[str]) -> bytes:
    """The signed header fields: instances of one name from bottom to top, missing ones count as empty (RFC 6376 5.4.2)."""
    left: dict[bytes, list[bytes]] = {}
    for name, value in canonical:
        left.setdefault(name, []).append(value)
    lines = []
    for name in (name.lower().encode() for name in names):
        if values := left.get(name):
            lines.append(name + b":" + values.pop())
    return b"".join(lines)


def _header(key: DkimKey, domain: str, at: int, names: Sequence[str], body_hash: str, covered: bytes) -> bytes:
    first = f"v=1; a={key.algorithm}; c=relaxed/relaxed; d={domain}; s={key.selector}; t={at};"
    value = f" {first}\r\n h={_folded(':'.join(names), ':')};\r\n bh={body_hash};\r\n b="
    [(name, unsigned)] = Relaxed.canonicalize_headers([(b"dkim-signature", value.encode("ascii"))])
    signature = _base64(key.sign(covered + name + b":" + unsigned.removesuffix(b"\r\n")))  # RFC 6376 3.7
    return f"DKIM-Signature:{value}{_folded(signature)}\r\n".encode("ascii")


def _folded(text: str, after: str = "") -> str:
    """*text* over lines of about 70 characters, broken after the sign *after*, or anywhere."""
    lines, rest = [], text
    while len(rest) > 70:
        cut = rest.rfind(after, 0, 70) + 1 if after else 70
        lines.append(rest[:cut])
        rest = rest[cut:]
    return "\r\n ".join([*lines, rest])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
