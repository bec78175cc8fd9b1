"""Both DKIM signatures on our mails hold before verifiers of others, cover what they should, and break when they should."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from dkim.util import parse_tag_value

from gateway.core.errors import OurFault, Unusable
from gateway.dispatch.dkim import ED25519, RSA, DkimKey, Signer, dns_records
from tests.dispatch import samples
from tests.needs import lacking, need

AT = datetime(2026, 11, 25, 8, 14, 3, tzinfo=UTC)
KEYS = (
    DkimKey("pli-rsa", RSA, generate_private_key(65537, 2048)),
    DkimKey("pli-ed", ED25519, Ed25519PrivateKey.generate()),
)
RECORDS = dns_records(KEYS, ["avis.test", "pli.test"])
TESTS = Path(__file__).parents[1]


def sign(message: bytes, domain: str = "avis.test") -> bytes:
    return Signer(KEYS).sign(message, domain, AT)


def answers(name: bytes, timeout: int = 5) -> bytes | None:
    found = dict(line.split(" ", 1) for line in RECORDS)
    text = found.get(name.decode().rstrip("."))
    return text.encode() if text else None


def verdicts(signed: bytes) -> list[bool]:
    def holds(index: int) -> bool:
        try:
            return bool(dkim.DKIM(signed).verify(index, dnsfunc=answers))
        except dkim.ValidationError:
            return False

    return [holds(index) for index in range(2)]


def mails() -> list[tuple[str, bytes]]:
    made = []
    for language in samples.LANGUAGES:
        for name, raw in samples.all_mails(language).items():
            made.append((f"{language}-{name}", sign(raw, "pli.test" if name.startswith("status") else "avis.test")))
    return made


def test_dkimpy_accepts_both_signatures_of_every_kind_of_mail() -> None:
    for name, signed in mails():
        assert verdicts(signed) == [True, True], name


@pytest.mark.parametrize(
    "added", [b"From: x@evil.test", b"Subject: other", b"Reply-To: x@evil.test", b"Pli-Event: refused"]
)
def test_a_header_that_is_added_on_the_way_breaks_both(added: bytes) -> None:
    signed = sign(samples.all_mails("en")["notice"])
    with contextlib.suppress(dkim.DKIMException):  # refused as malformed is as good
        assert verdicts(added + b"\r\n" + signed) == [False, False]


def test_a_changed_body_byte_breaks_both_and_white_space_at_line_ends_does_not() -> None:
    signed = sign(b"From: a@avis.test\r\nTo: b@example.net\r\n\r\nten euros\r\n")
    assert verdicts(signed.replace(b"ten", b"two")) == [False, False]
    assert verdicts(signed.replace(b"euros\r\n", b"euros \t\r\n\r\n")) == [True, True]


def test_tags_are_those_of_the_design() -> None:
    message = dkim.DKIM(sign(samples.all_mails("en")["notice"]))
    values = [value for name, value in message.headers if name == b"DKIM-Signature"]
    for value, algorithm, selector in zip(
        values, (b"rsa-sha256", b"ed25519-sha256"), (b"pli-rsa", b"pli-ed"), strict=True
    ):
        tags = parse_tag_value(value)
        assert (tags[b"a"], tags[b"s"], tags[b"d"]) == (algorithm, selector, b"avis.test")
        assert tags[b"c"] == b"relaxed/relaxed"
        assert int(tags[b"t"]) == int(AT.timestamp())
        assert b"l" not in tags
        names = b"".join(tags[b"h"].split()).lower().split(b":")
        for name in (b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"):
            assert names.count(name) == 2, name  # once as it is, once so that none can be added
    assert all(len(line) <= 100 for line in b"\r\n".join(values).split(b"\r\n"))


def test_what_cannot_be_signed_is_our_fault_and_weak_keys_are_unusable() -> None:
    for message in (b"From: a@b.c\n\nx\n", b"From: a@b.c\r\n\r\nx", b"From: a@b.c\r\n\r\nx\ry\r\n", b"From: a@b.c\r\n"):
        with pytest.raises(OurFault):
            sign(message)
    with pytest.raises(Unusable, match="1024"):
        DkimKey("weak", RSA, generate_private_key(65537, 1024))
    with pytest.raises(Unusable):
        DkimKey("mixed", ED25519, KEYS[0].key)


def test_opendkim_accepts_both_signatures(tmp_path: Path) -> None:
    program = need("opendkim", "apt-get install opendkim")
    (tmp_path / "keys").write_text("\n".join(RECORDS) + "\n")
    conf = tmp_path / "conf"
    conf.write_text(f"Mode v\nSyslog no\nTestDNSData file:{tmp_path / 'keys'}\nOn-SignatureError reject\n")
    signed = sign(samples.all_mails("fr")["notice"])
    for name, raw, good in (("good", signed, True), ("bad", signed.replace(b"ABCD-EFGH", b"ABCD-EFGG"), False)):
        mail = tmp_path / f"{name}.eml"
        mail.write_bytes(raw)
        command: list[str | Path] = [program, "-vv", "-x", conf, "-t", mail]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        for selector in ("pli-rsa", "pli-ed"):
            passed = re.search(rf"dkim=pass .*header\.s={selector}\b", done.stdout)
            assert bool(passed) is good, done.stdout + done.stderr


def test_mailauth_accepts_both_signatures_of_every_kind_of_mail(tmp_path: Path) -> None:
    node = need("node", "apt-get install nodejs")
    folder = Path(os.environ.get("PLI_NODE_MODULES", TESTS / "node_modules"))
    if not (folder / "mailauth").is_dir():
        lacking("the npm package mailauth", "npm --prefix tests install")
    (tmp_path / "dkim.txt").write_text("\n".join(RECORDS) + "\n")
    for name, raw in mails():
        (tmp_path / f"{name}.eml").write_bytes(raw)
    (tmp_path / "changed.eml").write_bytes(
        sign(samples.all_mails("en")["notice"]).replace(b"10 December", b"11 December")
    )
    files = sorted(tmp_path.glob("*.eml"))
    command: list[str | Path] = [node, TESTS / "dkim_check.mjs", tmp_path / "dkim.txt", *files]
    environ = {**os.environ, "PLI_NODE_MODULES": str(folder)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(files)
    for file, signatures in found.items():
        good = Path(file).stem != "changed"
        heard = [(one["algorithm"], one["result"] == "pass") for one in signatures]
        assert heard == [(RSA, good), (ED25519, good)], file
