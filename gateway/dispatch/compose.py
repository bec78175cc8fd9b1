"""Every mail that the gateway writes, from what it must say to its bytes (CRLF, not yet signed).

A mail to a recipient depends on the letter's recipient, reference, dates and secrets alone: nothing of its sender, its content or
its deposit reaches this module before the hand-over (CPCE R.53-3 I). The same input gives the same bytes at each attempt.
Not here: words (texts/), status mails' content (compose_status.py), bytes (compose_mime.py), signing (dkim.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from gateway.core.letter import Event
from gateway.dispatch import compose_status
from gateway.dispatch.compose_blocks import (
    Block,
    Heading,
    Items,
    Link,
    OneTimeCode,
    Rows,
    Text,
    to_html,
    to_plain,
)
from gateway.dispatch.compose_house import House, from_address, who_we_are
from gateway.dispatch.compose_mime import Letterhead, Part, Party, mail
from gateway.dispatch.compose_status import StatusMail
from gateway.dispatch.compose_texts import Texts, texts
from gateway.links import grouped

__all__ = [
    "CodeMail", "House", "NoticeMail", "OriginalMail", "Part", "Party", "ReceiptMail", "StatusMail",
    "code", "event_name", "notice", "original", "receipt", "status",
]  # fmt: skip


_BETWEEN = frozenset(" .,'-\u2019\u00b7\u200c\u200d")
"""What stands in names beside letters and marks."""
_DOMAIN = re.compile(r"\.[^\W\d_]{2}")
"""Mail programs make a link of example.org."""


@dataclass(frozen=True, slots=True)
class NoticeMail:
    """A first notice, or a reminder of it (number 1 and up). last_day: the day it prints; days_left: from its own date."""

    to: Party
    message_id: str
    at: datetime
    language: str
    reference: str
    link: str
    access_code: str
    portal_url: str
    last_day: date
    number: int = 0
    first_message_id: str | None = None
    days_left: int = 0


@dataclass(frozen=True, slots=True)
class CodeMail:
    """A one-time code. choice: accept, refuse, or read (to see an accepted letter again)."""

    to: Party
    message_id: str
    at: datetime
    language: str
    choice: str
    code: str
    expires_at: datetime
    reference: str


@dataclass(frozen=True, slots=True)
class ReceiptMail:
    """The recipient's own receipt. kind: accept or refuse."""

    to: Party
    message_id: str
    at: datetime
    language: str
    kind: str
    reference: str
    parts: Sequence[Part]
    first_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class OriginalMail:
    """An accepted letter to its recipient's own mailbox. raw: the deposit, byte for byte."""

    to: Party
    message_id: str
    at: datetime
    language: str
    reference: str
    raw: bytes


def event_name(event: Event) -> str | None:
    """The Pli-Event of the status mail that *event* owes the sender; None where it owes none (DESIGN.md 7)."""
    return compose_status.NAMES.get(event)


def notice(house: House, mail_: NoticeMail) -> bytes:
    """A notice that says what CPCE R.53-3 I wants, and nothing of the sender."""
    t, reference = texts(mail_.language), grouped(mail_.reference)
    reminder = mail_.number > 0
    kind = "_reminder" if reminder else ""
    blocks = [
        _hello(t, mail_.to),
        Text(t.say(f"notice.waits{kind}", operator=house.operator_name)),
        *([Text(t.say("notice.unknown_sender"))] if house.anonymous else []),
        _last_day(t, house, mail_.last_day),
        *_choices(t, house),
        *_ways(t, mail_, reference),
        *_genuine(t, house, reference),
        *who_we_are(t, house, reference),
    ]
    head = _to_recipient(house, t, mail_, t.say(f"notice.subject{kind}", reference=reference))
    if reminder and mail_.first_message_id:
        head = replace(head, references=[mail_.first_message_id])
    return _write(head, t, blocks)


def _last_day(t: Texts, house: House, day: date) -> Rows:
    value = t.say("notice.until_midnight", date=t.long_date(day), zone=t.zone(house.zone))
    return Rows([(t.say("notice.last_day"), value)], strong=True)


def _choices(t: Texts, house: House) -> list[Block]:
    refuse = "notice.choose_refuse_unknown" if house.anonymous else "notice.choose_refuse"
    items = [t.say("notice.choose_accept"), t.say(refuse), t.say("notice.choose_nothing")]
    return [Heading(t.say("notice.choose")), Items(items), Text(t.say("notice.choose_time"))]


def _ways(t: Texts, mail_: NoticeMail, reference: str) -> list[Block]:
    labels = {key: t.say(key) for key in ("notice.typed_address", "letter.reference", "notice.access_code")}
    rows = [
        (labels["notice.typed_address"], re.sub(r"^https://|/$", "", mail_.portal_url)),
        (labels["letter.reference"], reference),
        (labels["notice.access_code"], grouped(mail_.access_code, 4)),
    ]
    return [
        Heading(t.say("notice.how")),
        Text(t.say("notice.how_link")),
        Link(mail_.link),
        Text(t.say("notice.how_typed")),
        Rows(rows, typed=frozenset(labels.values())),
        Text(t.say("notice.how_code")),
    ]


def _genuine(t: Texts, house: House, reference: str) -> list[Block]:
    address = from_address(house.notice_domain)
    items = [
        t.say("notice.genuine_from", from_address=address, notice_domain=house.notice_domain),
        t.say("notice.genuine_plain"),
        t.say(
            "notice.genuine_doubt",
            operator=house.operator_name,
            reference=reference,
            site=house.operator_site or house.public_url,
        ),
    ]
    return [Heading(t.say("notice.genuine")), Items(items)]


def code(house: House, mail_: CodeMail) -> bytes:
    """A one-time code, mailed after the choice; the portal's form takes it."""
    t, reference = texts(mail_.language), grouped(mail_.reference)
    blocks = [
        _hello(t, mail_.to),
        Text(t.say(f"code.{mail_.choice}", reference=reference)),
        OneTimeCode(mail_.code),
        Text(t.say("code.until", moment=t.moment(mail_.expires_at, house.zone))),
        Text(t.say("code.not_you")),
        *who_we_are(t, house, reference),
    ]
    head = _to_recipient(house, t, mail_, t.say("code.subject", reference=reference))
    return _write(replace(head, more=[*head.more, ("Pli-Event", "code")]), t, blocks)


def receipt(house: House, mail_: ReceiptMail) -> bytes:
    """The recipient's copy of what was recorded of the decision."""
    t, reference = texts(mail_.language), grouped(mail_.reference)
    blocks = [
        _hello(t, mail_.to),
        Text(t.say(f"receipt.{mail_.kind}", reference=reference)),
        Text(t.say(f"receipt.told_{mail_.kind}")),
        Text(t.say("receipt.keep")),
        *who_we_are(t, house, reference),
    ]
    head = _to_recipient(house, t, mail_, t.say("receipt.subject", reference=reference))
    if mail_.first_message_id:
        head = replace(head, references=[mail_.first_message_id])
    return _write(head, t, blocks, mail_.parts)


def original(house: House, mail_: OriginalMail) -> bytes:
    """The letter as an attachment of the type message/rfc822; its bytes stand in this mail unchanged."""
    t, reference = texts(mail_.language), grouped(mail_.reference)
    blocks = [
        _hello(t, mail_.to),
        Text(t.say("original.attached", reference=reference)),
        Text(t.say("original.content")),
        *who_we_are(t, house, reference),
    ]
    head = _to_recipient(house, t, mail_, t.say("original.subject", reference=reference))
    return _write(head, t, blocks, original=mail_.raw)


def status(house: House, mail_: StatusMail) -> bytes:
    """What happened to a letter, to its sender, in the thread of his own mail."""
    t = texts(mail_.language)
    subject = mail_.subject.strip() or t.say("status.no_subject")
    subject = re.sub(r"^(?:re\s*:\s*)+", "", subject, flags=re.IGNORECASE)
    own = [mail_.in_reply_to] if mail_.in_reply_to else []
    head = Letterhead(
        sender=Party(house.operator_name, from_address(house.domain)),
        to=mail_.to,
        subject=t.say("status.subject", subject="{}").replace("{}", subject),
        message_id=mail_.message_id,
        at=mail_.at,
        zone=house.zone,
        language=t.language,
        in_reply_to=mail_.in_reply_to,
        references=own,
        reply_to=house.operator_email or None,
        more=[("Pli-Letter", mail_.letter), ("Pli-Event", mail_.event), ("Pli-State", mail_.state)],
    )
    return _write(head, t, compose_status.blocks(t, house, mail_), mail_.parts)


def _hello(t: Texts, to: Party) -> Text:
    """A name that the sender gave is shown as far as it can be a name: no addresses, no links, no messages."""
    name = " ".join(to.name.split())
    fit = name[:1].isalpha() and all(c in _BETWEEN or unicodedata.category(c)[0] in "LM" for c in name)
    if not fit or len(name) > 60 or len(name.split()) > 8 or _DOMAIN.search(name):
        return Text(t.say("letter.hello_nobody"))
    return Text(t.say("letter.hello", name=name))


def _to_recipient(house: House, t: Texts, mail_: Any, subject: str) -> Letterhead:
    return Letterhead(
        sender=Party(house.operator_name, from_address(house.notice_domain)),
        to=Party("", mail_.to.address),  # the sender chose the name: it could say anything, also who he is
        subject=subject,
        message_id=mail_.message_id,
        at=mail_.at,
        zone=house.zone,
        language=t.language,
        more=[("Pli-Notice", grouped(mail_.reference))],
    )


def _write(
    head: Letterhead, t: Texts, blocks: Sequence[Block], parts: Sequence[Part] = (), original: bytes | None = None
) -> bytes:
    plain = to_plain(blocks, str(t.get("format.colon")))
    return mail(head, plain, to_html(blocks, t.language, head.subject), parts, original)
