"""A DNS server on a free UDP port, with the answers of one test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from gateway.settings import HostPort

SERVFAIL, SILENCE = "SERVFAIL", "SILENCE"
Zone = Mapping[str, Mapping[str, list[str]] | str]
"""Name to type to records; or to SERVFAIL or SILENCE. A name that is missing does not exist."""


class _Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.questions: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        [question] = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind))
        known = self.zone.get(name)
        if known == SILENCE:
            return
        answer = dns.message.make_response(query, recursion_available=True)
        if known is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif isinstance(known, str):
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records := known.get(kind):
            answer.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, *records))
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def dns_server(zone: Zone) -> AsyncIterator[tuple[HostPort, list[tuple[str, str]]]]:
    """Its address, and the questions it was asked."""
    server = _Server(zone)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
    try:
        yield HostPort("127.0.0.1", transport.get_extra_info("sockname")[1]), server.questions
    finally:
        transport.close()
