"""What the addresses of a mail mean to this gateway: who gets a letter, with which options, and who sees whom (DESIGN.md 4).

Three gestures: the recipient inside the address, `To:` lines to the dedicated address, the dedicated address as a copy.
Not here: how an address is written (mailbox.py), the words of options (options.py), how a mail is read (gateway/mime.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from gateway.core import options
from gateway.core.domain import ascii_domain
from gateway.core.errors import BadRecipient, NoRecipient, Stranger
from gateway.core.mailbox import Mailbox, check_address, comparison_form, mailboxes, quote, split, unquote
from gateway.core.mime_fields import clean
from gateway.core.options import Problem

__all__ = [
    "Addressee",
    "Dedicated",
    "Encoded",
    "Head",
    "Mailbox",
    "Problem",
    "Understood",
    "check_address",
    "comparison_form",
    "read_rcpt",
    "split",
    "understand",
]

ENCODED, LINES, COPY = "encoded", "lines", "copy"
MAX_BY_LINES = 100
"""Recipients that the lines of one mail may name; those in RCPT are counted by the session (RFC 5321 4.5.3.1.8)."""
_MAX_ENCODED = 512
_TAG = re.compile(r"(?:[^\W_]|-){1,64}")
_MAX_NAME, _MAX_POST = 200, 500


class Encoded(NamedTuple):
    """An address with its recipient inside. recipient: as check_address writes it; tags: in lower case, unchecked."""

    recipient: str
    tags: tuple[str, ...]


class Dedicated(NamedTuple):
    """The dedicated address. tags: in lower case, unchecked."""

    tags: tuple[str, ...]


class Head(NamedTuple):
    """What the beginning of a mail says.

    message_id: with its angle brackets, or None. subject: decoded, one line. from_, to, cc: names decoded. text: the beginning
    of its text, for option lines. counts: how often each header occurs, by lower-case name. complete: whether the header
    section ended within what was read.
    """

    message_id: str | None = None
    subject: str = ""
    from_: tuple[Mailbox, ...] = ()
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    text: str = ""
    counts: Mapping[str, int] = MappingProxyType({})
    complete: bool = True


class Addressee(NamedTuple):
    """One recipient. name: "" if the mail gives none. post: the postal address as one line, or "". visible: to the others."""

    name: str
    address: str
    post: str
    visible: bool


class Understood(NamedTuple):
    """What a mail asks for. subject: without its tags. problems: why its letters are held, none if all is clear."""

    recipients: tuple[Addressee, ...]
    gesture: str
    language: str | None
    tags: tuple[str, ...]
    subject: str
    problems: tuple[Problem, ...]


def read_rcpt(address: str, letters_domain: str, dedicated_address: str) -> Encoded | Dedicated | None:
    """What *address* is: one with a recipient inside, the dedicated one, or None for any other. Raises BadRecipient."""
    local, domain = split(address)
    domain = ascii_domain(domain)
    if domain != letters_domain and domain != split(dedicated_address)[1]:
        return None
    if len(local) > _MAX_ENCODED:
        raise BadRecipient("The part before @ of this address is too long.")
    return _read_ours(local, domain, letters_domain, dedicated_address)


@lru_cache(4096)  # the same recipient is looked at several times a mail
def _read_ours(local: str, domain: str, letters_domain: str, dedicated_address: str) -> Encoded | Dedicated | None:
    own_local, own_domain = split(dedicated_address)
    text = unquote(local)
    # Before the tags: no tag holds "=", a recipient's own part may hold "+".
    if domain == letters_domain and "=" in text:
        return _read_encoded(text, letters_domain, own_local, own_domain)
    name, *tags = text.split("+")
    if domain != own_domain or name.lower() != own_local.lower():
        return None
    return Dedicated(_read_tags(tags, f"{own_local}+fr@{own_domain}"))


def _read_encoded(text: str, letters_domain: str, own_local: str, own_domain: str) -> Encoded:
    """jane.doe+lists=example.org+fr: the last "=" ends the recipient's local part, pluses after it begin tags."""
    inner, _, rest = text.rpartition("=")
    domain, *tags = rest.split("+")
    if not inner or not domain:
        raise BadRecipient(f"No recipient inside this address; it looks like  jane.doe=example.org@{letters_domain}")
    # Who copied a quoted local part with its quotes means the quoted one, not one that holds quotes.
    recipient = check_address(f"{inner if inner.startswith(chr(34)) else quote(inner)}@{domain}")
    _check_elsewhere(recipient, letters_domain, f"{own_local}@{own_domain}")
    return Encoded(recipient, _read_tags(tags, f"jane.doe=example.org+fr@{letters_domain}"))


def _check_elsewhere(recipient: str, letters_domain: str, dedicated_address: str) -> None:
    """A recipient has a mailbox of his own: letters to this gateway would be notices to itself."""
    if split(recipient)[1] in (letters_domain, split(dedicated_address)[1]):
        raise BadRecipient(f"{recipient[:80]} is an address of this gateway and cannot be a recipient.")


def _read_tags(tags: Iterable[str], example: str) -> tuple[str, ...]:
    found = tuple(tag.lower() for tag in tags if tag)
    for tag in found:
        if not _TAG.fullmatch(tag):
            raise BadRecipient(f"The options after + in this address cannot be read; they look like  {example}")
    return found


def understand(
    rcpts: Sequence[str],
    letters_domain: str,
    dedicated_address: str,
    head: Head,
    languages: Collection[str],
    unavailable: Collection[str],
) -> Understood:
    """Who gets a letter of the mail with *head* that was sent to *rcpts*, and with which options.

    Raises BadRecipient for an address that cannot be a recipient, NoRecipient where none is named, Stranger where nothing makes
    this mail a letter.
    """
    found = [(rcpt, read_rcpt(rcpt, letters_domain, dedicated_address)) for rcpt in rcpts]
    others = [(rcpt, read) for rcpt, read in found if not isinstance(read, Dedicated)]
    dedicated = len(others) < len(found)
    if not dedicated and any(read is None for _, read in others):
        raise Stranger(f"Add {dedicated_address} to the recipients to make this mail a letter.")
    gesture = ENCODED if not dedicated else COPY if others else LINES
    crowd = _Crowd(letters_domain, dedicated_address)
    for rcpt, read in others:
        crowd.add(Mailbox("", read.recipient if isinstance(read, Encoded) else rcpt), visible=False)
    lines = options.lines(head.text)
    if others and not any(_is_option(line) for line in lines):
        lines = []  # "To: the tenants of this house" is how the letter itself begins
    words = [tag for _, read in found if read is not None for tag in read.tags]
    words += options.subject_tags(head.subject)
    words += crowd.read_lines(lines)
    for mailbox in (*head.to, *head.cc):
        crowd.show(mailbox)
    if not crowd.members:
        raise NoRecipient
    language, tags, problems = options.judge(words, languages, unavailable)
    problems += tuple(Problem(options.UNKNOWN_TAG, clean(f"{line.word}:", 64)) for line in lines if _is_unknown(line))
    subject = options.hide_tags(head.subject, languages)
    return Understood(tuple(crowd.members.values()), gesture, language, tags, subject, problems)


def _is_option(line: options.Line) -> bool:
    return line.key in ("post", "language") or (line.key == "to" and "@" in line.value)


def _is_unknown(line: options.Line) -> bool:
    """A line of an unknown name, or a known one without its value: asked for, and not understood."""
    return line.key == "" or (line.key != "to" and not line.value)


class _Crowd:
    """The recipients of one mail while it is read. members: by comparison form, in the order they were named."""

    def __init__(self, letters_domain: str, dedicated_address: str) -> None:
        self._letters_domain = letters_domain
        self._dedicated_address = dedicated_address
        self.members: dict[str, Addressee] = {}

    def add(self, mailbox: Mailbox, *, visible: bool) -> str:
        """Add a recipient, or what is new about him; returns his comparison form. Raises BadRecipient."""
        address = check_address(mailbox.address)
        _check_elsewhere(address, self._letters_domain, self._dedicated_address)
        form, name = comparison_form(address), _name(mailbox)
        member = self.members.get(form)
        if member is None:
            self.members[form] = Addressee(name, address, "", visible)
        else:
            self.members[form] = member._replace(name=member.name or name, visible=member.visible or visible)
        return form

    def show(self, mailbox: Mailbox) -> None:
        """A mailbox of To or Cc: its recipient, if he is one, is visible to the others, under that name."""
        try:
            read = read_rcpt(mailbox.address, self._letters_domain, self._dedicated_address)
            form = comparison_form(read.recipient if isinstance(read, Encoded) else mailbox.address)
        except BadRecipient:
            return  # what is only shown need not be an address
        if member := self.members.get(form):
            self.members[form] = member._replace(name=member.name or _name(mailbox), visible=True)

    def read_lines(self, lines: Sequence[options.Line]) -> list[str]:
        """Add the recipients of To lines, attach the Post lines; returns the words that ask for options."""
        words: list[str] = []
        named: set[str] = set()
        addressed: list[str] | None = None
        posts: list[tuple[list[str] | None, str]] = []
        for line in lines:
            if line.key == "to":
                addressed = []
                for mailbox, tags in self._named(line):
                    addressed.append(self.add(mailbox, visible=True))
                    words += tags
                named.update(addressed)
                if len(named) > MAX_BY_LINES:
                    raise BadRecipient(f"The lines at the top name too many recipients (at most {MAX_BY_LINES}).")
            elif line.key == "post":
                posts.append((addressed, line.value))
            elif line.key == "language" and line.value:
                words.append(options.language_tag(line.value))
        for whose, post in posts:
            self._attach(whose, post)
        return words

    def _named(self, line: options.Line) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """The mailboxes of a To line, those with a recipient inside opened."""
        entries = mailboxes(line.value)
        if not entries:
            raise BadRecipient("A line To: at the top of the text names nobody.")
        for entry in entries:
            try:
                read = read_rcpt(entry.address, self._letters_domain, self._dedicated_address)
                address = read.recipient if isinstance(read, Encoded) else check_address(entry.address)
            except BadRecipient as error:
                raise BadRecipient(
                    f"The line To: {clean(line.value, 80)} at the top cannot be read: {error}"
                ) from error
            yield Mailbox(entry.name, address), read.tags if read is not None else ()

    def _attach(self, whose: list[str] | None, post: str) -> None:
        """A Post line belongs to the To line before it, else to everybody; several lines make one address."""
        for form in self.members if whose is None else dict.fromkeys(whose):
            member = self.members[form]
            joined = ", ".join(part for part in (member.post, clean(post.strip(" ,"), _MAX_POST)) if part)
            self.members[form] = member._replace(post=joined[:_MAX_POST])


def _name(mailbox: Mailbox) -> str:
    """The name that a mail shows for *mailbox*; an address repeated as its own name is none."""
    if not mailbox.name:
        return ""
    name = clean(mailbox.name, _MAX_NAME).strip("'\"")
    return "" if "@" in name and " " not in name else name
