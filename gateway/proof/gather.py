"""What there is to verify at a path: the proof parts of a file, a saved mail, or a folder of them.

Sizes, counts and depths are limited. Not here: judging what was found (verifier.py).
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

RECORD_PART, LETTER_PART = "evidence.json", "letter.eml"
_PDFS = ("proof.pdf", "receipt.pdf")
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
    skipped: list[str] = field(default_factory=list)
    """Files that hold no proof, each with its reason."""


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
    found.parts += _mail(path.name, data)
    if not found.parts:
        raise Unreadable(f"{path}: no proof.pdf, receipt.pdf or evidence.json is attached to this mail")
    return found


def _folder(folder: Path, found: Gathered) -> None:
    for count, path in enumerate(_walk(folder), 1):
        if count > _MOST_FILES or len(found.parts) > _MOST_PARTS:
            raise Unreadable(f"{folder}: holds too many files to be a folder of proofs")
        name = str(path.relative_to(folder))
        if path.name == LETTER_PART:
            if path.parent == folder:
                found.letter = path
            continue
        try:
            data = _read(path)
        except Unreadable as error:
            found.skipped.append(str(error))
            continue
        kind = _kind(path.name, data)
        if kind == "mail" and (parts := _mail(name, data)):
            found.parts += parts
        elif (kind == "pdf" and path.name in _PDFS) or (kind == "record" and path.name == RECORD_PART):
            found.parts.append(Part(name, kind, data, str(path.parent)))
        else:
            found.skipped.append(f"{name}: holds no proof")


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
    if data.startswith(b"%PDF-") or name.lower().endswith(".pdf"):
        return "pdf"
    if name.lower().endswith(".eml"):
        return "mail"
    if name.lower().endswith(".json") or data.startswith(b"{"):
        return "record"
    head = data[:2000].partition(b"\n")[0]
    return "mail" if b":" in head and head.partition(b":")[0].replace(b"-", b"").isalnum() else None


def _mail(name: str, data: bytes) -> list[Part]:
    """The proof parts attached to a mail; forwarded as an attachment, it is found as well."""
    try:
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        made = []
        for part in message.walk():
            filename, content = str(part.get_filename() or ""), part.get_payload(decode=True)
            if isinstance(content, bytes) and filename in (*_PDFS, RECORD_PART):
                kind = "record" if filename == RECORD_PART else "pdf"
                made.append(Part(f"{name}/{filename}", kind, content, name))
    except (ValueError, LookupError, RecursionError, TypeError, AttributeError) as error:
        raise Unreadable(f"{name}: cannot be read as a mail ({type(error).__name__})") from error
    if len(made) > _MOST_PARTS:
        raise Unreadable(f"{name}: holds too many proofs to be a status mail")
    return made
