"""Who we are, as mails say it: the operator at the foot of each mail, and the address that mails come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.dispatch.compose_blocks import Block, Heading, Rows, Rule, Text
from gateway.dispatch.compose_texts import Texts


@dataclass(frozen=True, slots=True)
class House:
    """The operator and the profile. zone: whose days are counted; profile_title and law: by language."""

    operator_name: str
    operator_address: str
    operator_phone: str
    operator_email: str
    operator_site: str
    domain: str
    notice_domain: str
    public_url: str
    zone: str
    profile_title: Mapping[str, str]
    profile_level: str
    law: Mapping[str, str]
    anonymous: bool


def from_address(domain: str) -> str:
    """The same for every mail of one domain, whoever the sender of a letter is."""
    return f"pli@{domain}"


def contact(t: Texts, house: House) -> str:
    """How to reach a person: as much of it as the operator has configured."""
    known = [text for text in (house.operator_email, house.operator_phone) if text]
    return str(t.get("format.or")).join(known) or house.operator_site or house.public_url


def who_we_are(t: Texts, house: House, reference: str = "") -> list[Block]:
    rows = [
        (t.say("letter.operator"), house.operator_name),
        (t.say("letter.address"), house.operator_address),
        (t.say("letter.phone"), house.operator_phone),
        (t.say("letter.email"), house.operator_email),
        (t.say("letter.site"), house.operator_site),
    ]
    foot = [Text(t.say("letter.foot", reference=reference), small=True)] if reference else []
    return [
        Heading(t.say("letter.who")),
        Rows([row for row in rows if row[1]]),
        *small_print(t, house, "automatic"),
        *foot,
    ]


def small_print(t: Texts, house: House, automatic: str) -> list[Block]:
    """That a machine wrote this, and what kind of service it is."""
    law = _in(house.law, t.language) or _in(house.profile_title, t.language)
    written = t.say(f"letter.{automatic}", contact=contact(t, house))
    return [Rule(), Text(written, small=True), Text(law, small=True)]


def _in(texts: Mapping[str, str], language: str) -> str:
    return texts.get(language) or texts.get("en") or next(iter(texts.values()), "")
