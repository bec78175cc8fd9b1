"""Judges that others wrote: pdfsig, opendkim and mailauth, each in one call. Where one is absent, the test says so (needs.py)."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.needs import lacking, need

HERE = Path(__file__).resolve().parent


def pdfsig(pdf: Path, ca: str | Path) -> str:
    """What poppler says of a PDF's signatures, with *ca* as its only trusted root. Its exit code says nothing."""
    program, certutil = (
        need("pdfsig", "apt-get install poppler-utils"),
        need("certutil", "apt-get install libnss3-tools"),
    )
    with tempfile.TemporaryDirectory() as nss:
        for words in (["-N", "--empty-password"], ["-A", "-n", "ca", "-t", "C,C,C", "-i", str(ca)]):
            subprocess.run([certutil, *words, "-d", f"sql:{nss}"], check=True, capture_output=True, timeout=60)
        done = subprocess.run(
            [program, "-nssdir", f"sql:{nss}", str(pdf)], check=False, capture_output=True, text=True, timeout=60
        )
    return done.stdout + done.stderr


def swaks() -> str:
    """swaks with its TLS, which Debian's package only recommends."""
    program, mend = need("swaks", "apt-get install swaks"), "apt-get install libnet-ssleay-perl"
    said = subprocess.run([program, "--support"], check=False, capture_output=True, text=True, timeout=60).stdout
    if "TLS supported" not in said:
        lacking("TLS in swaks", mend)
    return program


def opendkim_verdict(raw: bytes, dkim_txt: Path, folder: Path) -> str:
    """What opendkim says of a mail, with the keys of *dkim_txt* instead of the DNS. Its exit code says nothing."""
    program = need("opendkim", "apt-get install opendkim")
    mail, conf = folder / "mail.eml", folder / "opendkim.conf"
    mail.write_bytes(raw)
    conf.write_text(f"Mode v\nTestDNSData file:{dkim_txt}\nRequireSafeKeys no\n")
    done = subprocess.run(
        [program, "-x", str(conf), "-t", str(mail)], check=False, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def mailauth_verdicts(mails: Mapping[str, bytes], dkim_txt: Path) -> dict[str, list[dict[str, Any]]]:
    """mailauth's verdict on each DKIM signature of each mail: {name: [{algorithm, domain, result}]}."""
    node = need("node", "apt-get install nodejs npm")
    if not (HERE / "node_modules" / "mailauth").is_dir():
        lacking("mailauth", "cd tests && npm install")
    with tempfile.TemporaryDirectory() as folder:
        for name, raw in mails.items():
            (Path(folder) / f"{name}.eml").write_bytes(raw)
        done = subprocess.run(
            [node, str(HERE / "dkim_check.mjs"), str(dkim_txt), *sorted(str(p) for p in Path(folder).glob("*.eml"))],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {Path(path).stem: verdicts for path, verdicts in json.loads(done.stdout).items()}
