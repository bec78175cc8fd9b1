"""What there is to verify at a path: the proof parts of a file, a saved mail, or a folder of them.

In folders and mails a proof is known by what is in it, whatever name a mail program saved it under; and what could have been one
and is none is named, so that nothing passes by being overlooked. Sizes, counts and depths are limited.
Not here: judging what was found (verifier.py).
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROOF_PART, RECORD_PART, LETTER_PART = "proof.pdf", "evidence.json", "letter.eml"
_PDFS = (PROOF_PART, "receipt.pdf")
_OUR_PDF = re.compile(rb"pli-(?:proof|receipt)-[0-9]")
"""A keyword; it stands in a PDF of ours twice and unpacked (sealcheck.py), so that no one change hides both."""
_OUR_RECORD = re.compile(rb'"pli-evidence-[0-9]')
_RECORD_NAME = re.compile(r"evidence\b.*\.json", re.IGNORECASE)
_NOT_OURS = "a PDF that is no proof, or no longer one; it was not verified"
_MOST_BYTES = 30_000_000
_MOST_FILES, _MOST_PARTS, _MOST_DEPTH = 5_000, 1_000, 6


class Unreadable(ValueError):
    """Nothing that can be verified; the text says why."""


@dataclass(frozen=True)
class Part:
    """One PDF or record. holder: the mail or folder it was found in."""

    name: str
    kind: str  # "pdf" or "record"
    data: bytes
    holder: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Gathered:
    parts: list[Part] = field(default_factory=list)
    letter: Path | None = None
    """A letter.eml that lies beside the proofs."""
    mails: list[tuple[str, str]] = field(default_factory=list)
    """Mails that hold no proof: name and SHA-256. One of them may be the letter."""
    unjudged: list[tuple[str, str]] = field(default_factory=list)
    """What could be a proof and cannot be verified: name and reason."""
    skipped: list[str] = field(default_factory=list)
    """Files that are of no kind that proofs are, each with its reason."""


def gather(path: Path) -> Gathered:
    """All parts at *path*. Raises Unreadable where it cannot be read or holds none."""
    found = Gathered()
    if path.is_dir():
        _folder(path, found)
        if not found.parts:
            raise Unreadable(f"{path}: no proof.pdf, evidence.json or status mail in this folder")
        return found
    data = _read(path)
    kind = _kind(path.name, data)
    if kind is None or (kind == "pdf" and b"%PDF-" not in data[:1024]):
        raise Unreadable(f"{path}: is neither a PDF, an evidence.json, nor a saved mail")
    if kind != "mail":
        found.parts.append(Part(path.name, kind, data, str(path.parent)))
        return found
    _mail(path.name, data, found)
    if not found.parts:
        raise Unreadable(f"{path}: no proof.pdf, receipt.pdf or evidence.json is attached to this mail")
    return found


def _folder(folder: Path, found: Gathered) -> None:
    for count, path in enumerate(_walk(folder), 1):
        if count > _MOST_FILES or len(found.parts) > _MOST_PARTS:
            raise Unreadable(f"{folder}: holds too many files to be a folder of proofs")
        name = str(path.relative_to(folder))
        if path.name == LETTER_PART and path.parent == folder:
            found.letter = path
            continue
        try:
            data = _read(path)
            _file(name, data, str(path.parent), found)
        except Unreadable as error:
            found.unjudged.append((name, str(error)))


def _file(name: str, data: bytes, holder: str, found: Gathered) -> None:
    kind = _kind(name, data)
    if kind == "mail":
        before = len(found.parts)
        _mail(name, data, found)
        if len(found.parts) == before:
            found.mails.append((name, hashlib.sha256(data).hexdigest()))
    elif kind is not None and _ours(kind, Path(name).name, data):
        found.parts.append(Part(name, kind, data, holder))
    elif kind == "pdf":
        found.unjudged.append((name, _NOT_OURS))
    else:
        found.skipped.append(f"{name}: holds no proof")


def _ours(kind: str, name: str, data: bytes) -> bool:
    if kind == "pdf":
        return name in _PDFS or _OUR_PDF.search(data) is not None
    return _RECORD_NAME.fullmatch(name) is not None or _OUR_RECORD.search(data) is not None


def _walk(folder: Path) -> Iterator[Path]:
    """Files in *folder*, sorted; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        if len(Path(root).relative_to(folder).parts) >= _MOST_DEPTH:
            folders.clear()
        yield from (Path(root, name) for name in sorted(files))


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise Unreadable(f"{path}: there is no such file")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > _MOST_BYTES:
        raise Unreadable(f"{path}: larger than any proof")
    return data


def _kind(name: str, data: bytes) -> str | None:
    if name.lower().endswith(".eml"):
        return "mail"
    if (
        name.lower().endswith(".pdf")
        or data.startswith(b"%PDF-")
        or (b"%PDF-" in data[:1024] and _OUR_PDF.search(data))
    ):
        return "pdf"
    if name.lower().endswith(".json") or data.startswith(b"{"):
        return "record"
    head = data[:2000].partition(b"\n")[0]
    return "mail" if b":" in head and head.partition(b":")[0].replace(b"-", b"").isalnum() else None


def _mail(name: str, data: bytes, found: Gathered) -> None:
    """The proofs attached to a mail; forwarded as an attachment, it is found as well."""
    made, unjudged = list[Part](), list[tuple[str, str]]()
    try:
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        for part in message.walk():
            filename, content = str(part.get_filename() or ""), part.get_payload(decode=True)
            if not isinstance(content, bytes) or (part.get_content_maintype() == "text" and not filename):
                continue
            kind, inside = _kind(filename or "unnamed", content), f"{name}/{filename or 'unnamed'}"
            if kind in ("pdf", "record") and _ours(kind, filename, content):
                made.append(Part(inside, kind, content, name))
            elif kind == "pdf":
                unjudged.append((inside, _NOT_OURS))
    except (ValueError, LookupError, RecursionError, TypeError, AttributeError) as error:
        raise Unreadable(f"{name}: cannot be read as a mail ({type(error).__name__})") from error
    if len(made) > _MOST_PARTS:
        raise Unreadable(f"{name}: holds too many proofs to be a status mail")
    if made:  # a mail without any may be the letter, whose attachments are its sender's
        found.parts += made
        found.unjudged += unjudged
