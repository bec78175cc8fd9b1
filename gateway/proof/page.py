"""From a record to what a proof's page says: titles, rows and sentences, as data for the template (pages/proof.typ).

Every fact on the page comes from the record or from the seal; every sentence from pages/*.toml. Foreign text (names, addresses,
replies of servers) is bounded and stripped of what could reorder or hide its neighbours, and never becomes markup.
Not here: typesetting (pdf.py), what a record is (core/evidence.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from gateway.core.evidence import digest, parse_instant, parse_record
from gateway.core.heard import variants
from gateway.core.letter import Event
from gateway.core.profile import Profile
from gateway.links import grouped
from gateway.proof import attempts, foreign
from gateway.proof.seal import Seal
from gateway.proof.sealcheck import PROOF, RECEIPT
from gateway.proof.words import Words

PROVEN = frozenset(
    {
        Event.DEPOSIT,
        Event.HAND_OVER,
        Event.REFUSE,
        Event.LAPSE,
        Event.NOTICE_FAILED,
        Event.BOUNCE_CLOSES,
        Event.LAPSE_UNREACHED,
    }
)
"""Events of which a sealed proof.pdf is made (CPCE R.53-2, R.53-3); of all others the record alone is sent."""

RECEIVED = frozenset({Event.HAND_OVER, Event.REFUSE})
"""Events of which the recipient gets a receipt."""

_MOST_EARLIER = 12
_TOGETHER = ("seal",)
"""Sections that no page break divides: short ones, whose values are the gateway's own."""
_APP_PASSWORD = re.compile(r"SMTP AUTH ([A-Z0-9-]{1,20}) with an app password, under TLS")
Row = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """One page to be: *record* as *words* say it, for the sender (proof) or the recipient (receipt)."""

    raw: bytes
    words: Words
    seal: Seal
    at: datetime
    profile: Profile | None = None
    """The rules the letter lived under, where they are known; without them times are shown in UTC alone."""
    receipt: bool = False
    anonymous: bool = False

    def data(self) -> dict[str, Any]:
        """What the template needs; JSON. Raises core.evidence.Broken for a record that is none."""
        record = parse_record(self.raw)
        event, words = Event(record["event"]), self.words
        kind = f"receipt_{event.value}" if self.receipt else event.value
        moment = parse_instant(record["at"])
        number = grouped(record["consignment"], 4)
        title, lead = words["title"][kind], self._best("lead", kind, record)
        return {
            "lang": words.language,
            "document_title": f"{title}, {number}",
            "author": foreign.clean(record["issuer"]["name"], 200),
            "keywords": [RECEIPT] if self.receipt else [PROOF, digest(self.raw)],
            "description": lead,
            "date": _date(self.at),
            "title": title,
            "level": words["general"]["qualified" if self.seal.qualified else "non_qualified"],
            "profile": foreign.clean(record["profile"]["title"].get(words.language, record["profile"]["id"]), 200),
            "issuer": {
                "name": foreign.pieces(record["issuer"]["name"]),
                "detail": foreign.pieces(f"{record['issuer']['address']} · {record['issuer']['domain']}"),
            },
            "number": foreign.pieces(number, mono=True),
            "moment": {
                "label": words["event_time"][event.value],
                "value": words.moment(moment, self._zone(record)),
                "zone": words.zone(moment, self._zone(record)),
            },
            "lead": lead,
            "footer": f"{title} · {number} · {foreign.clean(record['issuer']['domain'], 80)}",
            "words": words["general"],
            "sections": list(self._sections(record, event)),
            "attach": not self.receipt,
            "attach_description": words["section"]["record"],
        }

    @property
    def domain(self) -> str:
        return foreign.clean(parse_record(self.raw)["issuer"]["domain"], 255)

    # -- sections -----------------------------------------------------------------------------------------------------

    def _sections(self, record: Mapping[str, Any], event: Event) -> list[dict[str, Any]]:
        facts = record["facts"]
        made = [self._section("event", self._event_rows(record, event)), self._parties(record)]
        if not self.anonymous:
            made.append(self._section("letter", self._letter_rows(record)))
        if event is Event.DEPOSIT and not self.receipt:
            made.append(self._section("understood", self._understood_rows(facts)))
        if identification := facts.get("identification"):
            made.append(self._section("identification", self._identification_rows(identification, record)))
        made.append(self._section("window", self._window_rows(facts, record)))
        if not self.receipt:
            made.append(self._section("notice", self._notice_rows(facts, record)))
            made.append(self._section("record", self._record_rows(record)))
        made.append(self._section("seal", self._seal_rows(record)))
        made += self._meaning(event, record)
        made += [self._verification(record), self._law(record)]
        return [section for section in made if any(section[key] for key in ("rows", "points", "notes", "steps"))]

    def _section(self, name: str, rows: Sequence[Row] = (), **parts: Any) -> dict[str, Any]:
        return {
            "title": self.words["section"][name],
            "rows": [row for row in rows if row["values"]],
            "points": parts.get("points", []),
            "notes": parts.get("notes", []),
            "steps": parts.get("steps", []),
            "together": name in _TOGETHER,
        }

    def _event_rows(self, record: Mapping[str, Any], event: Event) -> list[Row]:
        facts, value = record["facts"], self.words["value"]
        rows = [self._row("kind", record["event_uri"], mono=True)]
        if event is not Event.DEPOSIT and not self.anonymous:
            rows.append(self._time("deposited_at", record["deposited_at"], record))
        rows += [self._time(key, facts.get(key), record) for key in ("accepted_at", "asked_at")]
        if event is Event.HAND_OVER:
            rows.append(self._row("form", value.get(f"form_{facts.get('form')}", facts.get("form"))))
        rows.append(self._row("sealed_at", self._both(self.at, record)))
        return rows

    def _parties(self, record: Mapping[str, Any]) -> dict[str, Any]:
        unknown = self.words["general"]["unknown_name"]
        sender, recipient = record["sender"], record["recipient"]
        rows = []
        if not self.anonymous:
            rows += [self._row("sender", sender["name"]), self._row("sender_address", sender["address"])]
        if not self.receipt:
            rows.append(
                self._row("sender_authentication", self._authentication(str(sender.get("authentication") or "")))
            )
        if not self.anonymous:  # the sender chose how to name the recipient
            rows.append(self._row("recipient", recipient["name"] or unknown))
        rows.append(self._row("recipient_address", recipient["address"]))
        return self._section("recipient" if self.anonymous else "parties", rows)

    def _authentication(self, text: str) -> str:
        known = _APP_PASSWORD.fullmatch(text)
        return self.words["value"]["app_password"].format(mechanism=known[1]) if known else text

    def _letter_rows(self, record: Mapping[str, Any]) -> list[Row]:
        content = record["content"]
        size = self.words["general"]["bytes"].format(n=self.words.number(content["size"]))
        return [
            self._row("sha256", content["sha256"], mono=True),
            self._row("size", size),
            self._row("message_id", content["message_id"], mono=True),
        ]

    def _understood_rows(self, facts: Mapping[str, Any]) -> list[Row]:
        value = self.words["value"]
        gesture, released, origin = facts.get("gesture"), facts.get("released"), facts.get("origin")
        return [
            self._row("gesture", value.get(f"gesture_{gesture}", gesture)),
            self._row("mail_from", facts.get("mail_from")),
            self._row("envid", facts.get("envid"), mono=True),
            self._row("tags", ", ".join(map(str, facts.get("tags") or [])) or value["nothing"]),
            self._row("language", facts.get("language")),
            self._row("changes", [str(change) for change in facts.get("changes") or []] or value["no_changes"]),
            self._row("released", value.get(str(released), released)),
            self._row("origin", attempts.flat(origin), mono=True),
        ]

    def _identification_rows(self, found: Mapping[str, Any], record: Mapping[str, Any]) -> list[Row]:
        method = self.words["value"].get(str(found.get("level")), found.get("method"))
        return [self._row("method", method), self._time("identified_at", found.get("at"), record)]

    def _window_rows(self, facts: Mapping[str, Any], record: Mapping[str, Any]) -> list[Row]:
        return [
            self._day("notice_day", facts.get("notice_day")),
            self._day("last_day", facts.get("last_day")),
            self._time("closes_at", facts.get("closes_at"), record),
        ]

    def _notice_rows(self, facts: Mapping[str, Any], record: Mapping[str, Any]) -> list[Row]:
        rows = [self._row(key, facts.get(key)) for key in ("attempts", "notices", "bounced", "reminders")]
        attempt = facts.get("attempt")
        if isinstance(attempt, Mapping):
            rows += [self._row(key, text, mono=True) for key, text in attempts.rows(attempt, self.words)]
            rows += [self._time(key, attempt.get(key), record) for key in ("began_at", "ended_at")]
        if isinstance(facts.get("bounce"), Mapping):
            rows.append(self._row("bounce", attempts.flat(facts["bounce"]), mono=True))
        return rows

    def _record_rows(self, record: Mapping[str, Any]) -> list[Row]:
        value, chain = self.words["value"], record["chain"]
        earlier = [f"{n:>3}  {item}" for n, item in enumerate(chain, 1)]
        if len(earlier) > _MOST_EARLIER:
            elided = value["elided"].format(n=len(earlier) - _MOST_EARLIER)
            earlier = [*earlier[:2], elided, *earlier[2 - _MOST_EARLIER :]]
        return [
            self._row("digest", digest(self.raw), mono=True),
            self._row("position", value["position"].format(n=record["n"])),
            self._row("earlier", earlier or value["first_record"], mono=bool(earlier)),
        ]

    def _seal_rows(self, record: Mapping[str, Any]) -> list[Row]:
        return [
            self._row("seal_name", self.seal.name),
            self._row("seal_fingerprint", self.seal.fingerprint, mono=True),
            self._row("root_name", self.seal.root_name),
            self._row("root_fingerprint", self.seal.root_fingerprint, mono=True),
            self._row("seal_level", self.words["value"]["software"] if not self.seal.qualified else None),
            self._row("policy", record["profile"].get("policy"), mono=True),
        ]

    def _meaning(self, event: Event, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        denied = self.words["not_proves"]
        if self.receipt:
            return [self._section("receipt_not_proves", points=denied["receipt"])]
        points = [*(self._best("not_proves", event.value, record) or []), *denied["common"]]
        return [
            self._section("proves", points=self._best("proves", event.value, record)),
            self._section("not_proves", points=points),
        ]

    def _best(self, section: str, key: str, record: Mapping[str, Any]) -> Any:
        """The words of *key*, those for what was heard before the common ones; None where there are none."""
        names = [f"{key}_{name}" for name in variants(Event(record["event"]), record["facts"])]
        return next((self.words[section][name] for name in [*names, key] if name in self.words[section]), None)

    def _verification(self, record: Mapping[str, Any]) -> dict[str, Any]:
        words, file = self.words["verify"], "receipt.pdf" if self.receipt else "proof.pdf"
        steps = [
            (words["pli"], [f"pli verify {file} --trust ca.pem" + ("" if self.receipt else " --letter letter.eml")]),
            (
                words["pdfsig"],
                [
                    "mkdir nss && certutil -N -d sql:nss --empty-password",
                    "certutil -A -d sql:nss -n pli -t ,C, -a -i ca.pem",
                    f"pdfsig -nssdir sql:nss {file}",
                ],
            ),
        ]
        if not self.receipt:
            steps.append((words["record"], ["pdfdetach -save 1 -o evidence.json proof.pdf", "sha256sum evidence.json"]))
            steps.append((words["letter"], ["sha256sum letter.eml"]))
        intro = words["receipt_intro" if self.receipt else "intro"]
        made = [{"text": text, "commands": [[command] for command in commands]} for text, commands in steps]
        return self._section("verify", notes=[intro], steps=made)

    def _law(self, record: Mapping[str, Any]) -> dict[str, Any]:
        default = self.words["law"]["default"]
        known = self.profile is not None and self.profile.id == record["profile"]["id"]
        text = self.profile.law.get(self.words.language, default) if self.profile and known else default
        return self._section("law", notes=[text])

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _row(self, key: str, value: object, *, mono: bool = False) -> Row:
        """A label and its values, a line each; none where *value* is None or empty."""
        lines = value if isinstance(value, list) else [] if value is None or value == "" else [value]
        values = [foreign.pieces(line, self.words["general"]["shortened"], mono=mono) for line in lines]
        return {"label": self.words["label"][key], "values": values, "mono": mono}

    def _time(self, key: str, text: str | None, record: Mapping[str, Any]) -> Row:
        return self._row(key, self._both(parse_instant(text), record) if text else None)

    def _both(self, at: datetime, record: Mapping[str, Any]) -> str:
        return self.words.both(at, self._zone(record))

    def _day(self, key: str, text: str | None) -> Row:
        return self._row(key, self.words.day(date.fromisoformat(text)) if text else None)

    def _zone(self, record: Mapping[str, Any]) -> ZoneInfo | None:
        """The zone in which the letter's days are counted; None where nothing tells it."""
        name = record["facts"].get("zone")
        if isinstance(name, str) and name:
            try:
                return ZoneInfo(name)
            except (OSError, ValueError):
                return None
        return self.profile.zone if self.profile and self.profile.id == record["profile"]["id"] else None


def _date(at: datetime) -> dict[str, int]:
    utc = at.astimezone(UTC)
    return {key: getattr(utc, key) for key in ("year", "month", "day", "hour", "minute", "second")}
