"""`pli verify`: what is true passes, what was touched fails, and what cannot be known is never called valid."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.core.evidence import canonical
from gateway.core.letter import Event
from gateway.proof.sealcheck import Bad, check_sealed
from gateway.proof.verifier import run_verify
from tests.proof.conftest import House
from tests.proof.judge import INVALID, UNANCHORED, UNREADABLE, VALID, code, mail, steps, verdicts, write_chain
from tests.proof.samples import LETTER, START, chain, last_at

# -- what is true ---------------------------------------------------------------------------------------------------------


def test_a_proof_with_its_letter_and_anchor_is_valid(house: House, proof: Path, letter: Path) -> None:
    text, exit_code = run_verify(proof, letter, house.ca, False)
    assert exit_code == VALID
    assert "the very bytes that were deposited" in text
    found = steps(proof, letter, house.ca)
    assert all(set(step) == {"step", "part", "verdict", "reason"} for step in found)
    assert verdicts(found) == {
        **dict.fromkeys(("seal", "anchor", "record", "letter"), "pass"),
        **dict.fromkeys(("chain", "page"), "note"),
    }


def test_without_trust_nothing_is_called_valid(proof: Path, letter: Path) -> None:
    assert code(proof, letter) == UNANCHORED
    assert verdicts(steps(proof))["anchor"] == "unknown"


def test_another_authority_is_no_anchor(stranger: House, proof: Path) -> None:
    assert code(proof, None, stranger.ca) == INVALID


def test_another_letter_is_seen(house: House, proof: Path, tmp_path: Path) -> None:
    for data in (LETTER[:-1], LETTER + b"\n", LETTER.replace(b"\r\n", b"\n"), b""):
        (tmp_path / "other.eml").write_bytes(data)
        assert code(proof, tmp_path / "other.eml", house.ca) == INVALID


@pytest.mark.parametrize("end", [Event.DEPOSIT, Event.HAND_OVER, Event.REFUSE, Event.LAPSE, Event.NOTICE_FAILED])
def test_a_folder_is_a_chain(house: House, end: Event, tmp_path: Path) -> None:
    write_chain(house, tmp_path, end)
    text, exit_code = run_verify(tmp_path, None, house.ca, False)
    assert exit_code == VALID, text
    assert "complete from the first record" in text
    assert code(tmp_path) == UNANCHORED


def test_a_folder_with_gaps_is_held_to_what_it_has(house: House, tmp_path: Path) -> None:
    write_chain(house, tmp_path, Event.LAPSE, skip=(3, 5))
    text, exit_code = run_verify(tmp_path, None, house.ca, False)
    assert exit_code == VALID, text
    assert "records given (1, 2, 4, 6)" in text


def test_a_forged_record_before_a_gap_is_seen(house: House, tmp_path: Path) -> None:
    write_chain(house, tmp_path, Event.LAPSE, skip=(3, 5))
    path = tmp_path / "02" / "evidence.json"
    path.write_bytes(canonical({**json.loads(path.read_bytes()), "at": "2026-02-28T09:00:15.345678Z"}))
    assert code(tmp_path, None, house.ca) == INVALID


def test_a_saved_mail_and_a_forwarded_one(house: House, proof: Path, tmp_path: Path) -> None:
    record = chain(Event.HAND_OVER)[-1]
    saved = mail(proof_pdf=proof.read_bytes(), evidence_json=record)
    (tmp_path / "status.eml").write_bytes(saved)
    assert code(tmp_path / "status.eml", None, house.ca) == VALID
    outer = EmailMessage()
    outer["From"], outer["Subject"] = "b@example.org", "Fwd: Status"
    outer.set_content("see below")
    import email
    import email.policy

    outer.add_attachment(email.message_from_bytes(saved, policy=email.policy.default))
    (tmp_path / "forwarded.eml").write_bytes(outer.as_bytes())
    assert code(tmp_path / "forwarded.eml", None, house.ca) == VALID


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_receipt_is_verified_by_its_seal(house: House, anonymous: bool, letter: Path, tmp_path: Path) -> None:
    record = chain(Event.REFUSE)[-1]
    path = tmp_path / "receipt.pdf"
    path.write_bytes(house.press.receipt(record, "fr", last_at([record]), anonymous=anonymous))
    assert code(path, None, house.ca) == VALID
    assert code(path) == UNANCHORED
    assert code(path, letter, house.ca) == UNANCHORED  # it does not say whose letter it is
    path.write_bytes(path.read_bytes() + b"\n")
    assert code(path, None, house.ca) == INVALID


# -- what was saved under other names -------------------------------------------------------------------------------------


def test_proofs_are_known_by_what_is_in_them(house: House, tmp_path: Path) -> None:
    """A mail program that saves a second proof.pdf calls it "proof (1).pdf"."""
    records = chain(Event.HAND_OVER)
    (tmp_path / "proof.pdf").write_bytes(house.press.make(records[0], "en", last_at(records))["proof.pdf"])
    (tmp_path / "Beweis").write_bytes(house.press.receipt(records[-1], "en", last_at(records)))
    (tmp_path / "evidence (2).json").write_bytes(records[1])
    (tmp_path / "record").write_bytes(records[2])
    (tmp_path / "proof (1).pdf").write_bytes(house.press.make(records[-1], "en", last_at(records))["proof.pdf"])
    assert code(tmp_path, None, house.ca) == VALID
    found = {step["part"] for step in steps(tmp_path, None, house.ca) if step["verdict"] == "pass"}
    assert {"proof.pdf", "proof (1).pdf", "Beweis", "evidence (2).json", "record"} <= found


@pytest.mark.parametrize("name", ["proof (1).pdf", "copy", "receipt-2.pdf", "sub/proof_fr.PDF"])
def test_a_tampered_proof_of_any_name_is_seen(house: House, proof: Path, name: str, tmp_path: Path) -> None:
    good = proof.read_bytes()
    bad = bytearray(good)
    bad[3000] ^= 1
    (tmp_path / "proof.pdf").write_bytes(good)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(bad)
    assert code(tmp_path, None, house.ca) == INVALID
    (tmp_path / name).write_bytes(good.replace(b"pli-proof-1", b"xxx-proof-1"))
    assert code(tmp_path, None, house.ca) == UNANCHORED


def test_tampered_attachments_and_records_of_other_names_are_seen(house: House, proof: Path, tmp_path: Path) -> None:
    records = chain(Event.HAND_OVER)
    bad = bytearray(proof.read_bytes())
    bad[3000] ^= 1
    outer = EmailMessage()
    outer["From"], outer["Subject"] = "b@example.org", "Both"
    outer.set_content("see")
    for name, data in (("proof.pdf", proof.read_bytes()), ("proof (1).pdf", bytes(bad))):
        outer.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    (tmp_path / "both.eml").write_bytes(outer.as_bytes())
    assert code(tmp_path / "both.eml", None, house.ca) == INVALID
    (tmp_path / "both.eml").write_bytes(mail(proof_pdf=proof.read_bytes()))
    assert code(tmp_path, None, house.ca) == VALID
    (tmp_path / "evidence (1).json").write_bytes(records[1].replace(b"2026-03-01", b"2026-03-02", 1))
    assert code(tmp_path, None, house.ca) == INVALID


@pytest.mark.parametrize("name", ["letter (1).eml", "sub/letter.eml", "other.eml"])
def test_a_mail_that_is_not_the_letter_is_not_passed_over(house: House, proof: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "proof.pdf").write_bytes(proof.read_bytes())
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(LETTER)
    assert code(tmp_path, None, house.ca) == VALID
    assert "pass" in [step["verdict"] for step in steps(tmp_path, None, house.ca) if step["part"] == name]
    (tmp_path / name).write_bytes(LETTER + b"x")
    assert code(tmp_path, None, house.ca) == UNANCHORED
    assert "unknown" in [step["verdict"] for step in steps(tmp_path, None, house.ca) if step["part"] == name]


def test_a_wrong_letter_beside_the_proofs_counts_where_another_is_given(
    house: House, proof: Path, letter: Path, tmp_path: Path
) -> None:
    (tmp_path / "proof.pdf").write_bytes(proof.read_bytes())
    (tmp_path / "letter.eml").write_bytes(LETTER + b"x")
    assert code(tmp_path, letter, house.ca) == UNANCHORED
    assert code(tmp_path, None, house.ca) == INVALID


def test_files_of_other_kinds_are_passed_over(house: House, proof: Path, tmp_path: Path) -> None:
    (tmp_path / "proof.pdf").write_bytes(proof.read_bytes())
    for name, data in (("README.txt", b"see\n"), ("result.json", b'{"good": true}'), ("ca.pem", house.ca.read_bytes())):
        (tmp_path / name).write_bytes(data)
    assert code(tmp_path, None, house.ca) == VALID
    (tmp_path / "contract.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    assert code(tmp_path, None, house.ca) == UNANCHORED


# -- what nobody vouches for ----------------------------------------------------------------------------------------------


def test_a_bare_record_is_never_valid(house: House, letter: Path, tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(chain(Event.DEPOSIT)[0])
    text, exit_code = run_verify(path, letter, house.ca, False)
    assert exit_code == UNANCHORED
    assert "anybody could have written it" in text


def test_a_record_later_than_the_last_seal_is_not_vouched_for(house: House, tmp_path: Path) -> None:
    records = chain(Event.HAND_OVER)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    for name, data in house.press.make(records[0], "en", START).items():
        (tmp_path / "1" / name).write_bytes(data)
    (tmp_path / "2" / "evidence.json").write_bytes(records[1])
    found = steps(tmp_path, None, house.ca)
    assert [step["verdict"] for step in found if step["step"] == "sealed"] == ["unknown"]
    assert code(tmp_path, None, house.ca) == UNANCHORED


# -- what was touched -----------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_seen(house: House, proof: Path, tmp_path: Path) -> None:
    """Anywhere in the file, and closely in the seal itself, which no signature covers."""
    good, chance = proof.read_bytes(), random.Random(20261125)
    seal = good.index(b"/Contents <") + len("/Contents <")
    end = good.index(b">", seal)
    places = [chance.randrange(len(good)) for _ in range(80)] + [*range(8), len(good) - 1, seal - 1, end]
    places += [chance.randrange(seal, end) for _ in range(100)] + [*range(end - 6, end)]
    for number, place in enumerate(places):
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        with pytest.raises(Bad):
            check_sealed(bytes(bad), [])
        if number % 20 == 0:
            (tmp_path / "proof.pdf").write_bytes(bad)
            # Without its first bytes it is no PDF to anybody.
            assert code(tmp_path / "proof.pdf", None, house.ca) == (UNREADABLE if place < 5 else INVALID)


def test_case_and_padding_of_the_seal_are_bits_too(proof: Path) -> None:
    good = proof.read_bytes()
    seal = good.index(b"/Contents <") + len("/Contents <")
    end = good.index(b">", seal)
    lower = good[:seal] + good[seal:end].lower() + good[end:]
    padded = good[: end - 2] + b"01" + good[end:]
    spaced = good[: end - 1] + b" " + good[end:]
    for bad in (lower, padded, spaced):
        assert bad != good
        with pytest.raises(Bad):
            check_sealed(bad, [])


def test_nothing_can_be_added(house: House, proof: Path, tmp_path: Path) -> None:
    """An incremental update shows other pages while the old signature still fits the old bytes."""
    from io import BytesIO

    from pyhanko.pdf_utils.generic import pdf_name
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

    writer = IncrementalPdfFileWriter(BytesIO(proof.read_bytes()))
    page = writer.root["/Pages"]["/Kids"][0].get_object()
    page[pdf_name("/Rotate")] = writer.root["/Pages"]["/Count"]
    writer.update_container(page)
    out = BytesIO()
    writer.write(out)  # type: ignore[no-untyped-call]
    for data in (out.getvalue(), proof.read_bytes() + b"\n%%EOF\n", b"%PDF-1.7\n" + proof.read_bytes()):
        (tmp_path / "proof.pdf").write_bytes(data)
        assert code(tmp_path / "proof.pdf", None, house.ca) == INVALID


def test_another_record_beside_the_proof_is_seen(house: House, proof: Path, tmp_path: Path) -> None:
    record = json.loads(chain(Event.HAND_OVER)[-1])
    forged = [{**record, "recipient": {**record["recipient"], "name": "Eve"}}, {**record, "letter": "f" * 32}]
    for value in forged:
        (tmp_path / "evidence.json").write_bytes(canonical(value))
        (tmp_path / "proof.pdf").write_bytes(proof.read_bytes())
        assert code(tmp_path, None, house.ca) == INVALID
        (tmp_path / "x.eml").write_bytes(mail(proof_pdf=proof.read_bytes(), evidence_json=canonical(value)))
        assert code(tmp_path / "x.eml", None, house.ca) == INVALID


def test_a_forged_record_in_the_chain_is_seen(house: House, tmp_path: Path) -> None:
    write_chain(house, tmp_path, Event.LAPSE)
    path = tmp_path / "02" / "evidence.json"
    record = json.loads(path.read_bytes())
    for change in ({"at": "2026-02-28T09:00:15.345678Z"}, {"facts": {**record["facts"], "last_day": "2026-03-10"}}):
        path.write_bytes(canonical({**record, **change}))
        assert code(tmp_path, None, house.ca) == INVALID


def test_a_chain_that_breaks_the_rules_of_the_life_cycle_is_seen(house: House, tmp_path: Path) -> None:
    """Sealed by us and still wrong: a lapse a day before its window closed."""
    from gateway.core.evidence import Place, digest, make_record
    from gateway.core.letter import State
    from tests.proof.samples import WINDOW, subject

    first, second = chain(Event.LAPSE)[:2]
    place = Place().then(digest(first)).then(digest(second))
    early = make_record(subject(), place, Event.LAPSE, State.UNCLAIMED, START + timedelta(days=14), WINDOW)
    for n, record in enumerate((first, second, early), 1):
        (tmp_path / str(n)).mkdir()
        for name, data in house.press.make(record, "en", START + timedelta(days=20)).items():
            (tmp_path / str(n) / name).write_bytes(data)
    assert code(tmp_path, None, house.ca) == INVALID


def test_a_proof_sealed_before_its_event_is_seen(house: House, tmp_path: Path) -> None:
    record = chain(Event.DEPOSIT)[0]
    (tmp_path / "proof.pdf").write_bytes(house.press.make(record, "en", START - timedelta(minutes=5))["proof.pdf"])
    assert code(tmp_path / "proof.pdf", None, house.ca) == INVALID


def test_a_sealed_pdf_that_is_no_proof_is_none(house: House, proof: Path, tmp_path: Path) -> None:
    """The seal's key signs anything it is given; what is no proof by its own words is none."""
    from gateway.proof.page import Page
    from gateway.proof.words import words

    record = chain(Event.DEPOSIT)[0]
    data = {**Page(record, words("en"), house.keys.seal, START).data(), "keywords": ["something"]}
    pdf = house.press._typesetter.set(data, record)
    (tmp_path / "proof.pdf").write_bytes(house.keys.seal.sign(pdf, reason="x", location="y", at=START))
    assert code(tmp_path / "proof.pdf", None, house.ca) == INVALID
    unsigned = house.press._typesetter.set(data, record)
    (tmp_path / "proof.pdf").write_bytes(unsigned)
    assert code(tmp_path / "proof.pdf", None, house.ca) == INVALID


def test_a_tls_certificate_of_the_same_authority_is_no_seal(house: House, tmp_path: Path) -> None:
    import shutil

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from gateway.proof import keys
    from gateway.proof.bundle import Press
    from gateway.proof.seal import Seal

    shutil.copytree(house.keys_dir, tmp_path / "keys")
    chain_path, key_path = keys.issue_server_certificate(tmp_path / "keys", ["localhost"], START - timedelta(days=1))
    leaf, root = x509.load_pem_x509_certificates(chain_path.read_bytes())
    key = load_pem_private_key(key_path.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    record = chain(Event.DEPOSIT)[0]
    (tmp_path / "proof.pdf").write_bytes(Press(Seal(leaf, key, root)).make(record, "en", START)["proof.pdf"])
    assert code(tmp_path / "proof.pdf", None, house.ca) == INVALID
