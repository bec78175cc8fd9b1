"""Asking the verifier: exit codes, steps and verdicts, and folders and mails for it to judge."""

from __future__ import annotations

import json
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from gateway.core.letter import Event
from gateway.proof.verifier import run_verify
from tests.proof.conftest import House
from tests.proof.samples import LETTER, chain, last_at

VALID, INVALID, UNREADABLE, UNANCHORED = 0, 1, 2, 3


def code(path: Path, letter: Path | None = None, trust: Path | None = None) -> int:
    return run_verify(path, letter, trust, False)[1]


def steps(path: Path, letter: Path | None = None, trust: Path | None = None) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run_verify(path, letter, trust, True)[0])
    return found


def verdicts(found: list[dict[str, str]]) -> dict[str, str]:
    return {step["step"]: step["verdict"] for step in found}


def write_chain(house: House, folder: Path, end: Event, *, skip: tuple[int, ...] = (), **over: Any) -> list[bytes]:
    """A folder as the sender keeps it: one folder per mail, and the letter."""
    records = chain(end, **over)
    for n, record in enumerate(records, 1):
        if n not in skip:
            (folder / f"{n:02}").mkdir(parents=True)
            for name, data in house.press.make(record, "en", last_at(records)).items():
                (folder / f"{n:02}" / name).write_bytes(data)
    (folder / "letter.eml").write_bytes(LETTER)
    return records


def mail(**parts: bytes) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@pli.test", "b@example.org", "Status"
    message.set_content("See the proof.")
    for name, data in parts.items():
        filename = name.replace("_", ".")
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=filename)
    return message.as_bytes()
