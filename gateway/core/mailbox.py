"""Mail addresses as RFC 5321, 5322 and 6531 write them: one address, its form for comparison, and lists of named mailboxes.

Not here: what an address means to this gateway (address.py), MIME encodings of names (mime_fields.py), whether a mailbox exists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gateway.core.domain import ascii_domain
from gateway.core.errors import BadRecipient

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010FFFF-"  # RFC 5322 3.2.3, with RFC 6531 3.3
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_MAX_LOCAL = 64  # RFC 5321 4.5.3.1.1
_TOKEN = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<angle><(?:[^<>"\\]|\\.|"(?:[^"\\]|\\.)*")*>)'
    r'|(?P<comment>\()|(?P<end>[,;])|(?P<group>:)|(?P<words>[^"<>(),;:]+)|(?P<junk>.)',
    re.DOTALL,
)
_SIMPLE = re.compile(r'([^"<>(),;:]*)(?:<([^<>"\\]*)>\s*)?')
"""An entry without quotes and comments, as most are: its words, and what stands in angle brackets."""
_SEPARATOR = re.compile("[,;]")


class Mailbox(NamedTuple):
    """One entry of a list. name: as written, without quotes, maybe MIME-encoded. address: as written; "" where unreadable."""

    name: str
    address: str


def split(address: str) -> tuple[str, str]:
    """(local part, domain) as written, cut at the last "@". Raises BadRecipient where one of them is missing."""
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise BadRecipient("This recipient address is incomplete; it looks like  jane.doe@example.org")
    return local, domain


@lru_cache(4096)  # bounded in length, too: what is no address is not kept
def check_address(address: str) -> str:
    """The one way to write this address: local part in the case given, domain in lower-case A-labels.

    Takes dot-atoms and quoted strings, also with international letters (RFC 6531); quotes that are not needed go. Raises
    BadRecipient for everything else, for address literals, invisible characters, and parts above 64 and 255 octets.
    """
    local, domain = split(address)
    written = quote(unquote(local))
    if len(written.encode("utf-8")) > _MAX_LOCAL:
        raise BadRecipient("The part before @ of this address is too long (at most 64 characters).")
    return f"{written}@{ascii_domain(domain)}"


@lru_cache(4096)
def comparison_form(address: str) -> str:
    """The form under which two spellings of one address are equal; never used for sending. Raises BadRecipient.

    RFC 5321 2.4 leaves the case of local parts to their hosts; no host of today gives two people the same letters.
    """
    local, domain = split(check_address(address))
    if local.isascii():
        return f"{local.lower()}@{domain}"
    return f"{unicodedata.normalize('NFC', unicodedata.normalize('NFC', local).lower())}@{domain}"


def unquote(local: str) -> str:
    """What a local part says, without the quotes and backslashes of its writing. Raises BadRecipient where it is none."""
    # This keeps CR, LF and characters that turn text around out of every mail and page.
    if not (local.isascii() and local.isprintable() and " " not in local) and any(_is_unseen(c) for c in local):
        raise BadRecipient("This recipient address holds characters that cannot be seen.")
    if _DOT_ATOM.fullmatch(local):
        return local
    if not _QUOTED.fullmatch(local) or local == '""':
        raise BadRecipient("The part before @ of this address cannot be read; it looks like  jane.doe@example.org")
    return re.sub(r"\\(.)", r"\1", local[1:-1])


def quote(text: str) -> str:
    """A local part that says *text*, in its shortest writing (RFC 5321 4.1.2)."""
    if _DOT_ATOM.fullmatch(text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _is_unseen(character: str) -> bool:
    if character.isascii():
        return not " " <= character <= "~"
    return unicodedata.category(character) in _UNSEEN


def mailboxes(text: str) -> tuple[Mailbox, ...]:
    """The mailboxes of an address list (RFC 5322 3.4), groups taken apart; also separated by ";" as Outlook's users do.

    Raises nothing: an entry that cannot be read has the address "", and so has all that follows an unclosed quote or bracket.
    """
    found: list[Mailbox] = []
    for entry in _SEPARATOR.split(text):
        match = _SIMPLE.fullmatch(entry)
        if match is None:
            return tuple(_any_mailboxes(text))
        words, angle = match.groups()
        if angle is not None:
            found.append(Mailbox(" ".join(words.split()), angle.strip()))
        elif address := words.strip():
            found.append(Mailbox("", address))
    return tuple(found)


def _any_mailboxes(text: str) -> list[Mailbox]:
    found: list[Mailbox] = []
    entry: list[tuple[str, str]] = []
    for kind, value in _tokens(text):
        if kind == "group":
            entry.clear()  # what stood before is the group's name
        elif kind == "end":
            found.extend(_mailbox(entry))
            entry.clear()
        else:
            entry.append((kind, value))
    found.extend(_mailbox(entry))
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while match := _TOKEN.match(text, position):
        kind, value, position = match.lastgroup or "junk", match.group(), match.end()
        if kind == "comment":
            position = _comment_end(text, position)
            value = text[match.end() : position - 1]
            kind = "comment" if position > 0 else "junk"
        yield kind, value
        if kind == "junk":
            return  # never scanned again from inside, so the time stays linear


def _comment_end(text: str, start: int) -> int:
    """Where the comment that began before *start* is over (comments nest, RFC 5322 3.2.2); -1 if never."""
    depth = 1
    for match in re.compile(r"\\.|[()]", re.DOTALL).finditer(text, start):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0:
            return match.end()
    return -1


def _mailbox(entry: list[tuple[str, str]]) -> list[Mailbox]:
    kinds = [kind for kind, _ in entry]
    comments = " ".join(value for kind, value in entry if kind == "comment").strip()
    if "junk" in kinds or kinds.count("angle") > 1:
        return [Mailbox("", "")]
    if "angle" not in kinds:
        address = "".join(value for kind, value in entry if kind != "comment").strip()
        return [Mailbox(comments, address)] if address or comments else []
    at = kinds.index("angle")
    before = [_plain(kind, value) for kind, value in entry[:at] if kind != "comment"]
    after = "".join(value for kind, value in entry[at + 1 :] if kind != "comment").strip()
    address = "" if after else entry[at][1][1:-1].strip()
    return [Mailbox(" ".join("".join(before).split()) or comments, address)]


def _plain(kind: str, value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if kind == "quoted" else value
