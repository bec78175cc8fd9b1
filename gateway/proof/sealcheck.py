"""Checking one sealed PDF: the seal, what it covers, whose it is, and the record inside. No network, no settings, no clock.

The library's own verdict leaves room: hexadecimal padding, upper or lower case, unsigned fields of the CMS. Here a seal has
exactly one form, so that no bit of the file can change unseen. Not here: what the record says (verifier.py).
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from asn1crypto import algos, cms
from asn1crypto import x509 as asn1
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

PROOF, RECEIPT = "pli-proof-1", "pli-receipt-1"
"""What the keywords of a PDF say that it is; a proof's second keyword is the digest of its record."""
MOST = 8_000_000
"""Bytes of a PDF; proofs have about 80 000."""
_MOST_RECORD = 1_000_000
_MOST_UNPACKED = 16_000_000
_HEX = re.compile(rb"<([0-9A-F]+)>")


class Bad(ValueError):
    """The PDF is no valid proof; the text says why."""


@dataclass(frozen=True)
class Sealed:
    """A PDF whose seal holds. anchored: its certificate was issued by a trusted one. record: the attached evidence.json."""

    name: str
    fingerprint: str
    at: datetime
    anchored: bool
    keywords: tuple[str, ...]
    record: bytes | None


def check_sealed(pdf: bytes, anchors: Sequence[asn1.Certificate]) -> Sealed:
    """Hold *pdf* to everything a sealed proof is, except the meaning of its record. Raises Bad.

    anchors: trusted certificates; without any, `anchored` is False and the rest is checked all the same.
    """
    if len(pdf) > MOST:
        raise Bad(f"larger than any proof ({len(pdf)} bytes)")
    _check_bombs(pdf)
    logging.getLogger("pyhanko").setLevel(logging.CRITICAL)  # what it finds is told in our words
    logging.getLogger("pyhanko_certvalidator").setLevel(logging.CRITICAL)
    try:
        return _check(pdf, anchors)
    except Bad:
        raise
    except RecursionError as error:
        raise Bad("cannot be read as a PDF (nested too deeply)") from error
    except Exception as error:  # the parser's errors for damaged files are of every kind
        raise Bad(f"cannot be read as a sealed PDF: changed or damaged ({type(error).__name__})") from error


def _check(pdf: bytes, anchors: Sequence[asn1.Certificate]) -> Sealed:
    reader = PdfFileReader(BytesIO(pdf))
    if reader.encrypted:
        raise Bad("is encrypted")
    signatures = reader.embedded_signatures
    if len(signatures) != 1:
        raise Bad(f"holds {len(signatures)} signatures where a proof has one seal")
    signature = signatures[0]
    _check_form(pdf, signature)
    at = signature.self_reported_timestamp
    if at is None:
        raise Bad("the seal states no time")
    context = ValidationContext(trust_roots=list(anchors), allow_fetching=False, moment=at)
    status = validate_pdf_signature(signature, context)
    _check_status(status)
    if anchors and not status.trusted:
        raise Bad("the seal's certificate is not anchored in --trust, or was not valid for sealing when it was used")
    leaf = signature.signer_cert
    return Sealed(
        name=str(leaf.subject.native.get("common_name", leaf.subject.human_friendly)),
        fingerprint=leaf.sha256.hex(),
        at=at,
        anchored=bool(anchors),
        keywords=_keywords(reader),
        record=_record(reader),
    )


def _check_status(status: PdfSignatureStatus) -> None:
    if not status.intact:
        raise Bad("the file was changed after it was sealed")
    if not status.valid:
        raise Bad("the seal is not by the key of its certificate")
    if status.coverage != SignatureCoverageLevel.ENTIRE_FILE:
        raise Bad("the seal does not cover the whole file: something was added to it")


def _check_form(pdf: bytes, signature: EmbeddedPdfSignature) -> None:
    """The signed ranges are the whole file but the seal, and the seal is the one encoding of what it says."""
    start, length, second, rest = (int(number) for number in signature.byte_range)
    if start != 0 or second + rest != len(pdf) or not 0 < length < second:
        raise Bad("the seal does not cover the whole file")
    found = _HEX.fullmatch(pdf[length:second])
    if found is None or len(found[1]) % 2:
        raise Bad("the seal is not written as seals are")
    padded = bytes.fromhex(found[1].decode("ascii"))
    der = _der(padded)
    if padded[len(der) :].strip(b"\0"):
        raise Bad("something stands behind the seal")
    if _rebuilt(der) != der:
        raise Bad("the seal holds something that no signature protects")


def _der(padded: bytes) -> bytes:
    """The first DER value of *padded* (X.690 8.1.3)."""
    if len(padded) < 4 or padded[0] != 0x30 or padded[1] != 0x82:  # a sequence whose length takes two bytes
        raise Bad("the seal is not a CMS signature")
    return padded[: 4 + int.from_bytes(padded[2:4], "big")]


def _rebuilt(der: bytes) -> bytes:
    """The CMS that has the certificate, signed attributes and signature of *der*, and else nothing but what must be there.

    The signed attributes name the certificate's digest, so that nothing in the result goes unprotected (RFC 5035).
    """
    content = cms.ContentInfo.load(der, strict=True)["content"]
    if len(content["signer_infos"]) != 1 or len(content["certificates"]) != 1:
        raise Bad("the seal holds more than one certificate or signature")
    signer, leaf = content["signer_infos"][0], content["certificates"][0].chosen
    if leaf.public_key.algorithm != "ec":
        raise Bad("the seal's key is of a kind that this verifier does not know")
    sid = cms.IssuerAndSerialNumber({"issuer": leaf.issuer, "serial_number": leaf.serial_number})
    sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
    info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": sid}),
            "digest_algorithm": sha256,
            "signature_algorithm": cms.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
            "signed_attrs": signer["signed_attrs"],
            "signature": signer["signature"],
        }
    )
    made = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": cms.DigestAlgorithms((sha256,)),
            "encap_content_info": {"content_type": "data"},
            "certificates": [leaf],
            "signer_infos": [info],
        }
    )
    built: bytes = cms.ContentInfo({"content_type": "signed_data", "content": made}).dump()
    return built


def _check_bombs(pdf: bytes) -> None:
    """No stream unpacks to more than any proof holds; chains of filters are not used in proofs."""
    if re.search(rb"/Filter\s*\[", pdf):
        raise Bad("packed in a way that no proof is")
    left = _MOST_UNPACKED
    for found in re.finditer(rb"stream\r?\n", pdf):
        try:
            left -= len(zlib.decompressobj().decompress(pdf[found.end() :], left))
        except zlib.error:
            continue  # not packed, or damaged: the seal tells
        if left <= 0:
            raise Bad("unpacks to more than any proof holds")


def _keywords(reader: PdfFileReader) -> tuple[str, ...]:
    try:
        information: Any = reader.trailer_view["/Info"]  # unlike .get, follows the reference
    except KeyError:
        return ()
    return tuple(word.strip() for word in str(information.get("/Keywords", "")).split(","))


def _record(reader: PdfFileReader) -> bytes | None:
    """The attached evidence.json; None where nothing is attached."""
    names: Any = reader.root.get("/Names", {}).get("/EmbeddedFiles", {})
    if not names:
        return None
    entries = names.get("/Names", [])
    if "/Kids" in names or len(entries) != 2 or str(entries[0]) != "evidence.json":
        raise Bad("holds other attachments than evidence.json")
    stream = entries[1].get_object()["/EF"]["/F"]
    packed: bytes = stream.encoded_data
    if "/Filter" not in stream:
        return packed
    if stream["/Filter"] != "/FlateDecode":
        raise Bad("its record is packed in a way that no proof uses")
    unpacker = zlib.decompressobj()
    record = unpacker.decompress(packed, _MOST_RECORD)
    if unpacker.unconsumed_tail:
        raise Bad("its record is larger than any record is")
    return record
