"""The arguments of MAIL and RCPT, and the words of AUTH: text in, values out.

Tolerant where real clients are careless (case, order, doubled parameters, missing brackets), strict where a value is kept.
Not here: what is allowed (session.py), what an address means (core/address.py).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PATH = re.compile(rf"<((?:{_QUOTED}|[^<>\"])*)>(?:\s+(.*))?\Z")
_BARE = re.compile(r"([^<>\s]+)(?:\s+(.*))?\Z")
_ROUTE = re.compile(r"@[^:\s]+:")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_SIZE = re.compile(r"[0-9]{1,20}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{(0[1-9A-F]|10|20|2B|3D|7F|5C|[1-9A-F][0-9A-F]{1,5})\}")
_OF_MAIL = frozenset({"SIZE", "BODY", "SMTPUTF8", "AUTH", "RET", "ENVID"})
_OF_RCPT = frozenset({"NOTIFY", "ORCPT"})
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


class BadSyntax(Exception):
    """reply: the whole SMTP reply."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


class Path(NamedTuple):
    """A path and what follows it. address: as written, "" for the null path. parameters: by upper-case keyword."""

    address: str
    parameters: dict[str, str]


def read_path(keyword: str, argument: str) -> Path:
    """*argument* is all that follows the verb; keyword: FROM or TO (RFC 5321 4.1.1.2, 4.1.1.3). Raises BadSyntax."""
    word, colon, rest = argument.partition(":")
    rest = rest.strip()
    if not colon or word.strip().upper() != keyword or not rest:
        raise BadSyntax(f"501 5.5.4 Syntax: {keyword}:<address>")
    found = _PATH.match(rest) or _BARE.match(rest)
    code = "5.1.7" if keyword == "FROM" else "5.1.3"  # RFC 3463 3.2
    if found is None:
        raise BadSyntax(f"553 {code} The address cannot be read; it looks like <jane.doe@example.org>")
    address = found[1].strip()
    if route := _ROUTE.match(address):
        address = address[route.end() :]  # RFC 5321 C: routes are read and ignored
    if _CONTROL.search(address):
        raise BadSyntax(f"553 {code} The address holds control characters")
    return Path(address, _parameters(found[2] or ""))


def _parameters(text: str) -> dict[str, str]:
    """A later value of a doubled parameter counts."""
    found = {}
    for word in text.split():
        keyword, equals, value = word.partition("=")
        if not _KEYWORD.match(keyword) or (equals and not value):
            raise BadSyntax("501 5.5.4 A parameter cannot be read; it looks like KEYWORD=value")
        found[keyword.upper()] = value
    return found


class MailParameters(NamedTuple):
    size: int | None = None
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


def read_mail_parameters(given: dict[str, str]) -> MailParameters:
    """SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 5), RET and ENVID (RFC 3461). Raises BadSyntax."""
    size = given.get("SIZE")
    if size is not None and not _SIZE.fullmatch(size):
        raise BadSyntax("501 5.5.4 SIZE is a number of bytes")
    if given.get("BODY", "7BIT").upper() not in ("7BIT", "8BITMIME"):
        raise BadSyntax("501 5.5.4 BODY is 7BIT or 8BITMIME")
    if given.get("SMTPUTF8"):
        raise BadSyntax("501 5.5.4 SMTPUTF8 takes no value")
    ret = given.get("RET")
    if ret is not None and ret.upper() not in ("FULL", "HDRS"):
        raise BadSyntax("501 5.5.4 RET is FULL or HDRS")
    envid = given.get("ENVID")
    # AUTH= is read and not believed: who submits is who logged in (RFC 4954 5).
    _refuse_others(given, _OF_MAIL)
    return MailParameters(
        size=None if size is None else int(size),
        smtputf8="SMTPUTF8" in given,
        ret=None if ret is None else ret.upper(),
        envid=None if envid is None else _decoded("ENVID", envid, 100),
    )


def read_rcpt_parameters(given: dict[str, str]) -> tuple[str | None, str | None]:
    """(NOTIFY, ORCPT), the latter as "type;address" decoded (RFC 3461 4.1, 4.2). Raises BadSyntax."""
    notify, orcpt = given.get("NOTIFY"), given.get("ORCPT")
    if notify is not None:
        words = notify.upper().split(",")
        if words != ["NEVER"] and not _NOTIFY.issuperset(words):
            raise BadSyntax("501 5.5.4 NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY")
        notify = ",".join(dict.fromkeys(words))
    if orcpt is not None:
        kind, semicolon, address = orcpt.partition(";")
        if not semicolon or not _KEYWORD.match(kind) or not address:
            raise BadSyntax("501 5.5.4 ORCPT looks like rfc822;jane.doe@example.org")
        orcpt = f"{kind.lower()};{_decoded('ORCPT', address, 500, utf8=kind.lower() == 'utf-8')}"
    _refuse_others(given, _OF_RCPT)
    return notify, orcpt


def _refuse_others(given: dict[str, str], known: frozenset[str]) -> None:
    if others := sorted(given.keys() - known):
        raise BadSyntax(f"555 5.5.4 Parameter {others[0][:64]} is not supported here")  # RFC 5321 4.1.1.11


def _decoded(name: str, value: str, most: int, *, utf8: bool = False) -> str:
    """xtext (RFC 3461 4), or for utf-8 addresses also its Unicode forms (RFC 6533 3); what is no code stays as it is."""
    text = value
    if utf8:
        text = _UNITEXT.sub(lambda found: chr(min(int(found[1], 16), 0x10FFFF)), text)
    text = _HEX.sub(lambda found: chr(int(found[1], 16)), text)
    if len(value) > most or not text.isprintable():
        raise BadSyntax(f"501 5.5.4 {name} is too long or holds characters that cannot be seen")
    return text


def unbase64(text: str) -> bytes:
    """The bytes of a SASL response; "=" stands for none (RFC 4954 4). Raises BadSyntax."""
    if text == "=":
        return b""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BadSyntax("501 5.5.2 This is not base64") from error


def read_plain(response: bytes) -> tuple[str, str, str]:
    """(authorization identity, user name, password) of SASL PLAIN (RFC 4616 2). Raises BadSyntax."""
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise BadSyntax("501 5.5.2 PLAIN is [identity] NUL user NUL password, in base64")
    identity, user, password = (read_word(part) for part in parts)
    return identity, user, password


def read_word(word: bytes) -> str:
    try:
        return word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSyntax("501 5.5.2 User name and password are sent as UTF-8") from error
