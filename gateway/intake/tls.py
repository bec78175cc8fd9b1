"""Our side of TLS under SMTP: one context, TLS 1.2 or later, renewed when its files change.

Not here: TLS towards other servers (dispatch/), the portal's (web/).
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509

from gateway.core.errors import Unusable

# Mozilla's server-side TLS recommendation "intermediate", without its DHE suites; TLS 1.3 has its own list.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_PAUSE = 10.0
_log = structlog.get_logger("intake")


def server_context(certificate: Path, key: Path, now: datetime) -> ssl.SSLContext:
    """Raises Unusable, naming the setting, where the files do not make a server or the certificate is expired at *now*."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise Unusable(f"[smtp] tls_cert: {certificate} holds no readable certificate in PEM form ({error})") from error
    if chain[0].not_valid_after_utc <= now:
        raise Unusable(
            f"[smtp] tls_cert: {certificate} is expired since {chain[0].not_valid_after_utc:%Y-%m-%d}; renew it"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996, RFC 9325 3.1.1
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise Unusable(
            f"[smtp] tls_key: {key} is no readable key without a password, or not the one of {certificate}"
        ) from error
    return context


@dataclass
class Certificate:
    """The context in use. After the files changed, connections get a new one; files that do not fit leave the old in use."""

    certificate: Path
    key: Path
    context: ssl.SSLContext
    _seen: tuple[float, ...] = ()
    _looked: float = field(default_factory=time.monotonic)

    @classmethod
    def load(cls, certificate: Path, key: Path, now: datetime) -> Certificate:
        made = cls(certificate, key, server_context(certificate, key, now))
        made._seen = made._stamps()
        return made

    def current(self, now: datetime) -> ssl.SSLContext:
        if time.monotonic() - self._looked >= _PAUSE:
            self._looked = time.monotonic()
            stamps = self._stamps()
            if stamps != self._seen:
                try:
                    self.context, self._seen = server_context(self.certificate, self.key, now), stamps
                    _log.info("certificate renewed", file=str(self.certificate))
                except Unusable as error:
                    _log.error("the changed certificate cannot be used, the old one stays", detail=str(error))
        return self.context

    def _stamps(self) -> tuple[float, ...]:
        try:
            return tuple(file.stat().st_mtime for file in (self.certificate, self.key))
        except OSError:
            return self._seen
