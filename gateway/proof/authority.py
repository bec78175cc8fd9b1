"""A small certification authority of the gateway's own: its root, the seal's certificate, and server certificates for the demo.

Elliptic curve P-256 throughout: poppler with NSS, OpenSSL and Adobe's reader take it, and a signature costs 0.03 ms.
Not here: files (keys.py, keyfiles.py). A qualified seal comes from a trust service provider, never from here.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from gateway.core.errors import Unusable

__all__ = [
    "InvalidSignature", "Issued", "common_name", "elliptic", "fingerprint", "issue_seal", "issue_server", "key_fingerprint",
    "make_ca", "pem", "private_pem",
]  # fmt: skip

_CA_LIFE, _SEAL_LIFE, _SERVER_LIFE = timedelta(days=25 * 365), timedelta(days=20 * 365), timedelta(days=397)
_DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336
_LONGEST_NAME = 64  # X.520 ub-common-name, ub-organization-name


@dataclass(frozen=True, repr=False)
class Issued:
    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


def make_ca(operator: str, not_before: datetime, *, demo: bool) -> Issued:
    """A root that may certify end entities only; its name says "Demo" in a demo."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(operator, f"{'Demo ' if demo else ''}Authority of {operator}")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = _builder(name, key, not_before, _CA_LIFE).issuer_name(name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Issued(builder.sign(key, hashes.SHA256()), key)


def issue_seal(root: Issued, operator: str, domain: str, not_before: datetime, *, demo: bool) -> Issued:
    """The certificate of the seal: for documents, by a software key, and therefore called non-qualified."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(operator, f"{'Demo ' if demo else ''}Seal (non-qualified) of {domain}")
    # emailProtection as well: NSS, and so pdfsig, and `openssl cms` ask for it; RFC 9336 allows several purposes.
    purposes = x509.ExtendedKeyUsage([_DOCUMENT_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION])
    builder = _issued_by(root, _builder(name, key, not_before, _SEAL_LIFE))
    builder = builder.add_extension(_usage(digital_signature=True, content_commitment=True), critical=True)
    builder = builder.add_extension(purposes, critical=False)
    return Issued(builder.sign(root.key, hashes.SHA256()), key)


def issue_server(root: Issued, names: Sequence[str], not_before: datetime) -> Issued:
    """A TLS server certificate for host names and IP addresses (RFC 6125, RFC 5280 4.2.1.6)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_LONGEST_NAME])])
    builder = _issued_by(root, _builder(subject, key, not_before, _SERVER_LIFE))
    builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return Issued(builder.sign(root.key, hashes.SHA256()), key)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def private_pem(key: Any) -> bytes:
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return data


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` shows it, without colons, in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_fingerprint(key: Any) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else certificate.subject.rfc4514_string()


def elliptic(key: object, path: Path) -> EllipticCurvePrivateKey:
    if not isinstance(key, EllipticCurvePrivateKey):
        raise Unusable(f"{path}: is not an elliptic curve key; put the one of `pli keys init` back")
    return key


def _builder(
    subject: x509.Name, key: EllipticCurvePrivateKey, not_before: datetime, life: timedelta
) -> x509.CertificateBuilder:
    start = not_before.replace(microsecond=0)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _issued_by(root: Issued, builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    identifier = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return (
        builder.issuer_name(root.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority, critical=False)
    )


def _name(organization: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _fit(organization)),
            x509.NameAttribute(NameOID.COMMON_NAME, _fit(common)),
        ]
    )


def _fit(text: str) -> str:
    """*text* in at most 64 octets of UTF-8: some readers count octets where X.520 counts characters."""
    plain = " ".join(text.split()) or "unnamed"
    if len(plain.encode()) <= _LONGEST_NAME:
        return plain
    return plain.encode()[: _LONGEST_NAME - 3].decode("utf-8", "ignore") + "…"


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
