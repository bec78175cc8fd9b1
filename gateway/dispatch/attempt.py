"""One attempt to hand one mail to one recipient's servers, and what they said: the only place that speaks SMTP to the world.

Hosts are tried in order until one gives a final answer. TLS is opportunistic (RFC 7435): what cannot be verified is used and
recorded as such, what cannot be encrypted goes in plaintext and is recorded as such.
Not here: which hosts (route.py), one connection (dialogue.py), what an outcome means and when to try again (queue.py).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.clock import Clock
from gateway.core.evidence import instant
from gateway.dispatch.dialogue import Dialogue, Envelope, TlsTrouble, Verdict
from gateway.dispatch.route import Host

__all__ = ["Outcome", "Verdict", "attempt"]

_BUDGET = 13 * 60.0
"""Seconds for all hosts together."""
_FINAL = frozenset({Verdict.TAKEN, Verdict.PERMANENT, Verdict.UNKNOWN})
"""After these no other host is tried; UNKNOWN among them, since the mail may have been taken."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. ended: when the reply that decided it came, or when it was given up."""

    verdict: Verdict
    ended: datetime
    _facts: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """For the evidence: texts, integers, booleans and null only; foreign text bounded and without our secrets.

        host, address, port: who answered. via: "mx", a server of the recipient's domain, or "relay", our own. tls: null in
        plaintext, else version, cipher, certificate_sha256, verified (null where there were no trust anchors to verify with).
        tls_trouble: why a stronger way was not taken. extensions and replies: as heard. reason: the deciding reply on one
        line. began_at, ended_at. tried: the hosts before that one.
        """
        return dict(self._facts)


async def attempt(
    hosts: Sequence[Host],
    *,
    mail_from: str,
    rcpt_to: str,
    message: bytes,
    local_hostname: str,
    ca: Path | None,
    clock: Clock,
) -> Outcome:
    """Try *hosts* in order. ca: trust anchors to verify certificates with, for the record only. Raises nothing of the network."""
    envelope = Envelope(mail_from, rcpt_to, message, local_hostname)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _BUDGET
    began, tried = clock.now(), list[dict[str, Any]]()
    for number, host in enumerate(hosts, 1):
        dialogue, troubles = await _call(host, envelope, ca, clock, deadline)
        facts = {**dialogue.facts(), "tls_trouble": troubles, "began_at": instant(began), "tried": tried}
        if dialogue.verdict in _FINAL or number == len(hosts) or loop.time() >= deadline:
            return Outcome(dialogue.verdict, dialogue.ended, facts)
        tried.append({key: facts[key] for key in ("host", "address", "port", "reason", "ended_at")})
    raise ValueError("an attempt needs a host")


async def _call(
    host: Host, envelope: Envelope, ca: Path | None, clock: Clock, deadline: float
) -> tuple[Dialogue, list[str]]:
    """One host: with verified TLS, with any TLS, in plaintext; each only where the one before could not be had."""
    troubles: list[str] = []
    for context in await asyncio.to_thread(_contexts, ca):
        dialogue = Dialogue(host, envelope, context, clock, anchored=ca is not None)
        try:
            async with asyncio.timeout_at(deadline):
                await dialogue.hold()
        except TlsTrouble as trouble:
            troubles.append(str(trouble))
            continue
        except TimeoutError:
            dialogue.give_up("no time left")
        return dialogue, troubles
    raise AssertionError("plaintext knows no trouble with TLS")


def _contexts(ca: Path | None) -> list[ssl.SSLContext | None]:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    if ca is None:
        return [unverified, None]
    try:
        return [ssl.create_default_context(cafile=str(ca)), unverified, None]
    except (OSError, ssl.SSLError):
        return [unverified, None]  # the file went after the start; mail goes on, unverified on the record
