"""The seal is accepted by tools that others wrote: Poppler with NSS, OpenSSL; and by the very commands that a proof prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.core.letter import Event
from gateway.proof.page import Page
from gateway.proof.seal import Seal
from gateway.proof.words import words
from tests.needs import need
from tests.proof.conftest import House
from tests.proof.samples import LETTER, PATHS, START, chain, last_at
from tests.proof.test_pages import text_of


@pytest.fixture(scope="module")
def nss(house: House, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate store of NSS that trusts the house's authority."""
    return make_nss(tmp_path_factory.mktemp("nss"), house.ca)


def make_nss(folder: Path, ca: Path) -> str:
    certutil = need("certutil", "apt-get install libnss3-tools")
    subprocess.run([certutil, "-N", "-d", f"sql:{folder}", "--empty-password"], check=True)
    subprocess.run([certutil, "-A", "-d", f"sql:{folder}", "-n", "pli", "-t", ",C,", "-a", "-i", str(ca)], check=True)
    return f"sql:{folder}"


def pdfsig(nss: str, pdf: bytes, folder: Path) -> str:
    program = need("pdfsig", "apt-get install poppler-utils")
    path = folder / "sealed.pdf"
    path.write_bytes(pdf)
    return subprocess.run([program, "-nssdir", nss, str(path)], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize("end", list(PATHS))
def test_pdfsig_finds_every_proof_valid(house: House, nss: str, end: Event, language: str, tmp_path: Path) -> None:
    records = chain(end)
    at = last_at(records) + timedelta(seconds=1)
    pdf = house.press.make(records[-1], language, at)["proof.pdf"]
    said = pdfsig(nss, pdf, tmp_path)
    assert "Signature is Valid" in said
    assert "Certificate is Trusted" in said
    assert "Total document signed" in said
    assert "Signature Type: ETSI.CAdES.detached" in said
    assert f"Signing Time: {at:%b %d %Y %H:%M:%S}" in said
    assert "Signature #2" not in said


def test_pdfsig_trusts_no_stranger(house: House, stranger: House, tmp_path: Path) -> None:
    raw = chain(Event.DEPOSIT)[-1]
    (tmp_path / "nss").mkdir()
    theirs = make_nss(tmp_path / "nss", stranger.ca)
    said = pdfsig(theirs, house.press.make(raw, "en", START)["proof.pdf"], tmp_path)
    assert "Certificate is Trusted" not in said
    assert "Signature is Valid" in said


def test_pdfsig_sees_a_changed_page(house: House, nss: str, tmp_path: Path) -> None:
    raw = chain(Event.DEPOSIT)[-1]
    pdf = bytearray(house.press.make(raw, "en", START)["proof.pdf"])
    pdf[len(pdf) // 3] ^= 1
    assert "Signature is Valid" not in pdfsig(nss, bytes(pdf), tmp_path)


def test_openssl_verifies_the_signature_over_the_signed_bytes(house: House, tmp_path: Path) -> None:
    openssl = need("openssl", "apt-get install openssl")
    raw = chain(Event.REFUSE)[-1]
    pdf = house.press.make(raw, "fr", last_at([raw]))["proof.pdf"]
    found = re.search(rb"/ByteRange\s*\[(\d+) (\d+) (\d+) (\d+)\]", pdf)
    assert found is not None
    start, length, second, rest = map(int, found.groups())
    assert (start, second + rest) == (0, len(pdf))
    cms = bytes.fromhex(pdf[length + 1 : second - 1].decode())
    (tmp_path / "seal.der").write_bytes(cms)
    (tmp_path / "signed").write_bytes(pdf[:length] + pdf[second:])
    command = [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "seal.der")]
    command += ["-content", str(tmp_path / "signed"), "-CAfile", str(house.ca), "-out", "/dev/null", "-cades"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "signed").write_bytes(pdf[:length] + pdf[second:-1] + b"x")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_commands_that_a_proof_prints_work_as_printed(house: House, language: str, tmp_path: Path) -> None:
    for program, package in (("certutil", "libnss3-tools"), ("pdfsig", "poppler-utils"), ("sha256sum", "coreutils")):
        need(program, f"apt-get install {package}")
    raw = chain(Event.HAND_OVER)[-1]
    pdf = house.press.make(raw, language, last_at([raw]))["proof.pdf"]
    page = text_of(pdf, tmp_path, "-layout")
    lines = [line.strip() for line in page.splitlines()]
    commands = [line for line in lines if re.match(r"(mkdir|certutil|pdfsig|pdfdetach|sha256sum) ", line)]
    assert len(commands) == 6
    (tmp_path / "proof.pdf").write_bytes(pdf)
    (tmp_path / "letter.eml").write_bytes(LETTER)
    shutil.copy(house.ca, tmp_path / "ca.pem")
    done = subprocess.run(" && ".join(commands), shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(
        said in done.stdout for said in ("Signature is Valid", "Certificate is Trusted", "Total document signed")
    )
    digests = re.findall(r"^([0-9a-f]{64})  (?:evidence\.json|letter\.eml)$", done.stdout, re.MULTILINE)
    assert len(digests) == 2
    assert all(digest in page for digest in digests)


def test_eight_threads_seal_at_once(house: House, nss: str, tmp_path: Path) -> None:
    records = [chain(end)[-1] for end in PATHS]

    def make(n: int) -> bytes:
        return house.press.make(records[n % len(records)], "fr", START + timedelta(days=20))["proof.pdf"]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(24)))
    assert all("Signature is Valid" in pdfsig(nss, pdf, tmp_path) for pdf in made[:8])
    assert len({len(pdf) for pdf in made}) >= len(PATHS) - 1


def test_the_document_does_not_tell_the_machine_s_clock(house: House) -> None:
    """All times in it are those that it was given: the demo's clock is not the system's."""
    raw = chain(Event.DEPOSIT)[-1]
    pdf = house.press.make(raw, "en", START)["proof.pdf"]
    assert set(re.findall(rb"\(D:(\d{8})", pdf)) <= {b"20260301"}
    assert set(re.findall(rb"Date>(\d{4}-\d{2}-\d{2})", pdf)) == {b"2026-03-01"}


def test_a_seal_that_many_threads_use_from_its_first_moment_on_is_valid(house: House, nss: str, tmp_path: Path) -> None:
    seal = house.press.seal
    page = Page(chain(Event.DEPOSIT)[-1], words("en"), seal, START, None)
    pdf = house.press._typesetter.set(page.data(), page.raw)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            fresh = Seal(seal.certificate, seal._signer._key, seal.root)
            sign = partial(fresh.sign, pdf, reason="x", location="pli.test", at=START)
            with ThreadPoolExecutor(8) as pool:
                sealed = [done.result(30) for done in [pool.submit(sign) for _ in range(8)]]
    finally:
        sys.setswitchinterval(interval)
    assert "Signature is Valid" in pdfsig(nss, sealed[-1], tmp_path)
