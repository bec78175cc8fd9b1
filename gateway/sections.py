"""The sections of the configuration: every key, its type, its default, and what is wrong with a value of another form.

conf/pli.toml is the reference and says what each key means; a test holds the two together.
Not here: reading files and the environment, and what sections must agree on (gateway/settings.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import NoDecode


class HostPort(NamedTuple):
    """Where to listen or connect. As a listener: host "0.0.0.0" or "::" means every address, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _host_port(value: Any) -> HostPort | None:
    if value is None or value == "":
        return None
    if isinstance(value, tuple) and len(value) == 2:
        return HostPort(*value)
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):([0-9]{1,5})", value) if isinstance(value, str) else None
    if found is None or int(found[2]) > 65535:
        raise ValueError('must be "host:port", such as "127.0.0.1:2525" or "[::1]:2525", or ""')
    return HostPort(found[1].strip("[]"), int(found[2]))


_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"


def _domain(value: str) -> str:
    value = value.lower().rstrip(".")
    if len(value) > 253 or not re.fullmatch(rf"({_LABEL}\.)+(?![0-9]+$){_LABEL}", value):
        raise ValueError('must be a full domain name, such as "pli.example.org" (other scripts in their xn-- form)')
    return value


def _address(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if not at or not re.fullmatch(r"[a-z0-9._-]{1,64}", local.lower()):
        raise ValueError('must be a mail address, such as "letter@pli.example.org"')
    return f"{local.lower()}@{_domain(domain)}"


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError('must be a plain address, such as "https://pli.example.org"')
    return value.rstrip("/")


def _source(value: str) -> str:
    if value != "system" and not re.fullmatch(r"file:.+", value):
        raise ValueError('must be "system", or "file:PATH" in the demo')
    return value


def _database(value: SecretStr) -> SecretStr:
    if not re.match(r"sqlite:.|postgres(ql)?://.|$", value.get_secret_value()):
        raise ValueError('must begin with "sqlite:" or "postgres://", or be "" for SQLite in data_dir')
    return value


def _several(value: Any) -> Any:
    """From the environment: items between commas."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _optional_path(value: Any) -> Any:
    return None if value == "" else value


Endpoint = Annotated[HostPort | None, BeforeValidator(_host_port)]
Domain = Annotated[str, AfterValidator(_domain)]
Url = Annotated[str, AfterValidator(_url)]
File = Annotated[Path | None, BeforeValidator(_optional_path)]
Several = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_several)]


class Section(BaseModel):
    # extra="forbid" does not reach nested models by itself.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Gateway(Section):
    domain: Domain = Field(examples=["pli.example.org"])
    letters_domain: Domain
    dedicated_address: Annotated[str, AfterValidator(_address)]
    notice_domain: Domain
    public_url: Url = Field(examples=["https://pli.example.org"])
    data_dir: Path = Path("/var/lib/pli")
    keys_dir: Path = Path("/etc/pli/keys")
    profile: str = Field(default="fr", pattern=r"^[a-z][a-z0-9-]{0,31}$")
    language: str = Field(default="fr", pattern=r"^[a-z]{2}$")
    environment: Literal["production", "demo"] = "production"

    @model_validator(mode="before")
    @classmethod
    def _from_domain(cls, data: Any) -> Any:
        """What was left empty follows from the domain."""
        if not isinstance(data, Mapping):
            return data
        domain = data.get("domain", "")
        made = {"letters_domain": domain, "notice_domain": domain, "dedicated_address": f"letter@{domain}"}
        return {**data, **{key: value for key, value in made.items() if data.get(key, "") == ""}}


class Operator(Section):
    name: str = Field(min_length=1, max_length=200, examples=["Example Post"])
    address: str = ""
    phone: str = ""
    email: str = Field(default="", pattern=r"^([^@\s]+@[^@\s]+)?$")
    site: Literal[""] | Url = ""


class Database(Section):
    url: Annotated[SecretStr, AfterValidator(_database)] = SecretStr("")
    pool: int = Field(default=10, ge=2, le=100)


class Smtp(Section):
    submissions: Endpoint = HostPort("0.0.0.0", 465)
    submission: Endpoint = HostPort("0.0.0.0", 587)
    mx: Endpoint = HostPort("0.0.0.0", 25)
    tls_cert: File = None
    tls_key: File = None
    max_bytes: int = Field(default=26_214_400, ge=65_536, le=1_073_741_824)
    max_recipients: int = Field(default=100, ge=1, le=10_000)
    max_connections: int = Field(default=500, ge=1, le=100_000)
    max_per_peer: int = Field(default=20, ge=1, le=100_000)
    auth_tries: int = Field(default=3, ge=1, le=20)
    timeout: int = Field(default=300, ge=5, le=3600)  # seconds; RFC 5321 4.5.3.2.7


class Web(Section):
    listen: Endpoint = HostPort("127.0.0.1", 8080)
    tls_cert: File = None
    tls_key: File = None


class Dispatch(Section):
    relay: Endpoint = None
    dns: Endpoint = None
    ca: File = None
    concurrency: int = Field(default=20, ge=0, le=1000)  # 0: nothing leaves


class Tsa(Section):
    urls: Annotated[tuple[Url, ...], NoDecode, BeforeValidator(_several)] = ()


class ClockSection(Section):
    source: Annotated[str, AfterValidator(_source)] = "system"
    max_offset: float = Field(default=2.0, gt=0, le=3600)
    ntp: Several = ()


class Qualified(Section):
    provider: str = ""
    trusted_list_entry: Literal[""] | Url = ""
    seal_certificate: File = None
    tsa: Literal[""] | Url = ""
