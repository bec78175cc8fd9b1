"""Keys are made once, private and whole; a gateway whose keys are not in order does not start, and is told the mend."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.core.errors import Unusable
from gateway.proof import authority, keys
from tests.needs import need
from tests.proof.conftest import House
from tests.proof.samples import START

SECRETS = ["master.key", "index.key", "link.key", "returns.key", "password.key"]
ALL = [*SECRETS, "dkim-pli-rsa.pem", "dkim-pli-ed25519.pem", "ca.pem", "ca.key.pem", "seal.pem", "seal.key.pem"]


@pytest.fixture
def folder(house: House, tmp_path: Path) -> Path:
    """A copy of the keys that a test may spoil."""
    copy = tmp_path / "keys"
    shutil.copytree(house.keys_dir, copy)
    return copy


def init(folder: Path, **over: object) -> None:
    arguments = {
        "domain": "pli.test",
        "notice_domain": "avis.test",
        "operator": "Pli",
        "not_before": START,
        "demo": False,
        **over,
    }
    keys.init(folder, **arguments)  # type: ignore[arg-type]


def load(folder: Path) -> keys.Keys:
    return keys.load(folder, folder.parent / "data", START)


def test_everything_is_there_and_nobody_else_can_reach_it(house: House) -> None:
    assert stat.S_IMODE(house.keys_dir.stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in house.keys_dir.iterdir()}
    assert found == dict.fromkeys(ALL, 0o600)


def test_loaded_secrets_are_random_and_apart(house: House) -> None:
    loaded = house.keys
    secrets = [loaded.master, loaded.index, loaded.link, loaded.returns, loaded.password]
    assert [len(secret) for secret in secrets] == [32] * 5
    assert len(set(secrets)) == 5
    assert [key.algorithm for key in loaded.dkim] == ["rsa-sha256", "ed25519-sha256"]
    assert all(secret.hex() not in repr(loaded) for secret in secrets)


def test_keys_are_made_once(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Unusable, match="already"):
        init(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_one_key_there_is_enough_to_refuse(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "link.key").write_text("x")
    with pytest.raises(Unusable, match=r"link\.key already"):
        init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["link.key"]


def test_an_open_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(Unusable, match="chmod 700"):
        init(folder)
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unusable, match="cannot be written"):
        init(tmp_path / "file" / "keys")


@pytest.mark.parametrize("name", [name for name in ALL if name != "ca.key.pem"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Unusable, match=f"{name}: is missing; make all keys with `pli keys init`"):
        load(folder)


def test_the_authority_s_key_may_be_taken_away(folder: Path) -> None:
    (folder / "ca.key.pem").unlink()
    assert load(folder).seal.name


@pytest.mark.parametrize("name", [*SECRETS, "dkim-pli-rsa.pem", "seal.key.pem"])
def test_a_file_that_others_can_read_is_refused(folder: Path, name: str) -> None:
    (folder / name).chmod(0o640)
    with pytest.raises(Unusable, match=f"{name}: others may reach it .*chmod 600"):
        load(folder)


def test_a_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    folder.chmod(0o750)
    with pytest.raises(Unusable, match="chmod 700"):
        load(folder)


def test_keys_never_lie_inside_the_data(folder: Path) -> None:
    with pytest.raises(Unusable, match="inside data_dir"):
        keys.load(folder, folder.parent, START)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda old: "00" * 32, "not random"),
        (lambda old: "0123456789abcdef" * 4, "not random"),
        (lambda old: "change-me", "not 64 hexadecimal digits"),
        (lambda old: old[:-2], "31 bytes where 32"),
        (lambda old: "", "0 bytes where 32"),
    ],
)
def test_a_default_secret_is_refused(folder: Path, spoil: Callable[[str], str], says: str) -> None:
    path = folder / "master.key"
    path.write_text(spoil(path.read_text().strip()))
    with pytest.raises(Unusable, match=f"master.key: .*{says}"):
        load(folder)


def test_two_secrets_that_are_one_are_refused(folder: Path) -> None:
    (folder / "index.key").write_bytes((folder / "master.key").read_bytes())
    with pytest.raises(Unusable, match="the same"):
        load(folder)


@pytest.mark.parametrize(("days", "says"), [(-40, "not valid before"), (21 * 366, "expired on")])
def test_nothing_is_sealed_outside_the_certificate_s_time(folder: Path, days: int, says: str) -> None:
    with pytest.raises(Unusable, match=f"seal.pem: .*{says}"):
        keys.load(folder, folder.parent / "data", START + timedelta(days=days))


def test_certificate_and_key_must_belong_together(folder: Path, stranger: House) -> None:
    (folder / "seal.key.pem").write_bytes((stranger.keys_dir / "seal.key.pem").read_bytes())
    with pytest.raises(Unusable, match="do not belong together"):
        load(folder)


def test_a_seal_of_another_authority_is_refused(folder: Path, stranger: House) -> None:
    for name in ("seal.pem", "seal.key.pem"):
        (folder / name).write_bytes((stranger.keys_dir / name).read_bytes())
    with pytest.raises(Unusable, match="was not issued by"):
        load(folder)


@pytest.mark.parametrize("name", ["seal.key.pem", "dkim-pli-rsa.pem", "seal.pem", "ca.pem"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"-----BEGIN NOTHING-----\n")
    with pytest.raises(Unusable, match=name):
        load(folder)


def test_show_tells_no_secret(house: House) -> None:
    rows = keys.show(house.keys_dir)
    said = str(rows)
    assert [row["name"] for row in rows] == [
        *("master", "index", "link", "returns", "password"),
        *("dkim pli-rsa", "dkim pli-ed25519", "authority", "seal"),
    ]
    for name in ALL:
        if name.endswith(".key") or ".key." in name or name.startswith("dkim"):
            content = (house.keys_dir / name).read_text()
            assert not any(line in said for line in content.splitlines() if "-----" not in line)
    assert rows[-1]["fingerprint"] == house.keys.seal.fingerprint
    assert rows[-1]["validity"].startswith("2026-01-30 to 2046-")


def test_names_say_what_they_are(house: House, tmp_path: Path) -> None:
    assert "Demo" in house.keys.seal.root_name
    assert "Seal (non-qualified) of pli.test" in house.keys.seal.name
    init(tmp_path / "real", operator="Société " * 20)
    real = keys.load(tmp_path / "real", tmp_path / "data", START)
    assert real.seal.root_name.endswith("Société Sociét…")
    assert "Demo" not in real.seal.root_name + real.seal.name
    assert real.seal.name == "Seal (non-qualified) of pli.test"


def test_export_holds_what_verifiers_need_and_no_secret(house: House) -> None:
    trust = house.ca.parent
    assert sorted(path.name for path in trust.iterdir()) == ["ca.pem", "dkim.txt"]
    assert "PRIVATE" not in house.ca.read_text()
    lines = (trust / "dkim.txt").read_text().splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == [
        f"{selector}._domainkey.{domain}"
        for domain in ("pli.test", "avis.test")
        for selector in ("pli-rsa", "pli-ed25519")
    ]
    assert all(line.split(" ", 1)[1].startswith("v=DKIM1; k=") for line in lines)


def test_openssl_accepts_the_server_certificate(folder: Path) -> None:
    openssl = need("openssl", "apt-get install openssl")
    chain, key = keys.issue_server_certificate(folder, ["localhost", "127.0.0.1", "pli.test"], START)
    assert chain.read_text().count("BEGIN CERTIFICATE") == 2
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    at = str(int((START + timedelta(days=1)).timestamp()))
    base = [openssl, "verify", "-attime", at, "-purpose", "sslserver", "-CAfile", str(folder / "ca.pem")]
    for wanted in (["-verify_ip", "127.0.0.1"], ["-verify_hostname", "localhost"], ["-verify_hostname", "pli.test"]):
        done = subprocess.run([*base, *wanted, str(chain)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    other = subprocess.run([*base, "-verify_hostname", "evil.test", str(chain)], capture_output=True, check=False)
    assert other.returncode != 0
    with pytest.raises(Unusable):  # never replaces one that is in use
        keys.issue_server_certificate(folder, ["localhost"], START)


def test_the_seal_s_certificate_is_for_sealing_alone(house: House) -> None:
    certificate = house.keys.seal.certificate
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.content_commitment) == (True, True)
    assert not (usage.value.key_cert_sign or usage.value.key_encipherment or usage.value.key_agreement)
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36") in purposes
    assert x509.oid.ExtendedKeyUsageOID.SERVER_AUTH not in purposes
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert authority.fingerprint(certificate) == house.keys.seal.fingerprint
