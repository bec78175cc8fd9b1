"""The configuration: every mistake is found, all at once, each with its key and the mend; what is right is taken as meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import settings
from gateway.core.errors import Unusable
from gateway.sections import HostPort
from gateway.settings import Settings, load, load_profile

RIGHT = {
    "gateway": {
        "domain": "pli.example.org",
        "notice_domain": "avis.example.net",
        "public_url": "https://pli.example.org",
    },
    "operator": {"name": "Example Post"},
    "smtp": {"submissions": "", "submission": ""},
}


def written(folder: Path, changes: dict[str, Any]) -> Path:
    """A configuration file: RIGHT with "section.key" changed; None takes a key away."""
    values = {section: dict(keys) for section, keys in RIGHT.items()}
    for name, value in changes.items():
        section, _, key = name.partition(".")
        values.setdefault(section, {})[key] = value
    lines = []
    for section, keys in values.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
    file = folder / "pli.toml"
    file.write_text("\n".join(lines), "utf-8")
    return file


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def loaded(folder: Path, changes: dict[str, Any] | None = None, **environ: str) -> Settings:
    return load(written(folder, changes or {}), environ)


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"smtp.mx": "[::]:25", "web.listen": "127.0.0.1:0", "gateway.domain": "PLI.Example.ORG."})
    assert found.gateway.domain == "pli.example.org"
    assert found.gateway.letters_domain == "pli.example.org"
    assert found.gateway.dedicated_address == "letter@pli.example.org"
    assert found.smtp.mx == HostPort("::", 25)
    assert str(found.smtp.mx) == "[::]:25"
    assert found.web.listen == HostPort("127.0.0.1", 0)
    assert found.smtp.submissions is None
    assert found.database_url == "sqlite:/var/lib/pli/pli.db"


def test_the_environment_comes_last(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        {"smtp.max_bytes": 100_000},
        PLI_SMTP__MAX_BYTES="200000",
        PLI_CLOCK__NTP="a.example.org, b.example.org",
        pli_web__listen="127.0.0.1:9999",
        PLI_CONFIG="/nowhere",
        OTHER="x",
    )
    assert found.smtp.max_bytes == 200_000
    assert found.clock.ntp == ("a.example.org", "b.example.org")
    assert found.web.listen == HostPort("127.0.0.1", 9999)


def test_settings_made_in_code_do_not_look_at_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY__DOMAIN", "other.example.org")
    monkeypatch.setenv("PLI_GATEWAY__DOMAIN", "other.example.org")
    assert Settings.model_validate(RIGHT).gateway.domain == "pli.example.org"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gateway.domain": None}, '[gateway] domain: is missing: add  domain = "pli.example.org"  or set PLI_GATEWAY__DOMAIN'),
        ({"gateway.domain": "nodots"}, "[gateway] domain: must be a full domain name"),
        ({"gateway.domain": "-x.org"}, "[gateway] domain: must be a full domain name"),
        ({"gateway.notice_domain": "pli.example.org"}, "[gateway] notice_domain: must be given and be another than domain"),
        ({"gateway.public_url": "pli.example.org"}, "[gateway] public_url: must be a plain address"),
        ({"gateway.public_url": "https://a:b@pli.example.org"}, "[gateway] public_url: must be a plain address"),
        ({"gateway.public_url": "http://pli.example.org"}, "[gateway] public_url: must begin with https://"),
        ({"gateway.dedicated_address": "letter"}, "[gateway] dedicated_address: must be a mail address"),
        ({"gateway.dedicated_address": "letter@other.org"}, "[gateway] dedicated_address: must be at pli.example.org"),
        ({"gateway.profile": "nowhere"}, "[gateway] profile: there is no 'nowhere'; known are ch, eidas, fr"),
        ({"gateway.profile": "../fr"}, "[gateway] profile: must be the name of a profile"),
        ({"gateway.keys_dir": "/var/lib/pli/keys"}, "[gateway] keys_dir: must lie outside data_dir"),
        ({"gateway.environment": "test"}, "[gateway] environment: must be 'production' or 'demo'"),
        ({"gateway.profil": "fr"}, "[gateway] profil: unknown key; did you mean profile?"),
        ({"operator.name": ""}, "[operator] name: must be the provider's name"),
        ({"operator.email": "nobody"}, "[operator] email: must be a mail address"),
        ({"database.url": "mysql://x"}, '[database] url: must begin with "sqlite:" or "postgres://"'),
        ({"smtp.mx": "25"}, '[smtp] mx: must be "host:port"'),
        ({"smtp.mx": "0.0.0.0:99999"}, '[smtp] mx: must be "host:port"'),
        ({"smtp.submission": "0.0.0.0:587"}, "[smtp] tls_cert: must be given while submissions or submission listens"),
        ({"smtp.tls_cert": __file__}, "[smtp] tls_key: must be given together"),
        ({"web.tls_key": __file__}, "[web] tls_cert: must be given together"),
        ({"web.tls_cert": "/no.pem", "web.tls_key": __file__}, "[web] tls_cert: there is no file /no.pem"),
        ({"dispatch.ca": "/no.pem"}, "[dispatch] ca: there is no file /no.pem"),
        ({"smtp.max_bytes": "many"}, "[smtp] max_bytes: must be a number (got 'many')"),
        ({"smtp.max_bytes": 1}, "[smtp] max_bytes: must be at least 65536 (got 1)"),
        ({"smtp.max_recipients": 99_999}, "[smtp] max_recipients: must be at most 10000"),
        ({"web.listen": "0.0.0.0:25"}, "[web] listen: 0.0.0.0:25 is taken by [smtp] mx = 0.0.0.0:25"),
        ({"dispatch.dns": "resolver.example.org:53"}, "[dispatch] dns: must name the resolver by IP address"),
        ({"clock.source": "file:/x"}, '[clock] source: must be "system" in production'),
        ({"clock.source": "sundial"}, '[clock] source: must be "system", or "file:PATH"'),
        ({"gateway.environment": "demo"}, "[dispatch] relay: must be given in the demo"),
        ({"web.port": 80}, "[web] port: unknown key; known are listen, tls_cert, tls_key"),
        ({"smpt.mx": ""}, "[smpt]: unknown section; did you mean smtp?"),
        ({"tsa.urls": "tsa.example.org"}, "[tsa] urls: must be a plain address"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(Unusable) as caught:
        loaded(tmp_path, changes)
    said = str(caught.value).splitlines()
    assert said[0] == f"{tmp_path}/pli.toml:"
    assert [found for found in said[1:] if found.startswith(line)], said
    assert len(said) == 2, "one mistake, one line"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    changes = {
        "gateway.domain": "nodots", "gateway.keys_dir": "/var/lib/pli/k", "gateway.profil": "fr", "operator.name": "",
        "smtp.max_bytes": "many", "smtp.submission": ":1", "web.listen": "x", "nonsense.key": 1,
    }  # fmt: skip
    with pytest.raises(Unusable) as caught:
        loaded(tmp_path, changes, PLI_SMTP__MAX_RECIPIENTS="0", PLI_SMTP="x", PLI_DISPATCH__RELAI="x:1")
    said = str(caught.value)
    for name in (
        "[gateway] domain", "[gateway] keys_dir", "[gateway] profil", "[operator] name", "[smtp] max_bytes", "[smtp] submission",
        "[web] listen", "[nonsense]", "[smtp] max_recipients", "[dispatch] relai: unknown key; did you mean relay?",
        "[smtp] PLI_SMTP: unknown key",
    ):  # fmt: skip
        assert name in said, said


def test_a_secret_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(Unusable) as caught:
        loaded(tmp_path, {"database.url": "mysql://pli:hidden@db"})
    assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(loaded(tmp_path, {"database.url": "postgres://pli:hidden@db/pli"}))


def test_a_file_that_is_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.toml").write_bytes(b"[gateway\n")
    (tmp_path / "junk.toml").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    for file, words in (("none.toml", "cannot be read"), ("bad.toml", "is not TOML"), ("junk.toml", "is not TOML")):
        with pytest.raises(Unusable, match=words):
            load(tmp_path / file, {})
    with pytest.raises(Unusable, match="no configuration: give --config FILE or set PLI_CONFIG"):
        load(None, {})
    written(tmp_path, {})
    assert load(None, {}).operator.name == "Example Post"  # ./pli.toml
    assert load(None, {"PLI_CONFIG": str(tmp_path / "pli.toml")}).operator.name == "Example Post"


def test_a_qualified_profile_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Unusable) as caught:
        load_profile(loaded(tmp_path, {"gateway.profile": "fr-qualified"}))
    for key in ("provider", "trusted_list_entry", "seal_certificate", "tsa"):
        assert f"[qualified] {key}: must be given" in str(caught.value)


_VALUES = st.one_of(
    st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.lists(st.text(max_size=3), max_size=2)
)


@given(
    section=st.sampled_from([*settings.SECTIONS, "other"]),
    key=st.sampled_from(sorted({key for model in settings.SECTIONS.values() for key in model.model_fields} | {"x"})),
    value=_VALUES,
)
def test_no_value_makes_another_error(section: str, key: str, value: Any) -> None:
    data = {name: dict(keys) for name, keys in RIGHT.items()}
    data.setdefault(section, {})[key] = value
    mistakes: list[str] = []
    settings._sections(data, mistakes)
    assert all(line.startswith("[") and "\n" not in line for line in mistakes)
