"""Where the mail for a domain goes: its MX hosts in order, or the configured relay.

Not here: connecting (attempt.py), what a domain may look like (core/domain.py: names arrive as lower-case A-labels).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.resolver
from dns.asyncresolver import Resolver

from gateway.core.errors import Deferred, NullMx, PliError, Refused
from gateway.settings import HostPort

_SMTP = 25
MX, RELAY = "mx", "relay"
_MOST_EXCHANGES, _MOST_ADDRESSES = 10, 3
"""More would only keep a mail busy (RFC 5321 5.1 asks for two at least)."""
_LIFETIME, _TIMEOUT = 12.0, 4.0


class NoMailDomain(Refused):
    """The DNS says for certain that no mail can go there."""

    smtp_code, enhanced = 550, "5.1.2"  # RFC 3463 X.1.2
    sentence = "The recipient's domain does not exist."


class DnsTrouble(Deferred):
    smtp_code, enhanced = 451, "4.4.3"  # RFC 3463 X.4.3
    sentence = "The recipient's domain cannot be looked up at the moment."


class Host(NamedTuple):
    """One place to connect to. name: for TLS and the evidence; address: an IP address, or a name that the system looks up.

    via: MX, a server of the recipient's domain, or RELAY, one of ours, whose 250 is not the recipient's (docs/decisions/0013).
    """

    name: str
    address: str
    port: int = _SMTP
    via: str = MX


class Router:
    """Looks up routes. relay: takes all mail where given. dns: the server to ask; the system's servers where None."""

    def __init__(self, relay: HostPort | None, dns: HostPort | None) -> None:
        self._relay = relay
        self._dns = dns
        self._made: Resolver | None = None

    async def hosts(self, domain: str) -> Sequence[Host]:
        """The hosts for *domain*, best first; never empty.

        Raises NullMx, NoMailDomain (both permanent), DnsTrouble.
        """
        if self._relay is not None:
            return [Host(self._relay.host, self._relay.host, self._relay.port, RELAY)]
        exchanges = await self._exchanges(domain)
        found: list[Host] = []
        trouble: DnsTrouble | None = None
        for name in exchanges:
            try:
                found += [Host(name, address) for address in await self._addresses(name)]
            except DnsTrouble as error:
                trouble = error
        if not found and trouble is not None:
            raise trouble
        if not found:
            raise NoMailDomain("The recipient's domain names no mail server that exists.")
        return found

    async def refuses_mail(self, domain: str) -> bool:
        """Whether *domain* says that it takes no mail (null MX, RFC 7505); unknown counts as no. Raises nothing."""
        if self._relay is not None and self._dns is None:
            return False  # behind a relay the world's DNS may be out of reach
        try:
            await self._exchanges(domain)
        except NullMx:
            return True
        except PliError:
            return False
        return False

    async def _exchanges(self, domain: str) -> list[str]:
        """MX names in order of preference, equal ones shuffled (RFC 5321 5.1); the domain itself where there is no MX."""
        answer = await self._ask(domain, "MX")
        if not answer:
            return [domain]
        if len(answer) == 1 and answer[0].exchange == dns.name.root:
            raise NullMx
        ranked = sorted(
            ((int(record.preference), record.exchange) for record in answer if record.exchange != dns.name.root),
            key=itemgetter(0),
        )
        names: list[str] = []
        for _, same in groupby(ranked, key=itemgetter(0)):
            group = [exchange.to_text(omit_final_dot=True).lower() for _, exchange in same]
            random.shuffle(group)
            names += group
        return names[:_MOST_EXCHANGES]

    async def _addresses(self, name: str) -> list[str]:
        """IPv4 before IPv6: more servers judge a sender's IPv6 address than serve it well. Empty where the name has none."""
        found: list[str] = []
        trouble: DnsTrouble | None = None
        for kind in ("A", "AAAA"):
            try:
                found += [record.address for record in await self._ask(name, kind)][:_MOST_ADDRESSES]
            except DnsTrouble as error:
                trouble = error
            except NoMailDomain:
                return found
        if not found and trouble is not None:
            raise trouble
        return found

    async def _ask(self, name: str, kind: str) -> list[Any]:
        """The records; empty where the name exists without them."""
        try:
            answer = await self._resolver.resolve(dns.name.from_text(name), kind, search=False)
        except dns.resolver.NoAnswer:
            return []
        except (dns.resolver.NXDOMAIN, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel):
            raise NoMailDomain(detail=f"{name} {kind}") from None
        except (dns.exception.DNSException, OSError) as error:  # SERVFAIL, timeout, no server
            raise DnsTrouble(detail=f"{name} {kind}: {error}") from error
        return list(answer)

    @property
    def _resolver(self) -> Resolver:
        if self._made is None:
            made = Resolver(configure=self._dns is None)
            if self._dns is not None:
                made.nameservers = [self._dns.host]
                made.port = self._dns.port
            made.cache = dns.resolver.LRUCache(10_000)
            made.lifetime, made.timeout = _LIFETIME, _TIMEOUT
            self._made = made
        return self._made
