"""Evidence: the canonical record of one event of one letter, the chain it stands in, and the state it proves.

A record is a JSON object in the canonical form of RFC 8785; its SHA-256 is the record digest. Record n of a letter names the
digest of record n-1 (`previous`) and, for readers who hold only some records, the digests of all earlier ones (`chain`).
What only a court may see (the recipient's network address and agent) is not in the record: `private` is a salted digest of it.
Not here: where records are kept (storage/ledger.py), how they are shown and signed (proof/).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from gateway.core.letter import Event, Letter, State, after

FORMAT = "pli-evidence-1"
GENESIS = "0" * 64
"""`previous` of a letter's first record."""

_DEEPEST = 16
"""How deep a value in a record may be nested."""
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)
"""Kept, as json.dumps would make one for each record. A value that holds itself is too deep and never comes here."""

_ETSI = "http://uri.etsi.org/19522/Event/"  # EN 319 522-3 Table 2
_OWN = "urn:pli:event:"

ETSI_EVENT: dict[Event, str] = {  # EN 319 522-1 clause 6.2, Table 1
    Event.DEPOSIT: _ETSI + "SubmissionAcceptance",
    Event.REJECT: _ETSI + "SubmissionRejection",
    Event.DISCARD: _ETSI + "SubmissionRejection",
    Event.NOTICE_TAKEN: _ETSI + "NotificationForAcceptance",
    Event.REMINDER_TAKEN: _ETSI + "NotificationForAcceptance",
    Event.NOTICE_FAILED: _ETSI + "NotificationForAcceptanceFailure",
    Event.BOUNCE: _ETSI + "NotificationForAcceptanceFailure",
    Event.BOUNCE_CLOSES: _ETSI + "NotificationForAcceptanceFailure",
    Event.LAPSE_UNREACHED: _ETSI + "NotificationForAcceptanceFailure",
    Event.ACCEPT: _ETSI + "ConsignmentAcceptance",
    Event.REFUSE: _ETSI + "ConsignmentRejection",
    Event.LAPSE: _ETSI + "AcceptanceRejectionExpiry",
    Event.CONSIGN: _ETSI + "ContentConsignment",
    Event.HAND_OVER: _ETSI + "ContentHandover",
    Event.HAND_OVER_FAILED: _ETSI + "ContentHandoverFailure",
    Event.DOWNLOAD_REPEATED: _ETSI + "ContentAccessTracking",
    Event.PRINT: _ETSI + "RelayToNonERDS",
}
"""Events with a name in EN 319 522; all others carry a URI of our own."""


class Broken(ValueError):
    """A record or a chain that does not hold; the text names the defect."""


def event_uri(event: Event) -> str:
    return ETSI_EVENT.get(event, _OWN + event.value)


def canonical(value: object) -> bytes:
    """The canonical JSON bytes of *value* (RFC 8785).

    Only what needs no floating point: objects with ASCII keys, arrays, strings, integers below 2**53, booleans, null.
    Raises Broken for anything else.
    """
    _plain(value, 0)
    try:
        return _JSON.encode(value).encode()
    except UnicodeEncodeError as error:
        raise Broken("a text holds half a surrogate pair") from error


def _plain(value: object, depth: int) -> None:
    if depth > _DEEPEST:
        raise Broken("nested too deeply")
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if abs(value) >= 2**53:
            raise Broken("a number is too large")
    elif isinstance(value, (dict, Mapping)):  # dict by itself, as the look at an abstract class is dear
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise Broken("a key is not an ASCII text")
            if type(item) is not str or depth == _DEEPEST:  # most values are texts, which need no call to be plain
                _plain(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _plain(item, depth + 1)
    else:
        raise Broken(f"a {type(value).__name__} has no place in a record")


def instant(at: datetime) -> str:
    """*at* as it stands in records: UTC, microseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_instant(text: str) -> datetime:
    """What `instant` wrote; raises Broken for every other writing, which strptime alone would take ("2026-3-1T…")."""
    try:
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except (ValueError, TypeError) as error:
        raise Broken(f"not an instant: {text!r}") from error
    if instant(at) != text:
        raise Broken(f"not an instant: {text!r}")
    return at


def digest(record: bytes) -> str:
    """SHA-256 of a canonical record, in lower-case hexadecimal."""
    return hashlib.sha256(record).hexdigest()


def commitment(salt: bytes, record_digest: str) -> str:
    """SHA-256(salt ‖ record digest): what the public log holds, so that nobody can guess a person from it (DESIGN.md 6).

    salt: 32 random bytes; record_digest: hexadecimal. Returns hexadecimal.
    """
    if len(salt) != 32:
        raise Broken("a salt has 32 bytes")
    return hashlib.sha256(salt + bytes.fromhex(record_digest)).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a letter's chain the next record stands: the digests of all its predecessors, in order."""

    chain: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.chain) + 1

    @property
    def previous(self) -> str:
        return self.chain[-1] if self.chain else GENESIS

    def then(self, record_digest: str) -> Place:
        return Place((*self.chain, record_digest))


def make_record(
    subject: Mapping[str, Any],
    place: Place,
    event: Event,
    state: State,
    at: datetime,
    facts: Mapping[str, Any],
    private: str | None = None,
) -> bytes:
    """The canonical record of *event*, which left the letter in *state*.

    subject: what is the same in all records of a letter: consignment, letter, profile, issuer, sender, recipient, content,
    deposited_at (CPCE R.53-2 1° to 4°). facts: what this event adds. private: salted digest of facts kept for a court.
    """
    return canonical(
        {
            **subject,
            "format": FORMAT,
            "n": place.n,
            "previous": place.previous,
            "chain": list(place.chain),
            "event": event.value,
            "event_uri": event_uri(event),
            "state": state.value,
            "at": instant(at),
            "facts": dict(facts),
            "private": private,
        }
    )


_SUBJECT = ("consignment", "letter", "profile", "issuer", "sender", "recipient", "content", "deposited_at")
_REQUIRED = {*_SUBJECT, "format", "n", "previous", "chain", "event", "event_uri", "state", "at", "facts", "private"}
_HEX = re.compile(r"[0-9a-f]{64}")


def parse_record(raw: bytes) -> dict[str, Any]:
    """Read a record and hold it to its form; raises Broken naming the first defect."""
    if len(raw) > 1_000_000:
        raise Broken("the record is larger than any record is")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Broken("the record is not JSON") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise Broken(f"the record is not of the form {FORMAT}")
    if missing := _REQUIRED - value.keys():
        raise Broken(f"the record lacks {', '.join(sorted(missing))}")
    if canonical(value) != raw:
        raise Broken("the record is not in canonical form (RFC 8785)")
    _check_place(value)
    _check_event(value)
    return cast("dict[str, Any]", value)


def _check_place(record: Mapping[str, Any]) -> None:
    chain, n, previous = record["chain"], record["n"], record["previous"]
    if not isinstance(chain, list) or not all(isinstance(d, str) and _HEX.fullmatch(d) for d in chain):
        raise Broken("the chain is not a list of SHA-256 digests")
    if type(n) is not int or n != len(chain) + 1:  # true would be 1
        raise Broken(f"record number {n} does not fit a chain of {len(chain)}")
    if previous != (chain[-1] if chain else GENESIS):
        raise Broken("previous is not the last digest of the chain")


def _check_event(record: Mapping[str, Any]) -> None:
    try:
        event = Event(record["event"])
        State(record["state"])
    except ValueError as error:
        raise Broken(str(error)) from error
    if record["event_uri"] != event_uri(event):
        raise Broken("event and event_uri differ")
    if not isinstance(record["facts"], dict):
        raise Broken("facts is not an object")
    parse_instant(record["at"])


def check_chain(records: Sequence[bytes]) -> list[dict[str, Any]]:
    """Parse all records of one letter, first to last, and hold each to its predecessors; raises Broken."""
    place = Place()
    parsed: list[dict[str, Any]] = []
    for raw in records:
        record = parse_record(raw)
        if tuple(record["chain"]) != place.chain:
            raise Broken(f"record {record['n']} does not follow the {len(place.chain)} records before it")
        if parsed and any(record[key] != parsed[0][key] for key in _SUBJECT if key != "deposited_at"):
            raise Broken(f"record {record['n']} speaks of another letter")
        parsed.append(record)
        place = place.then(digest(raw))
    return parsed


def replay(records: Iterable[Mapping[str, Any]]) -> State | None:
    """The state that parsed *records*, in order, lead to, by `core.letter.after` alone; None without records.

    Raises Broken where a record claims a state that its event does not lead to, NotAllowed where a step is not in the table.
    """
    letter = Letter(state=None)
    for record in records:
        facts, at = record["facts"], parse_instant(record["at"])
        event = Event(record["event"])
        asked_at, open_until = (
            parse_instant(facts[key]) if key in facts else None for key in ("asked_at", "open_until")
        )
        state = after(replace(letter, asked_at=asked_at, open_until=open_until), event, at)
        if state != record["state"]:
            raise Broken(f"record {record['n']}: {event} leads to {state}, not to {record['state']}")
        closes_at = parse_instant(facts["closes_at"]) if "closes_at" in facts else letter.closes_at
        letter = Letter(state=state, closes_at=closes_at)
    return letter.state
