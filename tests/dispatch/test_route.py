"""Routes come from a real DNS server's answers, in the order of RFC 5321; what is certain and what may pass are told apart."""

from __future__ import annotations

import pytest

from gateway.core.errors import Deferred, NullMx, Refused
from gateway.dispatch import route
from gateway.dispatch.route import DnsTrouble, Host, NoMailDomain, Router
from gateway.settings import HostPort
from tests.dispatch.dns_server import SERVFAIL, SILENCE, Zone, dns_server

ZONE: Zone = {
    "example.net": {"MX": ["20 second.example.net.", "10 First.example.net.", "30 gone.example.net."]},
    "first.example.net": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "second.example.net": {"A": ["192.0.2.2"]},
    "equal.test": {"MX": ["10 a.equal.test.", "10 b.equal.test.", "5 c.equal.test."]},
    "a.equal.test": {"A": ["192.0.2.11"]},
    "b.equal.test": {"A": ["192.0.2.12"]},
    "c.equal.test": {"A": ["192.0.2.13"]},
    "plain.test": {"A": ["192.0.2.3"]},
    "null.test": {"MX": ["0 ."]},
    "bare.test": {"TXT": ['"hello"']},
    "broken.test": SERVFAIL,
    "half.test": {"MX": ["10 broken.test.", "20 second.example.net."]},
    "nowhere.test": {"MX": ["10 gone.example.net."]},
    "unsure.test": {"MX": ["10 broken.test."]},
    "xn--bcher-kva.test": {"A": ["192.0.2.4"]},
    "silent.test": SILENCE,
}


async def test_hosts_by_preference_with_their_addresses() -> None:
    async with dns_server(ZONE) as (server, _):
        hosts = await Router(None, server).hosts("example.net")
    assert list(hosts) == [
        Host("first.example.net", "192.0.2.1", 25),
        Host("first.example.net", "2001:db8::1", 25),
        Host("second.example.net", "192.0.2.2", 25),
    ]


async def test_equal_preferences_are_shuffled_and_never_pass_a_better_one() -> None:
    async with dns_server(ZONE) as (server, questions):
        router = Router(None, server)
        orders = {tuple(host.name[0] for host in await router.hosts("equal.test")) for _ in range(60)}
        asked = len(questions)
    assert orders == {("c", "a", "b"), ("c", "b", "a")}
    assert asked <= 7, "answers are kept for their time"


async def test_a_domain_without_mx_is_its_own_host() -> None:
    async with dns_server(ZONE) as (server, _):
        router = Router(None, server)
        assert list(await router.hosts("plain.test")) == [Host("plain.test", "192.0.2.3", 25)]
        assert (await router.hosts("xn--bcher-kva.test"))[0].address == "192.0.2.4"


@pytest.mark.parametrize("domain", ["gone.test", "bare.test", "nowhere.test", f"{'a' * 64}.test"])
async def test_certainly_no_mail_is_permanent(domain: str) -> None:
    async with dns_server(ZONE) as (server, _):
        with pytest.raises(NoMailDomain) as caught:
            await Router(None, server).hosts(domain)
    assert isinstance(caught.value, Refused)
    assert caught.value.smtp_reply.startswith("550 5.1.2 ")


async def test_null_mx() -> None:
    async with dns_server(ZONE) as (server, _):
        router = Router(None, server)
        with pytest.raises(NullMx) as caught:
            await router.hosts("null.test")
        assert caught.value.smtp_reply.startswith("556 5.1.10 ")
        assert await router.refuses_mail("null.test")
        for domain in ("example.net", "gone.test", "bare.test", "broken.test"):
            assert not await router.refuses_mail(domain)


async def test_trouble_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "_LIFETIME", 0.3)
    async with dns_server(ZONE) as (server, _):
        router = Router(None, server)
        for domain in ("broken.test", "unsure.test", "silent.test"):
            with pytest.raises(DnsTrouble) as caught:
                await router.hosts(domain)
            assert isinstance(caught.value, Deferred)
        assert not await router.refuses_mail("silent.test")
        assert [host.name for host in await router.hosts("half.test")] == ["second.example.net"]


async def test_a_relay_takes_everything_and_asks_nobody() -> None:
    relay = HostPort("relay.test", 2525)
    async with dns_server(ZONE) as (server, questions):
        router = Router(relay, None)
        assert list(await router.hosts("gone.test")) == [Host("relay.test", "relay.test", 2525, "relay")]
        assert not await router.refuses_mail("null.test")
        assert not questions
        both = Router(relay, server)
        assert list(await both.hosts("null.test")) == [Host("relay.test", "relay.test", 2525, "relay")]
        assert await both.refuses_mail("null.test")
