"""The content of status mails: what happened to a letter, what it means, what comes next, and how to check it.

Everything is read from the record of the event, so that mail and proof cannot differ.
Not here: words (texts/), the proof itself (proof/), when a status is owed (postoffice.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from gateway.core.evidence import parse_instant
from gateway.core.heard import by_relay, variants
from gateway.core.letter import Event
from gateway.dispatch.compose_blocks import Block, Heading, Items, Rows, Text
from gateway.dispatch.compose_house import House, contact, small_print
from gateway.dispatch.compose_mime import Part, Party
from gateway.dispatch.compose_texts import Texts
from gateway.links import grouped

NAMES: dict[Event, str] = {
    Event.HOLD: "held",
    Event.DISCARD: "discarded",
    Event.DEPOSIT: "deposited",
    Event.NOTICE_TAKEN: "notified",
    Event.NOTICE_FAILED: "undeliverable",
    Event.BOUNCE: "bounced",
    Event.BOUNCE_CLOSES: "undeliverable",
    Event.ACCEPT: "accepted",
    Event.HAND_OVER: "handed-over",
    Event.REFUSE: "refused",
    Event.LAPSE: "unclaimed",
    Event.LAPSE_UNREACHED: "undeliverable",
    Event.WITHDRAW: "withdrawn",
}
"""Pli-Event of the status mail of each event that has one."""
_WINDOWED = frozenset({Event.NOTICE_TAKEN, Event.BOUNCE})
_MAILED_CODE = "mailed_code"


@dataclass(frozen=True, slots=True)
class StatusMail:
    """A status mail about one record. event and state: Pli-Event and Pli-State; in_reply_to: the deposit's Message-ID."""

    to: Party
    message_id: str
    at: datetime
    language: str
    event: str
    state: str
    letter: str
    consignment: str
    subject: str
    recipient: Party
    in_reply_to: str | None
    record: Mapping[str, Any]
    parts: Sequence[Part]


def blocks(t: Texts, house: House, mail: StatusMail) -> list[Block]:
    event, facts = Event(mail.record["event"]), mail.record["facts"]
    key = f"status.{event.value}"
    attempt = facts.get("attempt") or {}
    words = {"recipient": shown(mail.recipient), "contact": contact(t, house), "relay": str(attempt.get("host") or "")}
    better = variants(event, facts)
    means = t.all(_best(t, f"{key}.means", better), **words)
    if house.anonymous and t.has(f"{key}.means_anonymous"):
        means.append(t.say(f"{key}.means_anonymous", **words))
    problems = _problems(t, facts)
    missing: list[Block] = [Heading(t.say("status.problem")), Items(problems)] if problems else []
    return [
        Text(t.say(_best(t, f"{key}.headline", better), **words), strong=True),
        *missing,
        Rows(_rows(t, house, mail, event), typed=frozenset({t.say("status.consignment")})),
        Heading(t.say("status.means")),
        *(Text(text) for text in means),
        Heading(t.say("status.next")),
        *(Text(text) for text in t.all(f"{key}.next", **words)),
        *_check(t, mail.parts),
        *small_print(t, house, "automatic_sender"),
    ]


def _best(t: Texts, key: str, better: Sequence[str]) -> str:
    """The words for what was heard, where there are such."""
    return next((f"{key}_{name}" for name in better if t.has(f"{key}_{name}")), key)


def shown(party: Party) -> str:
    """Jane Doe <jane.doe@example.org>."""
    name = " ".join(party.name.split())[:120]
    return f"{name} <{party.address}>" if name else party.address


def _problems(t: Texts, facts: Mapping[str, Any]) -> list[str]:
    found = []
    for code, word in facts.get("problems", []):
        key = f"status.problems.{code}"
        found.append(t.say(key if t.has(key) else "status.problems.other", word=str(word)))
    return found


def _rows(t: Texts, house: House, mail: StatusMail, event: Event) -> list[tuple[str, str]]:
    record, facts, zone = mail.record, mail.record["facts"], str(mail.record["facts"].get("zone", house.zone))
    rows = [
        (t.say("status.recipient"), shown(mail.recipient)),
        (t.say("status.subject_row"), mail.subject.strip() or t.say("status.no_subject")),
        (t.say("status.consignment"), grouped(mail.consignment, 4)),
        (t.say("status.at"), t.moment(parse_instant(record["at"]), zone)),
    ]
    if event in (Event.HOLD, Event.DEPOSIT):
        return rows + _understood(t, mail)
    if record.get("deposited_at"):
        rows.append((t.say("status.deposited_at"), t.moment(parse_instant(record["deposited_at"]), zone)))
    rows += _answer(t, facts.get("attempt"))
    rows += _dates(t, facts, zone, window=event in _WINDOWED)
    rows += _rest(t, facts)
    return rows


def _understood(t: Texts, mail: StatusMail) -> list[tuple[str, str]]:
    """What the gateway read in the deposit (DESIGN.md 4: the proof of deposit echoes it)."""
    facts, content = mail.record["facts"], mail.record["content"]
    tags = str(t.get("format.list")).join(str(tag) for tag in facts.get("tags", [])) or t.say("status.no_tags")
    language = facts.get("language")
    return [
        (t.say("status.tags"), tags),
        *([(t.say("status.language"), t.language_name(language))] if language else []),
        (t.say("status.size"), t.size(int(content["size"]))),
        (t.say("status.sha256"), str(content["sha256"])),
    ]


def _answer(t: Texts, attempt: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the recipient's server or our relay said, and how the mail travelled."""
    if not attempt:
        return []
    rows = [(t.say("status.reply"), str(attempt["reason"]))] if attempt.get("reason") else []
    if not attempt.get("host"):
        return rows
    server = f"{attempt['host']} [{attempt['address']}]" if attempt.get("address") else str(attempt["host"])
    tls = attempt.get("tls")
    travelled = f"{tls['version']}, {tls['cipher']}" if tls else t.say("status.plaintext")
    label = t.say("status.relay" if by_relay(attempt) else "status.server")
    return [(label, server), *rows, (t.say("status.encryption"), travelled)]


def _dates(t: Texts, facts: Mapping[str, Any], zone: str, *, window: bool) -> list[tuple[str, str]]:
    rows = []
    if facts.get("last_day"):
        rows.append((t.say("status.last_day"), t.long_date(date.fromisoformat(facts["last_day"]))))
    if window and facts.get("closes_at"):
        rows.append((t.say("status.closes_at"), t.moment(parse_instant(facts["closes_at"]), zone)))
    if facts.get("accepted_at"):
        rows.append((t.say("status.accepted_at"), t.moment(parse_instant(facts["accepted_at"]), zone)))
    return rows


def _rest(t: Texts, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if facts.get("form"):
        key = f"status.forms.{facts['form']}"
        rows.append((t.say("status.form_row"), t.say(key) if t.has(key) else str(facts["form"])))
    if identification := facts.get("identification"):
        known = identification.get("level") == _MAILED_CODE
        words = t.say("status.mailed_code" if known else "status.other_identification")
        rows.append((t.say("status.identification"), words))
    if bounce := facts.get("bounce"):
        said = " ".join(str(bounce[key]) for key in ("status", "diagnostic") if bounce.get(key))
        rows.append((t.say("status.came_back"), said or str(bounce.get("action"))))
    for key, label in (("attempts", "attempts"), ("notices", "notices"), ("bounced", "notices_bounced")):
        if isinstance(facts.get(key), int):
            rows.append((t.say(f"status.{label}"), str(facts[key])))
    if facts.get("reason"):
        rows.append((t.say("status.reason"), str(facts["reason"])))
    return rows


def _check(t: Texts, parts: Sequence[Part]) -> list[Block]:
    names = [part.name for part in parts]
    if not names:
        return []
    items = [t.say("status.check_parts", parts=str(t.get("format.list")).join(names))]
    if "proof.pdf" in names:
        items.append(t.say("status.check_proof"))
    if "evidence.json" in names:
        items.append(t.say("status.check_record" if "proof.pdf" in names else "status.check_record_alone"))
    return [Heading(t.say("status.check")), Items(items)]
