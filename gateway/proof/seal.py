"""The gateway's seal: a PAdES B-B signature over a whole PDF, by a key that is loaded once and kept.

Not here: making keys and certificates (keys.py, authority.py), checking seals (sealcheck.py). Timestamps come with proofs of the
next level; until then the time in the seal is what the gateway's own clock said.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from io import BytesIO

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers import Signer
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigMDPSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import SignatureObject

from gateway.proof import authority

FIELD = "Seal"
_DIGEST = "sha256"


class Seal:
    """See the module. It may be called from any thread."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey, root: x509.Certificate) -> None:
        self.certificate = certificate
        self.root = root
        self._signer = _KeptKey(certificate, key)
        # asn1crypto reads the parts of the kept certificate when they are first asked for, and two threads at once break it.
        self._lock = threading.Lock()
        # Hexadecimal digits in the file: the certificate, its issuer's name thrice at most, digests and the signature.
        self._room = 2 * (2 * len(certificate.public_bytes(Encoding.DER)) + 1024)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hexadecimal."""
        return authority.fingerprint(self.certificate)

    @property
    def name(self) -> str:
        return authority.common_name(self.certificate)

    @property
    def root_fingerprint(self) -> str:
        return authority.fingerprint(self.root)

    @property
    def root_name(self) -> str:
        return authority.common_name(self.root)

    @property
    def qualified(self) -> bool:
        """Never: the key is a file (eIDAS art. 3(27) asks for a qualified device and certificate)."""
        return False

    def sign(self, pdf: bytes, *, reason: str, location: str, at: datetime) -> bytes:
        """*pdf* with one invisible certifying signature over all of it, which permits no change (ISO 32000-2 12.8.2.2).

        at: the signing time it states. Call it in a thread without an event loop; about 10 ms.
        """
        writer = _Addition(BytesIO(pdf))
        steps = PdfCMSEmbedder(SigFieldSpec(FIELD)).write_cms(FIELD, writer)
        next(steps)
        placeholder = SignatureObject(
            timestamp=at,
            subfilter=SigSeedSubFilter.PADES,
            name=self.name,
            location=location,
            reason=reason,
            bytes_reserved=self._room,
        )
        steps.send(SigObjSetup(placeholder, SigMDPSetup(_DIGEST, certify=True, docmdp_perms=MDPPerm.NO_CHANGES)))
        prepared, output = steps.send(SigIOSetup(_DIGEST))
        with self._lock:
            steps.send(asyncio.run(self._signer.make(prepared.document_digest)))
        sealed: bytes = output.getvalue()
        return sealed


class _Addition(IncrementalPdfFileWriter):
    """Adds the seal alone: the library would write its name and the machine's time into the document's description."""

    def _update_meta(self) -> None:
        pass


class _KeptKey(Signer):
    """pyHanko's own signer reads its key at every signature; this one keeps the object."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        leaf = asn1.Certificate.load(certificate.public_bytes(Encoding.DER))
        # The root stays out: whoever checks must bring it (PAdES asks for the chain without the trust anchor).
        super().__init__(signing_cert=leaf, embed_roots=False)
        self._key = key

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    async def make(self, digest: bytes) -> bytes:
        """The detached CMS (CAdES) over a document of this SHA-256 *digest*."""
        made: bytes = (await self.async_sign(digest, _DIGEST, use_pades=True)).dump()
        return made
