"""Facts of SMTP as lines of text: what a mail server was asked and answered, for the pages of proofs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.core.heard import by_relay
from gateway.proof.words import Words

_MOST_LINES = 14
_SAID = ("host", "reason", "tls", "tls_trouble", "replies", "tried")


def rows(attempt: Mapping[str, Any], words: Words) -> Iterator[tuple[str, str | list[str]]]:
    """(label, lines) of an attempt's facts (dispatch/attempt.py); what is not known of it is left out."""
    for key in _SAID:
        value = attempt.get(key)
        if key == "host" and value:
            where = [str(attempt[k]) for k in ("address", "port") if attempt.get(k) is not None]
            label = "relay" if by_relay(attempt) else key
            yield label, f"{value} ({':'.join(where)})" if where else str(value)
        elif key == "tls" and key in attempt:
            yield key, _tls(value, words)
        elif key == "replies" and isinstance(value, Sequence):
            yield key, flat([_reply(reply) for reply in value])
        elif value:
            yield key, flat(value)


def flat(value: object) -> list[str]:
    """Any JSON value as lines "name: text", bounded."""
    lines = list(_lines(value, ""))
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _tls(value: object, words: Words) -> str:
    said = words["value"]
    if not isinstance(value, Mapping):
        return str(value or said["plaintext"])
    verified = {True: "verified_yes", False: "verified_no"}.get(value.get("verified") or False, "verified_no")
    if value.get("verified") is None:
        verified = "verified_none"
    parts = [str(value[key]) for key in ("version", "cipher") if value.get(key)]
    return f"{' '.join(parts)}, {said[verified]}"


def _reply(reply: object) -> object:
    """A command and its answer on one line; the greeting answers none."""
    if not isinstance(reply, Mapping) or not {"command", "code", "text"} <= reply.keys():
        return reply
    command = f"{reply['command']}: " if reply["command"] else ""
    return f"{command}{reply['code']} {reply['text']}"


def _lines(value: object, name: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _lines(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            if isinstance(item, Mapping):
                yield ", ".join(f"{key}: {text}" for key, text in item.items() if text not in (None, ""))
            elif isinstance(item, Sequence) and not isinstance(item, str):
                yield " ".join(map(str, item))
            else:
                yield f"{name}: {item}" if name else str(item)
    elif value is not None:
        yield f"{name}: {value}" if name else str(value)
