"""Keys, seals and proofs that the proof tests share; each kind is made once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.core.letter import Event
from gateway.core.profile import from_data
from gateway.proof import keys
from gateway.proof.bundle import Press
from gateway.settings import conf_dir
from tests.proof.samples import LETTER, START, chain, last_at


@dataclass(frozen=True)
class House:
    """A gateway's keys, its press, and what it publishes for verifiers."""

    keys_dir: Path
    keys: keys.Keys
    press: Press
    ca: Path


def make_house(folder: Path) -> House:
    keys_dir = folder / "keys"
    keys.init(
        keys_dir,
        domain="pli.test",
        notice_domain="avis.test",
        operator="Pli Demo",
        not_before=START - timedelta(days=30),
        demo=True,
    )
    loaded = keys.load(keys_dir, folder / "data", START)
    keys.export_trust(keys_dir, folder / "trust", ["pli.test", "avis.test"])
    profile = from_data(tomllib.loads((conf_dir() / "profiles" / "fr.toml").read_text("utf-8")))
    return House(keys_dir, loaded, Press(loaded.seal, profile), folder / "trust" / "ca.pem")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Another gateway of the same name: only its keys tell it from ours."""
    return make_house(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return make_house(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def letter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("letter") / "the-letter.eml"
    path.write_bytes(LETTER)
    return path


@pytest.fixture(scope="module")
def proof(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proof of reception as it is attached to the mail."""
    records = chain(Event.HAND_OVER)
    path = tmp_path_factory.mktemp("proof") / "proof.pdf"
    path.write_bytes(house.press.make(records[-1], "fr", last_at(records))["proof.pdf"])
    return path
