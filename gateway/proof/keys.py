"""The keys of a gateway: made once, by `pli keys init` alone, and loaded at start or not at all.

keys_dir holds five secrets, two DKIM keys, a small certification authority of the gateway's own and the seal that it certified.
Keys are loaded once and kept as objects (reading an RSA key from PEM proves it each time, 50 ms and more).
Not here: sealing (seal.py), DKIM signatures (dispatch/dkim.py), what the secrets protect (storage/vault.py, links.py).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from gateway.core.errors import Unusable
from gateway.dispatch.dkim import ED25519, RSA, DkimKey, dns_records
from gateway.proof import authority, keyfiles
from gateway.proof.seal import Seal

_SECRETS = ("master", "index", "link", "returns", "password")
_SECRET_BYTES = 32
_DKIM = (("pli-rsa", RSA), ("pli-ed25519", ED25519))
"""Selector and algorithm; the file is dkim-<selector>.pem."""
_CA, _CA_KEY, _SEAL, _SEAL_KEY = "ca.pem", "ca.key.pem", "seal.pem", "seal.key.pem"
_SERVER, _SERVER_KEY = "server.pem", "server.key.pem"
_MEND = "make all keys with `pli keys init`, or put the copy of the folder back"

_Private = RSAPrivateKey | Ed25519PrivateKey | EllipticCurvePrivateKey


@dataclass(frozen=True, repr=False)
class Keys:
    """All keys of a running gateway. The secrets have 32 bytes each; a repr shows none of them."""

    master: bytes
    index: bytes
    link: bytes
    returns: bytes
    password: bytes
    dkim: tuple[DkimKey, ...]
    seal: Seal

    def __repr__(self) -> str:
        return f"Keys(seal={self.seal.fingerprint})"


def init(keys_dir: Path, *, domain: str, notice_domain: str, operator: str, not_before: datetime, demo: bool) -> None:
    """Make everything that keys_dir holds, durable when this returns. Raises Unusable where some of it exists.

    not_before: from when the certificates are valid. DKIM keys serve both domains alike, so that neither tells the sender.
    ca.key.pem may be moved to a safe place afterwards: only another certificate needs it.
    """
    if domain == notice_domain:
        raise Unusable("[gateway] notice_domain: must differ from domain; notices must not name the senders' domain")
    names = [*_secret_files(), *_dkim_files(), _CA, _CA_KEY, _SEAL, _SEAL_KEY]
    if there := [name for name in names if (keys_dir / name).exists()]:
        raise Unusable(
            f"[gateway] keys_dir: {keys_dir} holds {', '.join(there)} already; keys are made once."
            " If no letter was ever taken with them, empty the folder and try again"
        )
    root = authority.make_ca(operator, not_before, demo=demo)
    seal = authority.issue_seal(root, operator, domain, not_before, demo=demo)
    files = {file: secrets.token_hex(_SECRET_BYTES).encode() + b"\n" for file in _secret_files()}
    files |= {
        f"dkim-{selector}.pem": authority.private_pem(
            rsa.generate_private_key(65537, 2048) if algorithm == RSA else Ed25519PrivateKey.generate()
        )
        for selector, algorithm in _DKIM
    }
    files |= {_CA_KEY: authority.private_pem(root.key), _SEAL_KEY: authority.private_pem(seal.key)}
    files |= {_CA: authority.pem(root.certificate), _SEAL: authority.pem(seal.certificate)}
    keyfiles.write_new(keys_dir, files)


def load(keys_dir: Path, data_dir: Path, now: datetime) -> Keys:
    """All keys, held to their form. Raises Unusable naming the file and the mend."""
    _check_place(keys_dir, data_dir)
    values = {name: _secret(keys_dir / file) for name, file in zip(_SECRETS, _secret_files(), strict=True)}
    if len(set(values.values())) != len(values):
        raise Unusable(f"[gateway] keys_dir: two secrets in {keys_dir} are the same; {_MEND}")
    dkim = tuple(_dkim(keys_dir, selector, algorithm) for selector, algorithm in _DKIM)
    return Keys(**values, dkim=dkim, seal=_seal(keys_dir, now))


def show(keys_dir: Path) -> list[dict[str, Any]]:
    """What there is, a row each: name, kind, fingerprint (SHA-256, of public keys for key pairs), validity; never a secret."""
    rows = []
    for name, file in zip(_SECRETS, _secret_files(), strict=True):
        digest = hashlib.sha256(b"pli-fingerprint\0" + _secret(keys_dir / file)).hexdigest()[:16]
        rows.append(_row(name, "secret, 256 bits", digest))
    for selector, algorithm in _DKIM:
        key = _dkim(keys_dir, selector, algorithm)
        rows.append(_row(f"dkim {selector}", key.algorithm, authority.key_fingerprint(key.key.public_key())))
    for name, file in (("authority", _CA), ("seal", _SEAL)):
        for certificate in _certificates(keys_dir / file)[:1]:
            kind = f"certificate of {authority.common_name(certificate)}"
            dates = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
            rows.append(_row(name, kind, authority.fingerprint(certificate), dates))
    return rows


def export_trust(keys_dir: Path, target: Path, domains: Sequence[str]) -> None:
    """Write ca.pem and dkim.txt (lines "name record") to *target*: what verifiers need, and nothing secret."""
    dkim = [_dkim(keys_dir, selector, algorithm) for selector, algorithm in _DKIM]
    certificates = _certificates(keys_dir / _CA)
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / "ca.pem").write_bytes(b"".join(authority.pem(certificate) for certificate in certificates))
        (target / "dkim.txt").write_text("".join(f"{line}\n" for line in dns_records(dkim, domains)), "ascii")
    except OSError as error:
        raise Unusable(f"{target}: cannot be written ({error.strerror})") from error


def issue_server_certificate(keys_dir: Path, names: Iterable[str], not_before: datetime) -> tuple[Path, Path]:
    """A TLS server certificate for *names* (host names and IP addresses) by the gateway's own authority: chain and key file.

    For the demo and for tests; mail servers and browsers of others do not know this authority.
    """
    key = _private(keys_dir / _CA_KEY)
    root = authority.Issued(_certificates(keys_dir / _CA)[0], authority.elliptic(key, keys_dir / _CA_KEY))
    _check_pair(root.certificate, root.key, keys_dir / _CA, keys_dir / _CA_KEY)
    server = authority.issue_server(root, list(names), not_before)
    chain = authority.pem(server.certificate) + authority.pem(root.certificate)
    keyfiles.write_new(keys_dir, {_SERVER_KEY: authority.private_pem(server.key), _SERVER: chain})
    return keys_dir / _SERVER, keys_dir / _SERVER_KEY


def _secret_files() -> list[str]:
    return [f"{name}.key" for name in _SECRETS]


def _dkim_files() -> list[str]:
    return [f"dkim-{selector}.pem" for selector, _ in _DKIM]


def _row(name: str, kind: str, fingerprint: str, validity: str = "") -> dict[str, Any]:
    return {"name": name, "kind": kind, "fingerprint": fingerprint, "validity": validity}


def _check_place(keys_dir: Path, data_dir: Path) -> None:
    if keys_dir.resolve().is_relative_to(data_dir.resolve()):
        raise Unusable(
            f"[gateway] keys_dir: {keys_dir} lies inside data_dir {data_dir}; move it out and set keys_dir,"
            " so that no copy of the data holds its keys"
        )
    if not keys_dir.is_dir():
        raise Unusable(f"[gateway] keys_dir: there is no folder {keys_dir}; {_MEND}")
    keyfiles.check_private(keys_dir, 0o700)


def _secret(path: Path) -> bytes:
    text = keyfiles.read(path, _MEND)
    try:
        value = bytes.fromhex(text.decode("ascii").strip())
    except ValueError as error:
        raise Unusable(f"{path}: is not 64 hexadecimal digits; {_MEND}") from error
    if len(value) != _SECRET_BYTES:
        raise Unusable(f"{path}: holds {len(value)} bytes where {_SECRET_BYTES} are wanted; {_MEND}")
    if len(set(value)) < 12:  # 32 random bytes have so few values once in 10**16; a default secret has one
        raise Unusable(f"{path}: is not random but a default or a pattern; {_MEND}")
    return value


def _private(path: Path) -> _Private:
    data = keyfiles.read(path, _MEND)
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise Unusable(f"{path}: is not a private key in PEM (PKCS#8, without a password); {_MEND}") from error
    if not isinstance(key, _Private):
        raise Unusable(f"{path}: a key of the kind {type(key).__name__} is not used here; {_MEND}")
    return key


def _dkim(keys_dir: Path, selector: str, algorithm: str) -> DkimKey:
    path = keys_dir / f"dkim-{selector}.pem"
    key = _private(path)
    if isinstance(key, EllipticCurvePrivateKey):
        raise Unusable(f"{path}: is not a key for {algorithm}; {_MEND}")
    return DkimKey(selector, algorithm, key)


def _certificates(path: Path) -> list[x509.Certificate]:
    data = keyfiles.read(path, _MEND, private=False)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise Unusable(f"{path}: is not a certificate in PEM; {_MEND}") from error


def _seal(keys_dir: Path, now: datetime) -> Seal:
    path, key_path, ca_path = keys_dir / _SEAL, keys_dir / _SEAL_KEY, keys_dir / _CA
    chain, key = _certificates(path), authority.elliptic(_private(key_path), key_path)
    root = _certificates(ca_path)[0]
    for certificate, file in ((chain[0], path), (root, ca_path)):
        _check_dates(certificate, file, now)
    _check_pair(chain[0], key, path, key_path)
    try:
        chain[0].verify_directly_issued_by(root)
    except (ValueError, TypeError, authority.InvalidSignature) as error:
        raise Unusable(f"{path}: was not issued by {ca_path}; {_MEND}") from error
    return Seal(chain[0], key, root)


def _check_dates(certificate: x509.Certificate, file: Path, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise Unusable(
            f"{file}: is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; check the clock"
        )
    if now.astimezone(UTC) >= certificate.not_valid_after_utc:
        raise Unusable(
            f"{file}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}; put a new certificate there,"
            " nothing is sealed with an expired one"
        )


def _check_pair(certificate: x509.Certificate, key: EllipticCurvePrivateKey, file: Path, key_file: Path) -> None:
    if certificate.public_key() != key.public_key():
        raise Unusable(f"{file} and {key_file}: certificate and key do not belong together; {_MEND}")
