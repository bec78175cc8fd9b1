"""Pages and files that speak of the program say what is so: settings, commands, errors, life cycle, and words we never use."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import SecretStr

from docs.make_diagram import PAGE, page
from gateway import __main__ as main
from gateway import settings
from gateway.cli import cli
from gateway.core.errors import PliError, Unusable
from gateway.core.letter import Event, State
from gateway.dispatch import route
from gateway.sections import HostPort

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "conf" / "pli.toml"
OPERATE = (ROOT / "docs" / "operate.md").read_text("utf-8")
KEYS = [(section, key) for section, model in settings.SECTIONS.items() for key in model.model_fields]
assert main and route  # everything that registers a command or an error is loaded


# -- conf/pli.toml -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, Any]]:
    return tomllib.loads(REFERENCE.read_text("utf-8"))


def _as_written(value: Any) -> Any:
    """A default as it stands in a TOML file."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, HostPort | Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return "" if value is None else value


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_setting_stands_in_the_reference_with_its_default(
    section: str, key: str, reference: dict[str, dict[str, Any]]
) -> None:
    field = settings.SECTIONS[section].model_fields[key]
    expected = "" if field.is_required() else _as_written(field.default)
    assert reference[section][key] == expected
    assert type(reference[section][key]) is type(expected)


def test_the_reference_has_no_other_keys(reference: dict[str, dict[str, Any]]) -> None:
    assert [(section, key) for section, keys in reference.items() for key in keys] == KEYS


def test_every_setting_has_its_comment() -> None:
    """A comment stands right above each key, or above the group of keys that it begins."""
    above = ""
    for line in REFERENCE.read_text("utf-8").splitlines():
        if re.match(r"[a-z_]+ = ", line):
            assert above.startswith("#") or re.match(r"[a-z_]+ = ", above), f"no comment above: {line}"
        above = line


def test_the_reference_loads_when_it_is_filled_in(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text("PEM")
    filled = {
        "domain": "pli.example.org",
        "notice_domain": "notices.example.net",
        "public_url": "https://pli.example.org",
        "name": "Example Post",
        "tls_cert": str(tmp_path / "cert"),
        "tls_key": str(tmp_path / "key"),
    }
    text, must = REFERENCE.read_text("utf-8"), []
    for block in re.findall(r'^# MUST.*\n(?:#.*\n)*((?:[a-z_]+ = ""\n)+)', text, re.MULTILINE):
        must += re.findall(r"([a-z_]+) = ", block)
    assert must == list(filled), "what is marked MUST, and nothing else, has to be filled in"
    for key, value in filled.items():
        text = re.sub(rf'^{key} = ""$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
    file = tmp_path / "pli.toml"
    file.write_text(text, "utf-8")
    loaded = settings.load(file, {})
    assert loaded.gateway.letters_domain == "pli.example.org"
    assert loaded.gateway.dedicated_address == "letter@pli.example.org"
    assert settings.load_profile(loaded).id == "fr"


def test_the_reference_as_it_is_names_what_must_be_filled_in() -> None:
    with pytest.raises(Unusable) as caught:
        settings.load(REFERENCE, {})
    for named in ("[gateway] domain", "[gateway] public_url", "[operator] name", "[smtp] tls_cert"):
        assert named in str(caught.value)
    with pytest.raises(Unusable, match=r"\[gateway\] notice_domain: must be given and be another than domain"):
        settings.load(REFERENCE, {"PLI_GATEWAY__DOMAIN": "pli.example.org"})


# -- commands ------------------------------------------------------------------------------------------------------------


def _commands(group: click.Group, path: str = "pli") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


@pytest.mark.parametrize(
    ("name", "command"), list(_commands(cli)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_helps_with_an_example(name: str, command: click.Command) -> None:
    assert command.help
    example = re.search(rf"Example: (pli .*{re.escape(name.removeprefix('pli '))}.*)", command.help)
    assert example, f"{name} has no example of itself"
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help or parameter.name in ("as_json", "folder")


@pytest.mark.parametrize("name", [name for name, command in _commands(cli) if not isinstance(command, click.Group)])
def test_every_command_is_documented(name: str) -> None:
    assert f"| `{name}` |" in OPERATE


def test_documented_commands_exist() -> None:
    real = {name for name, _ in _commands(cli)}
    text = "\n".join(path.read_text("utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    for line in re.findall(r"pli ((?:keys|account|letter) [a-z]+|[a-z]+)", "\n".join(re.findall(r"`([^`\n]+)`", text))):
        if f"pli {line}" not in real:
            assert line.split()[0] in {name.split()[1] for name in real} | {"offers"}, f"docs speak of `pli {line}`"


def test_the_readmes_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / ".ci" / "run"]:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", path.read_text("utf-8"), re.MULTILINE):
            assert target in targets, f"{path.name} speaks of make {target}"


def test_links_between_pages_lead_somewhere() -> None:
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


# -- errors and the life cycle -------------------------------------------------------------------------------------------


def _errors(root: type[PliError] = PliError) -> Iterator[type[PliError]]:
    for error in root.__subclasses__():
        yield error
        yield from _errors(error)


@pytest.mark.parametrize("error", [e for e in _errors() if e.__module__ == "gateway.core.errors" and e is not Unusable])
def test_every_error_is_in_the_table_of_answers(error: type[PliError]) -> None:
    said = error.sentence.removesuffix(".")
    rows = [line for line in OPERATE.splitlines() if line.startswith("| ") and said in line]
    assert rows, f"{error.__name__}: {error.sentence}"
    smtp, http = f"`{error.smtp_code} {error.enhanced}`", f"| {error.http_status} |"
    assert any(smtp in row or http in row for row in rows), f"{error.__name__}: neither {smtp} nor {http}"


def test_the_life_cycle_page_is_made_from_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make diagram`"


def test_the_life_cycle_page_has_every_state_and_event() -> None:
    text = PAGE.read_text("utf-8")
    for word in [*State, *Event]:
        assert f"| `{word}` |" in text


# -- words -----------------------------------------------------------------------------------------------------------------

_SKIP = {".git", ".venv", "node_modules", "demo", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
         ".hypothesis"}  # fmt: skip
_TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".html",
    ".css",
    ".typ",
    ".json",
    ".service",
    ".conf",
    ".cf",
    ".mjs",
    ".lock",
    ".js",
    "",
}
_E = "(?:é|e|&eacute;|\\\\u00e9)"
_MAY = (ROOT / "tests", ROOT / "conf" / "profiles" / "fr-qualified.toml")
"""Tests name what they look for; the qualified profile's own words come with it alone, and it cannot be started."""
RESERVED = re.compile(
    rf"lettres?\s+recommand{_E}es?\s+{_E}lectronique|recommand{_E}s?\s+{_E}lectronique|(?-i:\bL\.?R\.?E\b)",
    re.IGNORECASE,
)
"""Words that the law keeps for qualified providers (CPCE L. 101): no text of ours has them."""


def texts() -> Iterator[Path]:
    """Every text file of the project."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        top_demo_only = {"demo"} if len(parts) > 1 and parts[0] != "demo" else set()
        if _SKIP - top_demo_only & set(parts) or not path.is_file() or path.is_symlink():
            continue
        if path.suffix in _TEXT and path.name != "LICENSE":
            yield path


def test_reserved_words_are_nowhere() -> None:
    looked = list(texts())
    assert len(looked) > 100
    assert ROOT / "gateway" / "demo" / "stage.py" in looked
    wrong = []
    for path in looked:
        if any(path.is_relative_to(place) for place in _MAY):
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if RESERVED.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "Lettre recommandée" + " électronique",
        "une L" + "RE.",
        "un recommandé" + "\u00a0électronique",
        "RECOMMANDÉ" + " ÉLECTRONIQUE",
    ],
)
def test_the_search_finds_reserved_words(text: str) -> None:
    assert RESERVED.search(text)


@pytest.mark.parametrize(
    "text", ["le pli électronique", "Envoi électronique avec preuve", "ALREADY", "letter recommended"]
)
def test_the_search_leaves_other_words_alone(text: str) -> None:
    assert not RESERVED.search(text)


def test_nothing_tells_where_it_was_made() -> None:
    """No path of a machine, no address of a registry."""
    wrong = []
    for path in texts():
        if path == Path(__file__):
            continue
        found = re.search(
            r"/(?:root|work|home/[a-z]+)/|https?://[a-z.]*(?:pypi|npmjs|pythonhosted)\.",
            path.read_text("utf-8", "replace"),
        )
        if found:
            wrong.append(f"{path.relative_to(ROOT)}: {found[0]}")
    assert not wrong, "\n".join(wrong)
