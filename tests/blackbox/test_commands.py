"""What an operator does from the shell, beside a running gateway: accounts, letters by any of their numbers, DNS records."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
from pathlib import Path

import pytest

from tests.blackbox.drive import Demo, Site, pli, site
from tests.blackbox.sink import sink

pytestmark = pytest.mark.blackbox


def _login(where: Site, password: str) -> int:
    context = ssl.create_default_context(cafile=where.ca)
    with smtplib.SMTP_SSL("127.0.0.1", where.ports["submissions"], context=context, timeout=30) as client:
        try:
            return client.login(where.account["address"], password)[0]
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code


def test_a_leaked_app_password_is_replaced_and_an_account_closed_at_once(tmp_path: Path) -> None:
    with sink() as world, site(tmp_path / "s", world.port) as where:
        where.start()
        address, old = where.account["address"], where.account["app_password"]
        assert _login(where, old) == 235
        made = pli("account", "password", address, "--json", config=where.config)
        assert made.returncode == 0, made.stderr
        new = json.loads(made.stdout)["app_password"]
        assert (_login(where, old), _login(where, new)) == (535, 235)
        assert pli("account", "close", address, config=where.config).returncode == 0
        assert _login(where, new) == 535
        assert pli("account", "reopen", address, config=where.config).returncode == 0
        assert _login(where, new) == 235
        assert (
            pli("account", "set", address, "--name", "Jane Roe", "--language", "fr", config=where.config).returncode
            == 0
        )
        assert "Jane Roe" in pli("account", "list", config=where.config).stdout
        done = pli("account", "set", address, "--language", "xx", config=where.config)
        assert (done.returncode, "--language: must be one of" in done.stderr) == (2, True)
        done = pli("account", "close", "nobody@example.org", config=where.config)
        assert (done.returncode, "pli account list" in done.stderr) == (1, True)


def test_dns_records_fit_a_zone_file(tmp_path: Path) -> None:
    with sink() as world, site(tmp_path / "s", world.port) as where:
        lines = pli("dns", config=where.config).stdout.splitlines()
    strings = [text for line in lines for text in re.findall(r'"([^"]*)"', line)]
    assert max(map(len, strings)) <= 255
    assert sum("_domainkey." in line for line in lines) == 4
    assert any("SPF" in line and line.startswith(";") for line in lines), "a relay's addresses belong into SPF"


def test_a_letter_is_found_by_every_number_that_people_have(gateway: Demo) -> None:
    letter, raw = gateway.deposit("numbers@example.net")
    config = gateway.folder / "pli.toml"
    shown = json.loads(pli("letter", "show", letter, "--json", config=config).stdout)
    message_id = re.search(rb"^Message-ID: (\S+)", raw, re.MULTILINE)
    assert message_id is not None
    names = (
        shown["consignment"],
        shown["consignment"].replace("-", "").lower(),
        shown["reference"],
        message_id[1].decode(),
    )
    for name in names:
        done = pli("letter", "show", name, "--json", config=config)
        assert done.returncode == 0, (name, done.stderr)
        found = json.loads(done.stdout)
        assert found["letter"] == letter, name
    listed = pli("letter", "list", "--recipient", "numbers@example.net", "--json", config=config)
    assert [row["letter"] for row in json.loads(listed.stdout)] == [letter]
    done = pli("letter", "release", letter, config=config)
    assert (done.returncode, "only a letter that is held" in done.stderr) == (1, True)
    done = pli("letter", "show", "NOSUCH-NUMBER", config=config)
    assert (done.returncode, "pli letter list" in done.stderr) == (1, True)
