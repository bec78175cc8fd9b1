"""`pli verify`: holds proofs to everything they claim, offline; no database, no network, no settings, no clock.

Each step passes, fails, or says what could not be known. What vouches for a record is a seal over it, or over a later record of
the same letter, whose chain names its digest. Not here: one PDF's seal (sealcheck.py), the form of records (core/evidence.py).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from asn1crypto import pem
from asn1crypto import x509 as asn1

from gateway.core.errors import PliError
from gateway.core.evidence import Broken, check_chain, digest, instant, parse_instant, parse_record, replay
from gateway.proof.gather import PROOF_PART, RECORD_PART, Gathered, Part, Unreadable, gather
from gateway.proof.sealcheck import PROOF, RECEIPT, Bad, Sealed, check_sealed

VALID, INVALID, UNREADABLE, UNANCHORED = 0, 1, 2, 3
PASS, FAIL, UNKNOWN, NOTE = "pass", "fail", "unknown", "note"
_SLACK = timedelta(seconds=60)
"""A seal states whole seconds, and the clocks of two machines of one gateway differ a little."""


@dataclass(frozen=True, slots=True)
class Step:
    step: str
    part: str
    verdict: str
    reason: str


def run_verify(path: Path, letter: Path | None, trust: Path | None, as_json: bool) -> tuple[str, int]:
    """What to print, and the exit code: 0 valid and anchored in *trust*, 3 nothing wrong but not anchored, 1 invalid,
    2 unreadable. path: a PDF, an evidence.json, a saved mail, or a folder of them. letter: bytes to hold against it."""
    try:
        anchors = _anchors(trust) if trust is not None else []
        found = gather(path)
        if letter is not None and found.letter is not None:
            found.mails.append(_content(found.letter)[:2])
        letter = letter or found.letter
        content = _content(letter) if letter is not None else None
    except Unreadable as error:
        steps, code = [Step("read", str(path), FAIL, str(error))], UNREADABLE
    else:
        check = _Check(found, anchors, content)
        steps = check.steps()
        verdicts = {step.verdict for step in steps}
        code = INVALID if FAIL in verdicts else UNANCHORED if UNKNOWN in verdicts else VALID
    if as_json:
        fields = ("step", "part", "verdict", "reason")
        return json.dumps(
            [{name: getattr(s, name) for name in fields} for s in steps], indent=2, ensure_ascii=False
        ), code
    return _text(steps, code), code


@dataclass
class _Check:
    found: Gathered
    anchors: Sequence[asn1.Certificate]
    content: tuple[str, str, int] | None
    """The letter: file name, SHA-256, size."""
    done: list[Step] = field(default_factory=list)
    records: dict[str, bytes] = field(default_factory=dict)
    """By digest."""
    names: dict[str, str] = field(default_factory=dict)
    sealed: dict[str, Sealed] = field(default_factory=dict)
    """The seals over records, by the record's digest."""
    attached: dict[str, bytes | None] = field(default_factory=dict)
    """The record in a PDF whose seal holds, by the PDF's digest."""

    def steps(self) -> list[Step]:
        for part in self._once("pdf"):
            self._run("seal", part.name, self._pdf, part)
        for part in self._once("record"):
            self._run("record", part.name, self._record, part)
        for part in self.found.parts:
            if part.kind == "record":
                self._beside(part)
        for records in self._letters():
            self._run("chain", _letter_name(records), self._chain, records)
            self._vouched(records)
            self._run("letter", _letter_name(records), self._letter, records)
        if self.content is not None and not self.records:
            self.done.append(Step("letter", self.content[0], UNKNOWN, "nothing here tells which letter it speaks of"))
        if self.sealed:
            sentence = "the words on the pages were not compared by machine: the attached record decides, not the page"
            self.done.append(Step("page", "proof.pdf", NOTE, sentence))
        self._run("letter", "folder", self._mails)
        self.done += [Step("read", name, UNKNOWN, reason) for name, reason in self.found.unjudged]
        self.done += [Step("read", "folder", NOTE, sentence) for sentence in self.found.skipped]
        return self.done

    def _mails(self) -> Iterator[Step]:
        """Mails without a proof: each is the letter of one here, or nobody can say what it is for."""
        letters = {parse_record(raw)["content"]["sha256"] for raw in self.records.values()}
        for name, sha256 in self.found.mails:
            if sha256 in letters:
                yield Step("letter", name, PASS, f"the very bytes that were deposited (SHA-256 {sha256})")
            else:
                sentence = f"holds no proof, and is not the letter of any proof here (SHA-256 {sha256})"
                yield Step("read", name, UNKNOWN, sentence)

    def _run(self, step: str, part: str, check: Any, *arguments: Any) -> None:
        try:
            self.done += list(check(*arguments))
        except (Broken, Bad, PliError) as error:
            detail = error.detail if isinstance(error, PliError) and error.detail else str(error)
            self.done.append(Step(step, part, FAIL, detail))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            self.done.append(Step(step, part, FAIL, f"not as records are ({type(error).__name__}: {error})"))

    def _once(self, kind: str) -> Iterator[Part]:
        """The parts of a kind, each set of bytes once."""
        seen = set[str]()
        for part in self.found.parts:
            if part.kind == kind and part.digest not in seen:
                seen.add(part.digest)
                yield part

    # -- single parts -------------------------------------------------------------------------------------------------

    def _pdf(self, part: Part) -> Iterator[Step]:
        sealed = check_sealed(part.data, self.anchors)
        self.attached[part.digest] = sealed.record
        yield Step(
            "seal", part.name, PASS, f"unchanged since it was sealed; sealed at {sealed.at:%Y-%m-%d %H:%M:%S %Z}"
        )
        whose = f"{sealed.name} (certificate SHA-256 {sealed.fingerprint})"
        if sealed.anchored:
            yield Step("anchor", part.name, PASS, f"{whose}, issued by a certificate in --trust, valid at that time")
        else:
            yield Step("anchor", part.name, UNKNOWN, f"{whose}: whose it is cannot be known without --trust ca.pem")
        if RECEIPT in sealed.keywords and sealed.record is None:
            yield Step(
                "record", part.name, NOTE, "a recipient's receipt: it holds no record, its page is what was sealed"
            )
            return
        if sealed.record is None or PROOF not in sealed.keywords:
            raise Bad("sealed, but neither a proof with its record nor a receipt")
        found = digest(sealed.record)
        record = self._take(f"{part.name}/evidence.json", sealed.record)
        if found not in sealed.keywords:
            raise Bad("the record attached is not the one that the PDF names")
        if sealed.at + _SLACK < parse_instant(record["at"]):
            raise Bad("sealed before the event that it proves")
        self.sealed[found] = sealed
        yield _said(part.name, record, found)

    def _record(self, part: Part) -> Iterator[Step]:
        known = part.digest in self.records
        record = self._take(part.name, part.data)
        if not known:
            yield _said(part.name, record, part.digest)

    def _take(self, name: str, raw: bytes) -> dict[str, Any]:
        record = parse_record(raw)
        self.records.setdefault(digest(raw), raw)
        self.names.setdefault(digest(raw), name)
        return record

    def _beside(self, part: Part) -> None:
        """An evidence.json in the same mail or folder as one proof.pdf must be the record inside that."""
        near = [p for p in self.found.parts if p.holder == part.holder and self.attached.get(p.digest) is not None]
        beside = [p for p in near if self.attached[p.digest] == part.data]
        if not beside and Path(part.name).name == RECORD_PART:
            beside = [p for p in near if Path(p.name).name == PROOF_PART]  # by other names they may be of other events
        if not beside:
            return
        same = self.attached[beside[0].digest] == part.data
        reason = "the same bytes as attached to" if same else "not the record that is attached to"
        self.done.append(Step("same", part.name, PASS if same else FAIL, f"{reason} {beside[0].name}"))

    # -- one letter ---------------------------------------------------------------------------------------------------

    def _letters(self) -> Iterator[list[tuple[dict[str, Any], bytes]]]:
        """The records of each letter, in order."""
        grouped = defaultdict[str, list[tuple[dict[str, Any], bytes]]](list)
        for raw in self.records.values():
            record = parse_record(raw)
            grouped[str(record["letter"])].append((record, raw))
        yield from (sorted(records, key=lambda pair: pair[0]["n"]) for records in grouped.values())

    def _chain(self, records: Sequence[tuple[dict[str, Any], bytes]]) -> Iterator[Step]:
        name, numbers = _letter_name(records), [record["n"] for record, _ in records]
        for (first, raw), (later, _) in pairwise(records):
            if first["n"] == later["n"]:
                raise Broken(f"there are two different records number {first['n']} of this letter")
            if later["chain"][: first["n"]] != [*first["chain"], digest(raw)]:
                raise Broken(f"record {later['n']} does not follow record {first['n']}")
        if numbers == list(range(1, len(numbers) + 1)):
            state = replay(check_chain([raw for _, raw in records]))
            yield Step(
                "chain", name, PASS, f"complete from the first record to number {numbers[-1]}; the letter is {state}"
            )
            return
        _same_subject(records)
        given = ", ".join(map(str, numbers))
        if len(numbers) > 1:
            yield Step(
                "chain", name, PASS, f"the records given ({given}) follow one another; those between were not given"
            )
        else:
            yield Step("chain", name, NOTE, f"record {given} alone; the {numbers[0] - 1} before it were not given")

    def _vouched(self, records: Sequence[tuple[dict[str, Any], bytes]]) -> None:
        covered: dict[str, str] = {}
        for record, raw in records:
            if digest(raw) in self.sealed:
                covered |= dict.fromkeys(record["chain"], f"named by the sealed record {record['n']}")
        for _, raw in records:
            found = digest(raw)
            if found in self.sealed:
                continue
            name = self.names[found]
            if found in covered:
                self.done.append(Step("sealed", name, PASS, covered[found]))
            else:
                sentence = (
                    "not sealed: its form is right, but anybody could have written it;"
                    " a proof.pdf of this letter that is as late or later will vouch for it"
                )
                self.done.append(Step("sealed", name, UNKNOWN, sentence))

    def _letter(self, records: Sequence[tuple[dict[str, Any], bytes]]) -> Iterator[Step]:
        content = records[0][0]["content"]
        if self.content is None:
            sentence = f"not given; its SHA-256 must be {content['sha256']}"
            yield Step("letter", _letter_name(records), NOTE, sentence)
            return
        name, sha256, size = self.content
        if (sha256, size) != (content["sha256"], content["size"]):
            raise Bad(
                f"{name} is not the letter: SHA-256 {sha256}, {size} bytes; {content['sha256']}, {content['size']} bytes wanted"
            )
        yield Step("letter", name, PASS, f"the very bytes that were deposited ({size} bytes, SHA-256 {sha256})")


def _same_subject(records: Sequence[tuple[dict[str, Any], bytes]]) -> None:
    for record, _ in records[1:]:
        for key in ("consignment", "issuer", "sender", "recipient", "content", "profile"):
            if record[key] != records[0][0][key]:
                raise Broken(f"record {record['n']} speaks of another letter ({key})")


def _letter_name(records: Sequence[tuple[dict[str, Any], bytes]]) -> str:
    return f"letter {records[0][0]['letter']}"


def _said(name: str, record: dict[str, Any], found: str) -> Step:
    at = instant(parse_instant(record["at"]))
    return Step(
        "record", name, PASS, f"{record['event']}, record {record['n']}, at {at}; canonical form, SHA-256 {found}"
    )


def _anchors(trust: Path) -> list[asn1.Certificate]:
    try:
        data = trust.read_bytes()
        found = [asn1.Certificate.load(der, strict=True) for _, _, der in pem.unarmor(data, multiple=True)]
        for certificate in found:
            _ = certificate.subject.native, certificate.public_key.algorithm
    except OSError as error:
        raise Unreadable(f"--trust: {trust} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"--trust: {trust} holds no certificates in PEM") from error
    return found


def _content(letter: Path) -> tuple[str, str, int]:
    try:
        with letter.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return letter.name, sha256, file.tell()
    except OSError as error:
        raise Unreadable(f"--letter: {letter} cannot be read ({error.strerror})") from error


_SENTENCES = {
    VALID: "valid: all of it holds, and the seal is anchored in --trust",
    INVALID: "INVALID: at least one step failed",
    UNREADABLE: "unreadable: there was nothing to verify",
    UNANCHORED: "nothing wrong was found, but not all of it is anchored or verified: see the steps marked with ?",
}


def _text(steps: Sequence[Step], code: int) -> str:
    marks = {PASS: "ok", FAIL: "FAILED", UNKNOWN: "?", NOTE: "note"}
    lines = [
        f"{n:>3}. {marks[step.verdict]:<6} {step.step:<7} {_shown(step.part)}: {_shown(step.reason)}"
        for n, step in enumerate(steps, 1)
    ]
    return "\n".join([*lines, _SENTENCES[code]])


def _shown(text: str) -> str:
    """One line for a terminal: foreign text may hold control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)[:1000]
