"""Records, their canonical bytes, the chain they stand in, and the state they prove."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import NotAllowed
from gateway.core.evidence import (
    ETSI_EVENT,
    FORMAT,
    GENESIS,
    Broken,
    Place,
    canonical,
    check_chain,
    commitment,
    digest,
    event_uri,
    instant,
    make_record,
    parse_instant,
    parse_record,
    replay,
)  # fmt: skip
from gateway.core.letter import STEPS, Event, State

AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
CLOSES = datetime(2026, 3, 16, 23, 0, tzinfo=UTC)
SUBJECT: dict[str, Any] = {
    "consignment": "C", "letter": "L", "profile": {"id": "fr"}, "issuer": {"name": "Pli"},
    "sender": {"name": "Sender Ü"},
    "recipient": {"name": "", "address": "jane.doe@example.org"}, "content": {"sha256": "0" * 64, "size": 3},
    "deposited_at": instant(AT),
}  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
Step = tuple[Event, State, datetime, dict[str, Any]]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable, max_size=8), inner, max_size=4)
    ),
    max_leaves=15,
)


def _chain(*steps: Step) -> list[bytes]:
    place, records = Place(), []
    for event, state, at, facts in steps:
        records.append(make_record(SUBJECT, place, event, state, at, facts))
        place = place.then(digest(records[-1]))
    return records


WINDOW = {"closes_at": instant(CLOSES)}
DEPOSIT: Step = (Event.DEPOSIT, State.DEPOSITED, AT, {})
NOTICE: Step = (Event.NOTICE_TAKEN, State.NOTIFIED, AT + timedelta(minutes=1), WINDOW)
LAPSE: Step = (Event.LAPSE, State.UNCLAIMED, CLOSES, {})
ASKED = {"asked_at": instant(CLOSES - timedelta(minutes=1)), "open_until": instant(CLOSES + timedelta(minutes=59))}
ACCEPT: Step = (Event.ACCEPT, State.ACCEPTED, CLOSES + timedelta(minutes=5), ASKED)
HAND_OVER: Step = (Event.HAND_OVER, State.HANDED_OVER, CLOSES + timedelta(minutes=6), {})


class TestCanonical:
    def test_an_example_by_hand(self) -> None:
        """RFC 8785 3.2: sorted keys, no blanks, the shortest escapes, all else as UTF-8."""
        value = {"b": [1, True, None, -5], "a": 'é"\\/\n\x1f\x7f\u2028😀', "A": {}, "": []}
        text = '{"":[],"A":{},"a":"é\\"\\\\/\\n\\u001f\x7f\u2028😀","b":[1,true,null,-5]}'
        assert canonical(value) == text.encode()

    def test_the_escapes_of_the_rfc(self) -> None:
        """RFC 8785 3.2.2.2: five short ones, the other controls as \\u00xx in lower case."""
        short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
        for code in range(32):
            assert canonical(chr(code)).decode() == '"' + short.get(code, rf"\u{code:04x}") + '"'

    @given(PLAIN)
    def test_one_value_has_one_writing(self, value: object) -> None:
        raw = canonical(value)
        assert json.loads(raw) == value
        assert canonical(json.loads(raw)) == raw
        assert canonical(json.loads(json.dumps(value, indent=3))) == raw

    @given(st.dictionaries(st.text(string.ascii_letters, max_size=8), st.integers(0, 9)))
    def test_the_order_of_keys_does_not_matter(self, value: dict[str, int]) -> None:
        assert canonical(dict(reversed(value.items()))) == canonical(value)

    @pytest.mark.parametrize(
        "value",
        [1.0, float("nan"), 2**53, -(2**53), {"é": 1}, {1: 2}, b"bytes", {"a": {1}}, "\ud800", AT, [[1.5]], object()],
        ids=lambda value: type(value).__name__,
    )
    def test_what_has_no_place(self, value: object) -> None:
        with pytest.raises(Broken):
            canonical(value)

    def test_depth_is_bounded(self) -> None:
        nested: list[Any] = []
        for _ in range(10_000):
            nested = [nested]
        with pytest.raises(Broken, match="deeply"):
            canonical(nested)


class TestInstant:
    @given(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
    def test_round_trip_from_any_zone(self, naive: datetime, offset: int) -> None:
        at = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
        assert parse_instant(instant(at)) == at

    @pytest.mark.parametrize(
        "text",
        ["", "2026-03-01", "2026-3-1T9:0:0.0Z", "2026-03-01T09:00:00Z", "2026-03-01T09:00:00.000000+00:00", None, 5,
         "2026-02-30T09:00:00.000000Z", "٢٠٢٦-03-01T09:00:00.000000Z", "2026-03-01T09:00:00.000Z"],
    )  # fmt: skip
    def test_only_our_own_writing(self, text: Any) -> None:
        with pytest.raises(Broken):
            parse_instant(text)


def test_commitment_by_hand() -> None:
    salt, record = bytes(range(32)), digest(b"record")
    assert commitment(salt, record) == hashlib.sha256(salt + hashlib.sha256(b"record").digest()).hexdigest()
    with pytest.raises(Broken):
        commitment(salt[:31], record)


def test_every_event_has_one_absolute_uri() -> None:
    for event in Event:
        assert event_uri(event) == ETSI_EVENT.get(event, f"urn:pli:event:{event.value}")
    # EN 319 522-1 6.2: names that DESIGN.md 3 gives to the table's rows.
    assert event_uri(Event.DEPOSIT) == "http://uri.etsi.org/19522/Event/SubmissionAcceptance"
    assert event_uri(Event.LAPSE) == "http://uri.etsi.org/19522/Event/AcceptanceRejectionExpiry"
    assert event_uri(Event.WITHDRAW) == "urn:pli:event:withdraw"


class TestRecord:
    def test_holds_subject_place_event_and_state(self) -> None:
        record = parse_record(make_record(SUBJECT, Place(), Event.DEPOSIT, State.DEPOSITED, AT, {"x": 1}, "f" * 64))
        assert {key: record[key] for key in SUBJECT} == SUBJECT
        assert (record["format"], record["n"], record["previous"], record["chain"]) == (FORMAT, 1, GENESIS, [])
        assert (record["event"], record["state"], record["at"]) == (
            "deposit",
            "deposited",
            "2026-03-01T09:00:00.000000Z",
        )
        assert (record["facts"], record["private"]) == ({"x": 1}, "f" * 64)

    def _changed(self, **changed: Any) -> bytes:
        record = json.loads(make_record(SUBJECT, Place(("a" * 64,)), Event.DEPOSIT, State.DEPOSITED, AT, {}))
        return canonical({key: value for key, value in {**record, **changed}.items() if value is not ...})

    def test_unchanged_is_sound(self) -> None:
        parse_record(self._changed())

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"format": "pli-evidence-2"}, "form"), ({"n": 3}, "number"),
            ({"n": True, "chain": [], "previous": GENESIS}, "number"),
            ({"n": "2"}, "number"), ({"previous": "b" * 64}, "previous"), ({"chain": "a"}, "chain"),
            ({"chain": ["A" * 64]}, "chain"),
            ({"chain": [5]}, "chain"), ({"event": "party"}, "party"), ({"event": []}, "Event"),
            ({"state": "happy"}, "happy"),
            ({"event_uri": "urn:x"}, "event_uri"), ({"facts": []}, "facts"), ({"at": "now"}, "instant"),
            ({"at": None}, "instant"),
            ({"chain": [], "n": 1}, "previous"), ({"sender": ...}, "lacks sender"),
            ({"private": ..., "at": ...}, "lacks at, private"),
        ],
    )  # fmt: skip
    def test_defects_are_named(self, changed: dict[str, Any], said: str) -> None:
        with pytest.raises(Broken, match=said):
            parse_record(self._changed(**changed))

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"[]",
            b"null",
            b"{}",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"a":1e999}',
            b"9" * 5000,
            b" " * 1_000_001,
            b'"\\ud800"',
        ],
        ids=lambda raw: repr(raw[:12]),
    )
    def test_what_is_no_record(self, raw: bytes) -> None:
        with pytest.raises(Broken):
            parse_record(raw)

    def test_other_writings_of_the_same_value_are_refused(self) -> None:
        raw = self._changed()
        for other in (
            raw + b"\n", b" " + raw, raw.replace(b'":', b'": ', 1), raw.replace("Ü".encode(), b"\\u00dc"),
            json.dumps(json.loads(raw)).encode(), raw.replace(b'"n":2', b'"n":2.0'),
            raw.replace(b'{"at"', b'{"at":"x","at"'),
            raw.decode().encode("utf-16"),
        ):  # fmt: skip
            assert other != raw
            with pytest.raises(Broken):
                parse_record(other)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, raw: bytes) -> None:
        with pytest.raises(Broken):
            parse_record(raw)


class TestChain:
    def test_each_record_names_all_before_it(self) -> None:
        records = _chain(DEPOSIT, NOTICE, LAPSE)
        parsed = check_chain(records)
        assert [record["n"] for record in parsed] == [1, 2, 3]
        assert parsed[2]["chain"] == [digest(records[0]), digest(records[1])]
        assert parsed[2]["previous"] == digest(records[1])
        assert check_chain([]) == []

    @pytest.mark.parametrize("wrong", [[1], [0, 2], [1, 0, 2], [0, 1, 1], [0, 0], [2]])
    def test_left_out_doubled_or_out_of_order(self, wrong: list[int]) -> None:
        records = _chain(DEPOSIT, NOTICE, LAPSE)
        with pytest.raises(Broken):
            check_chain([records[i] for i in wrong])

    def test_records_of_two_letters_make_no_chain(self) -> None:
        first = make_record(SUBJECT, Place(), *DEPOSIT[:4])
        for key in SUBJECT:
            other = {**SUBJECT, key: {"other": True}}
            second = make_record(other, Place((digest(first),)), *NOTICE[:4])
            if key == "deposited_at":  # unknown while the letter is held
                check_chain([first, second])
            else:
                with pytest.raises(Broken, match="another letter"):
                    check_chain([first, second])

    def test_every_single_bit_counts(self) -> None:
        """A flipped bit breaks its record or the chain after it; in the last record it changes the digest that is sealed."""
        records = _chain(DEPOSIT, NOTICE)
        tail = digest(records[-1])
        for which, raw in enumerate(records):
            for position in range(len(raw)):
                for bit in range(8):
                    flipped = bytearray(raw)
                    flipped[position] ^= 1 << bit
                    assert not _holds([*records[:which], bytes(flipped), *records[which + 1 :]], tail)
        assert _holds(records, tail)

    @given(st.data())
    @settings(max_examples=50)
    def test_any_other_bytes_in_any_place(self, data: st.DataObject) -> None:
        records = _chain(DEPOSIT, NOTICE, ACCEPT, HAND_OVER)
        tail = digest(records[-1])
        which = data.draw(st.integers(0, 3))
        raw = records[which]
        start = data.draw(st.integers(0, len(raw)))
        other = raw[:start] + data.draw(st.binary(max_size=8)) + raw[start + data.draw(st.integers(0, 8)) :]
        assert _holds([*records[:which], other, *records[which + 1 :]], tail) == (other == raw)


def _holds(records: list[bytes], tail: str) -> bool:
    try:
        check_chain(records)
    except Broken:
        return False
    return digest(records[-1]) == tail


class TestReplay:
    def test_no_records_no_state(self) -> None:
        assert replay([]) is None

    @pytest.mark.parametrize(
        "steps",
        [
            [DEPOSIT], [DEPOSIT, NOTICE], [DEPOSIT, NOTICE, LAPSE], [DEPOSIT, NOTICE, ACCEPT],
            [DEPOSIT, NOTICE, ACCEPT, HAND_OVER],
            [(Event.HOLD, State.HELD, AT, {}), DEPOSIT, NOTICE],
            [DEPOSIT, (Event.LINK_FETCHED, State.DEPOSITED, AT, {})],
        ],
    )  # fmt: skip
    def test_the_state_of_the_last_record(self, steps: list[Any]) -> None:
        assert replay(check_chain(_chain(*steps))) == steps[-1][1]

    def test_a_state_that_the_event_does_not_lead_to(self) -> None:
        with pytest.raises(Broken, match="leads to"):
            replay(check_chain(_chain((Event.DEPOSIT, State.ACCEPTED, AT, {}))))

    @pytest.mark.parametrize(
        "steps",
        [
            [NOTICE], [DEPOSIT, LAPSE], [DEPOSIT, NOTICE,
            (Event.LAPSE, State.UNCLAIMED, CLOSES - timedelta(seconds=1), {})],
            [DEPOSIT, NOTICE, (Event.ACCEPT, State.ACCEPTED, AT, {})], [DEPOSIT, NOTICE, LAPSE, ACCEPT],
            [(Event.LINK_FETCHED, State.DEPOSITED, AT, {})],
        ],
    )  # fmt: skip
    def test_steps_outside_the_table_or_their_time(self, steps: list[Any]) -> None:
        with pytest.raises(NotAllowed):
            replay(check_chain(_chain(*steps)))

    @given(st.data())
    def test_every_walk_through_the_table_replays(self, data: st.DataObject) -> None:
        state: State | None = None
        steps: list[Any] = []
        at = AT
        for _ in range(data.draw(st.integers(1, 8))):
            choices = [(event, to) for (start, event), to in STEPS.items() if start == state]
            if not choices:
                break
            event, state = data.draw(st.sampled_from(choices))
            at = max(at, CLOSES) if event in (Event.LAPSE, Event.LAPSE_UNREACHED) else at + timedelta(minutes=1)
            facts = WINDOW if event is Event.NOTICE_TAKEN else ASKED if event in (Event.ACCEPT, Event.REFUSE) else {}
            steps.append((event, state, at, facts))
        assert replay(check_chain(_chain(*steps))) == state


# -- the fast way to canonical bytes says what the plain one says -----------------------------------------------------------


class _Text(StrEnum):
    ONE = "one"


class _Number(IntEnum):
    ONE = 1
    LARGE = 2**53


def _by_the_letter(value: object) -> bytes:
    """`canonical` without anything that makes it fast."""
    _check(value, 0)
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Broken("a text holds half a surrogate pair") from None


def _check(value: object, depth: int) -> None:
    if depth > 16:
        raise Broken("nested too deeply")
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if abs(value) >= 2**53:
            raise Broken("a number is too large")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise Broken("a key is not an ASCII text")
            _check(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth + 1)
    else:
        raise Broken(f"a {type(value).__name__} has no place in a record")


def _outcome(make: Callable[[object], bytes], value: object) -> object:
    try:
        return make(value)
    except (Broken, TypeError) as error:
        return type(error), str(error)


_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=2)
    | st.sampled_from([*_Text, *_Number, 2**53 - 1, 2**53, -(2**53), "\ud800", "caf\u00e9", "\u2028", AT])
)  # fmt: skip
_KEYS = st.text(max_size=4) | st.sampled_from([_Text.ONE, 1, None, "\udc80"])
ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(string.ascii_letters, max_size=4), inner, max_size=3)
        | st.dictionaries(_KEYS, inner, max_size=3)
        | st.dictionaries(st.text(string.ascii_letters, max_size=4), inner, max_size=2).map(MappingProxyType)
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(PLAIN | ANYTHING)
def test_canonical_bytes_and_rejects_are_those_of_the_plain_way(value: object) -> None:
    assert _outcome(canonical, value) == _outcome(_by_the_letter, value)


@given(
    st.sampled_from(["x", 1, None, True, 1.5, 2**53, {}, [], {"k": "v"}, {"k": 1}, ["x"], {"é": 1}]),
    st.lists(st.sampled_from("{["), min_size=12, max_size=18),
)
def test_deep_values_are_taken_or_refused_as_the_plain_way_does(leaf: object, wrappings: list[str]) -> None:
    value = leaf
    for wrapping in wrappings:
        value = {"k": value} if wrapping == "{" else [value]
    assert _outcome(canonical, value) == _outcome(_by_the_letter, value)


def test_a_value_that_holds_itself_is_too_deep() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(Broken, match="deep"):
        canonical(value)
