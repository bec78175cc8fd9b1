"""Domain names of mail addresses: one written form for each, the lower-case A-labels that the DNS knows.

IDNA 2008 without its tables of contextual rules: what those would refuse has no place in the DNS and fails there. The mapping
before it is the one of UTS 46, non-transitional: "ß" stays a letter of its own and never becomes "ss", because straße.example and
strasse.example may belong to two people. Not here: whether a domain exists (dispatch/route.py), local parts (mailbox.py).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from gateway.core.errors import BadRecipient

_DOTS = str.maketrans("。．｡", "...")  # UTS 46: full stops of East Asian keyboards
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")  # RFC 5321 4.1.2, sub-domain
_WRITTEN = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})  # RFC 5892 2.1, LetterDigits, after lower-casing
_MIDDLE_DOTS = frozenset("·・")  # RFC 5892 A.3, A.7


@lru_cache(1024)
def ascii_domain(domain: str) -> str:
    """The A-label form of *domain*, lower-case, without a final dot. Raises BadRecipient where it is no domain of a mailbox."""
    if domain.startswith("["):
        raise BadRecipient("Addresses with a number in brackets instead of a domain are not taken.")  # RFC 5321 4.1.3
    if len(domain) > 1000:
        raise BadRecipient("The domain of this address is too long (at most 255 characters).")
    labels = [_ascii_label(label) for label in _mapped(domain).split(".")]
    if len(labels) < 2 or labels[-1].isdigit():
        raise BadRecipient("The domain of this address is incomplete; it looks like  example.org")
    name = ".".join(labels)
    if len(name) > 253:  # RFC 1035 3.1: 255 octets in the DNS, which adds two
        raise BadRecipient("The domain of this address is too long (at most 255 characters).")
    return name


def _mapped(text: str) -> str:
    if text.isascii():
        return text.lower()
    for _ in range(3):  # lower-casing may undo a composition and the reverse; it settles at once in practice
        text = unicodedata.normalize("NFKC", text.translate(_DOTS).lower())
    return text


def _ascii_label(label: str) -> str:
    if label.isascii():
        if len(label) > 63 or not _LABEL.fullmatch(label):
            raise BadRecipient("The domain of this address cannot be read; it looks like  example.org")
        if label.startswith("xn--"):
            _check_punycode(label)
        return label
    if not _is_written(label):
        raise BadRecipient("The domain of this address holds a character that no domain may hold.")
    ascii_label = "xn--" + label.encode("punycode").decode("ascii")
    if len(ascii_label) > 63:
        raise BadRecipient("The domain of this address is too long (at most 63 characters between two dots).")
    return ascii_label


def _is_written(label: str) -> bool:
    """Whether a U-label is made of letters, marks and digits (RFC 5891 4.2.3), and short enough to be worth encoding."""
    if len(label) > 63 or label[0] == "-" or label[-1] == "-" or label[2:4] == "--":
        return False
    if unicodedata.category(label[0]).startswith("M"):
        return False
    return all(c == "-" or c in _MIDDLE_DOTS or unicodedata.category(c) in _WRITTEN for c in label)


def _check_punycode(label: str) -> None:
    """An A-label must be the A-label of something, or two spellings of one domain would be two domains (RFC 5891 5.4)."""
    try:
        written = label[4:].encode("ascii").decode("punycode")
        sound = not written.isascii() and _mapped(written) == written and _is_written(written)
        sound = sound and "xn--" + written.encode("punycode").decode("ascii") == label
    except (UnicodeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise BadRecipient(
            "The domain of this address starts with xn-- and is not the code of an international domain."
        )
