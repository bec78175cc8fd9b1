"""`pli verify` and what it cannot read: any bytes are judged, never crashed on; and the command as a stranger runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.evidence import canonical
from gateway.core.letter import Event
from gateway.proof.verifier import run_verify
from tests.proof.conftest import House
from tests.proof.judge import INVALID, UNANCHORED, UNREADABLE, VALID, code, steps
from tests.proof.samples import LETTER, chain

# -- what cannot be read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing.bin", b"\x00\x01\x02"),
        ("empty", b""),
        ("letter.eml", LETTER),
        ("note.txt", b"just some text\n"),
    ],
)
def test_what_holds_no_proof_is_unreadable(house: House, name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert code(tmp_path / name, None, house.ca) == UNREADABLE
    found = steps(tmp_path / name, None, house.ca)
    assert [step["verdict"] for step in found] == ["fail"]


def test_missing_files_are_unreadable(house: House, proof: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert code(gone, None, house.ca) == UNREADABLE
    assert code(tmp_path, None, house.ca) == UNREADABLE
    assert code(proof, gone, house.ca) == UNREADABLE
    assert code(proof, None, gone) == UNREADABLE
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for text in ("", "no certificate"):
        assert code(proof, None, tmp_path / "bad.pem") == UNREADABLE
        (tmp_path / "bad.pem").write_text(text)


def test_a_pdf_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    import zlib

    packed = zlib.compress(bytes(50_000_000))
    bomb = b"%PDF-1.7\n1 0 obj <</Length 1 /Filter /FlateDecode>> stream\n" + packed + b"\nendstream endobj\n"
    (tmp_path / "proof.pdf").write_bytes(bomb)
    text, exit_code = run_verify(tmp_path / "proof.pdf", None, None, False)
    assert exit_code == INVALID
    assert "unpacks to more" in text


def test_a_mail_of_a_thousand_nested_parts_ends(tmp_path: Path) -> None:
    lines = "".join(f"Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n" for i in range(1200))
    (tmp_path / "deep.eml").write_text("From: a@example.org\n" + lines)
    assert code(tmp_path / "deep.eml") == UNREADABLE


def test_nothing_foreign_reaches_the_terminal(tmp_path: Path) -> None:
    record = {**json.loads(chain(Event.DEPOSIT)[0]), "letter": "\x1b[2J\u202e"}
    (tmp_path / "evidence.json").write_bytes(canonical(record))
    text, _ = run_verify(tmp_path / "evidence.json", None, None, False)
    assert all(character.isprintable() or character == "\n" for character in text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(sorted(json.loads(chain(Event.DEPOSIT)[0]))), value=JSON)
def test_records_of_any_shape_are_judged_not_crashed_on(house: House, tmp_path: Path, key: str, value: Any) -> None:
    record = {**json.loads(chain(Event.DEPOSIT)[0]), key: value}
    try:
        raw = canonical(record)
    except ValueError:
        return
    (tmp_path / "evidence.json").write_bytes(raw)
    assert code(tmp_path / "evidence.json", None, house.ca) in (INVALID, UNANCHORED)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), name=st.sampled_from(["proof.pdf", "evidence.json", "x.eml", "x"]))
def test_any_bytes_are_judged_not_crashed_on(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert code(tmp_path / name) in (INVALID, UNREADABLE)


# -- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_needs_no_configuration(house: House, proof: Path, letter: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        root = str(Path(__file__).resolve().parents[2])
        command = [sys.executable, "-m", "gateway", "verify", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True, text=True, check=False
        )

    good = run(str(proof), "--letter", str(letter), "--trust", str(house.ca), "--json")
    assert good.returncode == VALID, good.stderr
    assert {step["verdict"] for step in json.loads(good.stdout)} == {"pass", "note"}
    assert run(str(proof)).returncode == UNANCHORED
    assert run(str(tmp_path / "gone")).returncode == UNREADABLE
    (tmp_path / "bad.pdf").write_bytes(proof.read_bytes()[:-1])
    bad = run(str(tmp_path / "bad.pdf"), "--trust", str(house.ca))
    assert (bad.returncode, bad.stderr) == (INVALID, "")


def test_the_verifier_loads_no_database_network_or_settings() -> None:
    """What checks a proof in ten years must not need the gateway."""
    script = (
        "import sys, gateway.proof.verifier\n"
        "ours = [m for m in sys.modules if m.split('.')[0] in ('gateway', 'storage', 'web')]\n"
        "names = {'tortoise', 'aiosmtplib', 'aiosmtpd', 'starlette', 'storage', 'web'}\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in names]\n"
        "bad += [m for m in ours if m in ('gateway.settings', 'gateway.clock', 'gateway.register')]\n"
        "print(bad)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
