"""The text of an HTML mail, line by line as a reader sees it, for the option lines at its top.

A tokenizer of our own, because html.parser takes quadratic time on hostile input (a minute for 64 KiB of "<a "); this one is
linear. Not here: HTML that is shown to anybody (web/portal/ cleans the letter itself with a library made for that).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_TAG = re.compile(r"</?([A-Za-z][^\s/>]*)")
_INSIDE = re.compile(r"""(?:[^>"']|"[^"]*"|'[^']*')*>""")
_BLOCK = re.compile(
    r"address|article|aside|blockquote|body|center|dd|div|dl|dt|fieldset|footer|form|h[1-6r]|header|html|li|main|nav|ol|p|pre"
    r"|section|table|td|th|tr|ul"
)
_UNSHOWN = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("noscript", "script", "style", "title")}
"""Elements whose content is not shown, and where each ends."""
_BLANK = re.compile(r"[ \t\r\n\f]+")


def to_text(source: str) -> str:
    """The lines of *source*. A blank line is one that the mail shows as blank, such as an empty paragraph."""
    lines: list[str] = []
    current: list[str] = []
    preformatted = False
    for tag, value in _tokens(source):
        name = tag.lstrip("/")
        if tag == "" and preformatted:
            *whole, last = value.replace("\r\n", "\n").split("\n")
            for line in whole:
                _end_line(lines, [*current, line])
                current.clear()
            current.append(last)
        elif tag == "" or "@" in name:  # <jane.doe@example.org>, typed into a field that takes HTML, is no tag
            current.append(value)
        elif name == "br":
            _end_line(lines, current)
            current.clear()
        elif _BLOCK.fullmatch(name):
            _end_block(lines, current)
            current.clear()
            preformatted = tag == "pre" or (preformatted and tag != "/pre")
    _end_block(lines, current)
    return "\n".join(lines)


def _end_line(lines: list[str], current: list[str]) -> None:
    lines.append(_BLANK.sub(" ", "".join(current)).strip(" "))


def _end_block(lines: list[str], current: list[str]) -> None:
    """A block's edge ends a line that holds something, be it only a no-break space; between two edges there is no line."""
    if "".join(current).strip(" \t\r\n\f"):
        _end_line(lines, current)


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    """("", text) and ("name" or "/name", the tag as written), in order."""
    position, tidy = 0, True
    while (start := source.find("<", position)) >= 0:
        if start > position:
            yield "", _unescaped(source[position:start])
        tag = _TAG.match(source, start)
        if source.startswith("<!--", start):
            position = _past(source, "-->", start + 4)
        elif tag is None and source[start + 1 : start + 2] not in ("!", "?", "/"):
            yield "", "<"
            position = start + 1
        else:
            # Once quotes have not matched, the rest is read without them: looking again from each tag would be quadratic.
            inside = _INSIDE.match(source, tag.end()) if tag and tidy else None
            tidy = tidy and (tag is None or inside is not None)
            position = inside.end() if inside else _past(source, ">", start)
            if tag:
                name = ("/" if source[start + 1] == "/" else "") + tag[1].lower()
                yield name, source[start:position]
                position = _past_unshown(source, name, position)
    if position < len(source):
        yield "", _unescaped(source[position:])


def _past(source: str, end: str, start: int) -> int:
    found = source.find(end, start)
    return len(source) if found < 0 else found + len(end)


def _past_unshown(source: str, name: str, start: int) -> int:
    if name not in _UNSHOWN:
        return start
    found = _UNSHOWN[name].search(source, start)
    return found.start() if found else len(source)


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number of thousands of digits
        return text
