"""Options of a letter: tags in addresses and subjects, and the lines at the top of the text.

One word means the same wherever it stands, whatever its case. A word that is not known is a problem and never a silent
default: the letter is held and the sender is asked. Not here: how the text is found in a mail (mime.py), recipients (address.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

UNKNOWN_TAG, UNAVAILABLE_TAG, LANGUAGE_CONFLICT, TOO_MANY_TAGS = (
    "unknown_tag",
    "unavailable_tag",
    "language_conflict",
    "too_many_tags",
)
KNOWN = frozenset({"code", "paper"})
"""Tags besides the languages. "code": identification by a mailed code, the default."""
MAX_TAGS = 20
MAX_TEXT = 64 * 1024
"""Characters of a letter's text that are searched for option lines."""
_MAX_LINE = 32 * 1024
_GROUP = re.compile(r"\[((?:[^\W_]|-)+)\]")
_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What str.splitlines ends a line at."""
_LINE = re.compile(r"([^\W\d_]{1,20})\s*:\s*(.*)")
_ROW = re.compile(f"([^{_ENDS}]*)(?:\r\n|[{_ENDS}]|$)")
_HIDDEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f"))
_KEYS = {
    **dict.fromkeys(("to", "à", "a", "an"), "to"),
    **dict.fromkeys(("post", "poste", "courrier"), "post"),
    **dict.fromkeys(("language", "langue", "sprache"), "language"),
}
_LANGUAGES = {
    **dict.fromkeys(("english", "anglais", "englisch"), "en"),
    **dict.fromkeys(("french", "français", "francais", "französisch"), "fr"),
    **dict.fromkeys(("german", "allemand", "deutsch"), "de"),
    **dict.fromkeys(("italian", "italien", "italiano", "italienisch"), "it"),
}


class Problem(NamedTuple):
    """Why a letter is held. code: a constant above; word: the sender's own word, at most 64 characters."""

    code: str
    word: str


class Line(NamedTuple):
    """One option line. key: to, post, language, or "" for a line of another name; word: that name as written."""

    key: str
    value: str
    word: str


def subject_tags(subject: str) -> list[str]:
    """The words that stand alone in square brackets: "[fr] [Paper] Notice" has "fr" and "paper"."""
    return [word.lower() for word in _GROUP.findall(subject)] if "[" in subject else []


def hide_tags(subject: str, languages: Collection[str]) -> str:
    """*subject* without its option groups. Groups that are no option stay: the sender may have meant them as words."""
    if "[" not in subject:
        return " ".join(subject.split())
    known = KNOWN | {language.lower() for language in languages}
    rest = _GROUP.sub(lambda group: " " if group[1].lower() in known else group[0], subject)
    return " ".join(rest.split())


def lines(text: str) -> list[Line]:
    """The option lines at the top of *text*: from its first line that is not blank to the next blank or ordinary one.

    A line that starts with blanks, or that follows one ending with a comma in a To line, continues the line before it.
    """
    found: list[Line] = []
    for raw in _rows(text[:MAX_TEXT]):
        line = raw if raw.isascii() else unicodedata.normalize("NFC", raw.translate(_HIDDEN))
        content = " ".join(line.split())[:_MAX_LINE]
        if not content:
            if found:
                break
            continue
        match = _LINE.fullmatch(content)
        last = found[-1] if found else None
        if last and not _known(match) and (line[0].isspace() or (last.key == "to" and last.value.endswith((",", ";")))):
            found[-1] = Line(last.key, f"{last.value} {content}"[:_MAX_LINE], last.word)
        elif match is None or not (_known(match) or found):
            break
        else:
            found.append(Line(_KEYS.get(match[1].lower(), ""), match[2], match[1]))
    return found


def _rows(text: str) -> Iterator[str]:
    """Like text.splitlines(), but line by line: of most texts the first one is enough."""
    position = 0
    while position < len(text) and (match := _ROW.match(text, position)):
        yield match[1]
        position = match.end()


def _known(match: re.Match[str] | None) -> bool:
    return match is not None and match[1].lower() in _KEYS


def language_tag(value: str) -> str:
    """The tag that the value of a Language line stands for: "Français" is "fr"; words that are not known stay as they are."""
    word = value.strip().lower()
    return _LANGUAGES.get(word, word)


def judge(
    words: Iterable[str], languages: Collection[str], unavailable: Collection[str]
) -> tuple[str | None, tuple[str, ...], tuple[Problem, ...]]:
    """(language, tags, problems): what *words* ask for, each word once, in their order. Not one word is passed over."""
    wanted = list(dict.fromkeys(word.lower() for word in words))
    if not wanted:
        return None, (), ()
    offered = {language.lower() for language in languages}
    tags, problems = [], []
    for word in wanted[:MAX_TAGS]:
        if word in unavailable:
            problems.append(Problem(UNAVAILABLE_TAG, word[:64]))
        elif word not in offered and word not in KNOWN:
            problems.append(Problem(UNKNOWN_TAG, word[:64]))
            continue
        tags.append(word)
    if len(wanted) > MAX_TAGS:
        problems.append(Problem(TOO_MANY_TAGS, wanted[MAX_TAGS][:64]))
    chosen = [tag for tag in tags if tag in offered]
    problems.extend(Problem(LANGUAGE_CONFLICT, language) for language in chosen[1:])
    return (chosen[0] if chosen else None), tuple(tags), tuple(problems)
