"""Configuration: one TOML file, overridden by PLI_<SECTION>__<KEY>, read once, frozen, and held to its form as a whole.

All mistakes are reported at once, one line each, with the mend; conf/pli.toml is the reference.
Not here: the keys (gateway/sections.py), the legal parameters (conf/profiles, core/profile.py), opening what is named.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlsplit

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.core.errors import Unusable
from gateway.core.profile import Profile, from_data
from gateway.sections import (
    ClockSection,
    Database,
    Dispatch,
    Gateway,
    HostPort,
    Operator,
    Qualified,
    Section,
    Smtp,
    Tsa,
    Web,
)

__all__ = [
    "ClockSection", "Database", "Dispatch", "Gateway", "HostPort", "Operator", "Qualified", "Settings", "Smtp", "Tsa", "Web",
    "conf_dir", "load", "load_profile",
]  # fmt: skip

PREFIX = "PLI_"
CONFIG = "PLI_CONFIG"


class Settings(BaseSettings):
    """All settings. Made by `load`, or in code (the demo): then nothing but the given values and the defaults counts."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    gateway: Gateway
    operator: Operator
    database: Database = Database()
    smtp: Smtp = Smtp()
    web: Web = Web()
    dispatch: Dispatch = Dispatch()
    tsa: Tsa = Tsa()
    clock: ClockSection = ClockSection()
    qualified: Qualified = Qualified()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # file and environment are read by `load`, which can name all mistakes at once

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if lines := [line for _, line in _contradictions({name: getattr(self, name) for name in SECTIONS})]:
            raise Unusable("\n".join(lines))
        return self

    @property
    def database_url(self) -> str:
        """The URL with its password: not for logs."""
        return self.database.url.get_secret_value() or f"sqlite:{self.gateway.data_dir / 'pli.db'}"


SECTIONS: dict[str, type[Section]] = {
    name: cast("type[Section]", field.annotation) for name, field in Settings.model_fields.items()
}
_Key = tuple[str, str]


def conf_dir() -> Path:
    """The folder of pli.toml and profiles/: beside the packages, or inside an installed one."""
    here = Path(__file__).resolve().parent
    beside = here.parent / "conf"
    return beside if (beside / "profiles").is_dir() else here / "conf"


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of *path*, else of PLI_CONFIG, else of ./pli.toml, with the overrides of *environ*.

    Raises Unusable with one line per mistake.
    """
    file = path or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    if file is None and Path("pli.toml").is_file():
        file = Path("pli.toml")
    overrides = _overrides(environ)
    if file is None and not overrides:
        reference = conf_dir() / "pli.toml"
        raise Unusable(
            f"no configuration: give --config FILE or set {CONFIG}, or put a pli.toml here (copy {reference})"
        )
    data = _read_toml(file) if file else {}
    mistakes: list[str] = []
    for section, values in overrides.items():
        if isinstance(data.setdefault(section, {}), dict):
            data[section] = {**data[section], **values}
    settled = _sections(data, mistakes)
    mistakes += _missing_files(settled)
    if mistakes:
        raise Unusable("\n".join([f"{file}:" if file else "environment:", *mistakes]))
    return Settings.model_validate(settled)


def load_profile(settings: Settings) -> Profile:
    """The profile the settings name; raises Unusable where it cannot be used, or is one that we cannot honour (R2)."""
    file = _profile_file(settings.gateway.profile)
    try:
        profile = from_data(tomllib.loads(file.read_text("utf-8")))
    except OSError as error:
        raise Unusable(f"[gateway] profile: {file} cannot be read ({error.strerror})") from error
    except ValueError as error:  # TOML or UTF-8
        raise Unusable(f"[gateway] profile: {file} is not TOML: {error}") from error
    if profile.id != settings.gateway.profile:
        raise Unusable(f"[gateway] profile: {file} says id = {profile.id!r}; rename one of them")
    if profile.qualified:
        raise Unusable("\n".join(_lacks(settings.qualified, profile)))
    return profile


def _lacks(qualified: Qualified, profile: Profile) -> list[str]:
    lines = [
        f"[qualified] {key}: must be given for profile {profile.id}"
        for key in Qualified.model_fields
        if not getattr(qualified, key)
    ]
    return [
        *lines,
        (
            f"[gateway] profile: {profile.id} cannot be started with this version, which lacks identity checks at the level"
            " 'substantial' and qualified time stamps; choose a non-qualified profile, such as fr"
        ),
    ]


def _profile_file(name: str) -> Path:
    return conf_dir() / "profiles" / f"{name}.toml"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise Unusable(f"the configuration {file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError names line and column; UnicodeDecodeError is one, too
        raise Unusable(f"the configuration {file} is not TOML: {error}") from error


def _overrides(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """PLI_SMTP__MAX_BYTES=1 as {"smtp": {"max_bytes": "1"}}; sections that do not exist are kept, to be reported."""
    source = EnvSettingsSource(Settings, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter="__")
    # PLI_SMTP alone would be read as the whole section, in JSON.
    source.env_vars = {name.lower(): value for name, value in environ.items() if "__" in name and name != CONFIG}
    found: dict[str, dict[str, Any]] = {k: v for k, v in source().items() if isinstance(v, dict)}
    for name, value in environ.items():
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and name != CONFIG and (section not in SECTIONS or not key):
            found.setdefault(section, {})[key or name] = value
    return found


def _sections(data: Mapping[str, Any], mistakes: list[str]) -> dict[str, Section]:
    """The sections that can be made of *data*; what is wrong with it, also between sections, is appended to *mistakes*."""
    bad: set[_Key] = set()
    settled: dict[str, Section] = {}
    mistakes += [f"[{name}]: unknown section{_meant(name, SECTIONS)}" for name in data if name not in SECTIONS]
    for name, section in SECTIONS.items():
        values = data.get(name, {})
        if not isinstance(values, Mapping):
            mistakes.append(f"[{name}]: must be a section, a line [{name}] with its keys below")
            continue
        try:
            settled[name] = section.model_validate(values)
        except ValidationError as error:
            details = error.errors()
            mistakes += dict.fromkeys(_sentence(name, section, detail) for detail in _first_of_each(details, values))
            wrong = {str(detail["loc"][0]) for detail in details if detail["loc"]}
            bad |= {(name, key) for key in wrong}
            # What remains still meets the checks between keys; in the place of a bad one that must be there stands its example.
            kept = {k: v for k, v in values.items() if k not in wrong}
            with suppress(ValidationError):
                settled[name] = section.model_validate({**_examples(section, wrong), **kept})
    mistakes += [line for keys, line in _contradictions(settled) if not bad & set(keys)]
    return settled


def _examples(section: type[Section], keys: Iterable[str]) -> dict[str, Any]:
    fields = section.model_fields
    return {key: fields[key].examples[0] for key in keys if key in fields and fields[key].examples}  # type: ignore[index]


def _first_of_each(details: Sequence[ErrorDetails], values: Mapping[str, Any]) -> Iterator[ErrorDetails]:
    """One mistake per key, and none for a key that was only derived from another."""
    seen: set[object] = set()
    for detail in details:
        key = detail["loc"][0] if detail["loc"] else ""
        derived = key in ("letters_domain", "notice_domain", "dedicated_address") and not values.get(str(key))
        if key not in seen and not derived:
            yield detail
        seen.add(key)


def _sentence(name: str, section: type[Section], detail: ErrorDetails) -> str:
    key = str(detail["loc"][0])
    where, context = f"[{name}] {key}", detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            example = (section.model_fields[key].examples or ["..."])[0]
            return f'{where}: is missing: add  {key} = "{example}"  or set {PREFIX}{name.upper()}__{key.upper()}'
        case "extra_forbidden":
            return f"{where}: unknown key{_meant(key, section.model_fields)}"
        case "value_error":
            words = str(context["error"])
        case "greater_than_equal" | "greater_than" | "less_than_equal":
            least, most = (context.get(bounds) for bounds in ("ge", "le"))
            words = f"must be at least {least}" if least is not None else f"must be more than {context.get('gt')}"
            words = f"must be at most {most}" if most is not None else words
        case "int_parsing" | "int_type" | "int_from_float" | "float_parsing" | "float_type":
            words = "must be a number"
        case "literal_error":
            words = f"must be {context['expected']}"
        case "string_pattern_mismatch" | "string_too_short" | "string_too_long":
            words = _WORDS.get((name, key), "must be given")
        case _:
            words = f"must be a {_TYPES.get(detail['type'], 'different value')}"
    got = "" if (name, key) == ("database", "url") else f" (got {_shown(detail['input'])})"
    return f"{where}: {words}{got}"


_WORDS: dict[_Key, str] = {
    ("gateway", "profile"): 'must be the name of a profile, such as "fr"',
    ("operator", "name"): "must be the provider's name, 1 to 200 characters",
    ("operator", "email"): 'must be a mail address, such as "post@example.org"',
}
_TYPES = {"string_type": "text in quotes", "tuple_type": "list of texts", "path_type": "path in quotes"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _meant(word: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


_Found = Iterator[tuple[tuple[_Key, ...], str]]


def _contradictions(parts: Mapping[str, Section]) -> list[tuple[tuple[_Key, ...], str]]:
    """What does not fit between well-formed keys: the keys concerned, and the line that says so."""
    gateway, smtp, web = parts.get("gateway"), parts.get("smtp"), parts.get("web")
    found: list[tuple[tuple[_Key, ...], str]] = []
    if isinstance(gateway, Gateway):
        found += _about_gateway(gateway)
        found += _about_environment(gateway, parts.get("clock"), parts.get("dispatch"))
    if isinstance(smtp, Smtp):
        found += _about_tls("smtp", smtp)
        if smtp.tls_cert is None and (smtp.submissions or smtp.submission):
            keys = (("smtp", "tls_cert"), ("smtp", "submissions"), ("smtp", "submission"))
            found.append(
                (keys, '[smtp] tls_cert: must be given while submissions or submission listens; else set both to ""')
            )
    if isinstance(web, Web):
        found += _about_tls("web", web)
    found += _about_ports(smtp, web)
    if isinstance(dispatch := parts.get("dispatch"), Dispatch) and dispatch.dns and not _is_ip(dispatch.dns.host):
        found.append(
            ((("dispatch", "dns"),), f"[dispatch] dns: must name the resolver by IP address (got {dispatch.dns})")
        )
    return found


def _about_gateway(gateway: Gateway) -> _Found:
    if gateway.keys_dir.resolve().is_relative_to(gateway.data_dir.resolve()):
        yield (
            (("gateway", "keys_dir"), ("gateway", "data_dir")),
            (
                "[gateway] keys_dir: must lie outside data_dir, so that no copy of the data holds its keys"
                f" (got {gateway.keys_dir} in {gateway.data_dir})"
            ),
        )
    if not _profile_file(gateway.profile).is_file():
        known = sorted(file.stem for file in (conf_dir() / "profiles").glob("*.toml"))
        yield (
            (("gateway", "profile"),),
            f"[gateway] profile: there is no {gateway.profile!r}; known are {', '.join(known)}",
        )
    if gateway.notice_domain == gateway.domain:
        yield (
            (("gateway", "notice_domain"), ("gateway", "domain")),
            (
                "[gateway] notice_domain: must be given and be another than domain: notices come from a neutral one,"
                ' whoever the sender is, such as "notices.example.net"'
            ),
        )
    if gateway.dedicated_address.rpartition("@")[2] not in (gateway.domain, gateway.letters_domain):
        yield (
            (("gateway", "dedicated_address"), ("gateway", "domain"), ("gateway", "letters_domain")),
            (
                f"[gateway] dedicated_address: must be at {gateway.domain} or {gateway.letters_domain}"
                f" (got {gateway.dedicated_address})"
            ),
        )


def _about_environment(gateway: Gateway, clock: Section | None, dispatch: Section | None) -> _Found:
    environment = ("gateway", "environment")
    url = urlsplit(gateway.public_url)
    if gateway.environment == "production":
        if url.scheme != "https" and not _is_loopback(url.hostname or ""):
            yield (
                (("gateway", "public_url"), environment),
                f"[gateway] public_url: must begin with https:// in production (got {gateway.public_url})",
            )
        if isinstance(clock, ClockSection) and clock.source != "system":
            yield (
                (("clock", "source"), environment),
                '[clock] source: must be "system" in production; a clock file is for environment = "demo" alone',
            )
    elif isinstance(dispatch, Dispatch) and dispatch.relay is None and dispatch.dns is None:
        yield (
            (("dispatch", "relay"), ("dispatch", "dns"), environment),
            "[dispatch] relay: must be given in the demo (or dns), so that no sample letter reaches a real mailbox",
        )


def _about_tls(name: str, section: Smtp | Web) -> _Found:
    if (section.tls_cert is None) != (section.tls_key is None):
        lacking = "tls_cert" if section.tls_cert is None else "tls_key"
        yield (
            ((name, "tls_cert"), (name, "tls_key")),
            f"[{name}] {lacking}: must be given together with the other of the two",
        )


def _about_ports(smtp: Section | None, web: Section | None) -> _Found:
    listeners: list[tuple[_Key, HostPort]] = []
    for name, section, keys in (("smtp", smtp, ("submissions", "submission", "mx")), ("web", web, ("listen",))):
        pairs = [((name, key), getattr(section, key, None)) for key in keys]
        listeners += [(key, at) for key, at in pairs if at is not None and at.port]
    for n, (key, at) in enumerate(listeners):
        for earlier, other in listeners[:n]:
            if at.port == other.port and (at.host == other.host or {at.host, other.host} & {"0.0.0.0", "::"}):
                yield (
                    (key, earlier),
                    f"[{key[0]}] {key[1]}: {at} is taken by [{earlier[0]}] {earlier[1]} = {other}; choose another",
                )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def _missing_files(parts: Mapping[str, Section]) -> list[str]:
    named = (("smtp", "tls_cert"), ("smtp", "tls_key"), ("web", "tls_cert"), ("web", "tls_key"), ("dispatch", "ca"))
    files = [
        (name, key, getattr(parts.get(name), key, None)) for name, key in (*named, ("qualified", "seal_certificate"))
    ]
    return [f"[{name}] {key}: there is no file {file}" for name, key, file in files if file and not file.is_file()]
