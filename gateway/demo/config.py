"""The demo's configuration as a file, so that every command can look into a demo: `pli --config demo/pli.toml letter list`."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from gateway.settings import HostPort, Settings


def as_toml(settings: Settings) -> str:
    """*settings* as a configuration file; what was left to its default is left out."""
    lines = ["# Written by pli demo; another demo in this folder writes it anew."]
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        given = [key for key in type(section).model_fields if key in section.model_fields_set]
        if given:
            lines += ["", f"[{name}]", *(f"{key} = {_value(getattr(section, key))}" for key in given)]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """JSON's strings, numbers, lists and truth are TOML's, too."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        value = ""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, tuple) and not isinstance(value, HostPort):
        return json.dumps([str(item) for item in value], ensure_ascii=False)
    return json.dumps(str(value), ensure_ascii=False)
