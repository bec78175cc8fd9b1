"""A mail's content as blocks, written out twice: as plain text that is complete by itself, and as sober HTML that says the same.

The HTML has inline styles alone: no remote content, no images, no script, no tracking. Not here: the words (texts/).
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH = 72
_FONT = "font-family:Arial,Helvetica,sans-serif"
_BODY = f"margin:0;padding:0;background:#ffffff;color:#1b1b1b;{_FONT};font-size:16px;line-height:1.5"
_PAGE = "max-width:36em;margin:0 auto;padding:20px 16px"
_H = "font-size:17px;line-height:1.3;margin:28px 0 8px;color:#1b1b1b"
_P = "margin:0 0 12px"
_SMALL = "margin:0 0 10px;font-size:14px;color:#4a4a4a"
_LABEL = "color:#4a4a4a;font-size:14px"
_VALUE = "margin:0 0 10px;word-break:break-word;overflow-wrap:anywhere"
_BOX = "border:1px solid #8a8a8a;padding:14px 16px 4px;margin:0 0 16px"
_LINK = "color:#0b4a8f;word-break:break-all"
_MONO = "font-family:Consolas,Menlo,'Courier New',monospace;font-size:17px;letter-spacing:0.03em"


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. small: matter at the foot; strong: the one thing to see first."""

    text: str
    small: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rows:
    """Labels and values, in a frame. typed: labels whose value is for typing or comparing letter by letter."""

    rows: Sequence[tuple[str, str]]
    typed: frozenset[str] = frozenset()
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """An address that is shown as it is and may be opened."""

    url: str


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """Six digits; the plain text has them on the line "Code: 123456" in every language (DESIGN.md 7)."""

    code: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The end of the message proper; what follows is the foot."""


Block = Heading | Text | Items | Rows | Link | OneTimeCode | Rule


def to_plain(blocks: Sequence[Block], colon: str) -> str:
    """colon: what stands between a label and its value in this language."""
    return "\n\n".join(_plain(block, colon) for block in blocks) + "\n"


def _plain(block: Block, colon: str) -> str:
    match block:
        case Heading(text):
            return f"{text}\n{'-' * min(len(text), _WIDTH)}"
        case Text(text):
            return _wrapped(text)
        case Items(items):
            return "\n".join(_wrapped(item, "- ", "  ") for item in items)
        case Rows(rows):
            return "\n".join(_row(label, colon, value) for label, value in rows)
        case Link(url):
            return url
        case OneTimeCode(code):
            return f"Code: {code}"
        case Rule():
            return "-" * 40


def _wrapped(text: str, first: str = "", later: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _row(label: str, colon: str, value: str) -> str:
    """A long value goes below its label, so that it can be copied as a whole."""
    line = f"{label}{colon}{value}"
    if len(line) <= _WIDTH:
        return line
    return f"{label}{colon.rstrip()}\n" + _wrapped(value, "  ", "  ")


def to_html(blocks: Sequence[Block], language: str, title: str) -> str:
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="{html.escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n</head>\n"
        f'<body style="{_BODY}">\n<div style="{_PAGE}">\n{body}\n</div>\n</body>\n</html>\n'
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f'<h2 style="{_H}">{html.escape(text)}</h2>'
        case Text(text, small, strong):
            inner = f"<strong>{html.escape(text)}</strong>" if strong else html.escape(text)
            return f'<p style="{_SMALL if small else _P}">{inner}</p>'
        case Items(items):
            inner = "\n".join(f'<li style="margin:0 0 8px">{html.escape(item)}</li>' for item in items)
            return f'<ul style="margin:0 0 12px;padding:0 0 0 22px">\n{inner}\n</ul>'
        case Rows():
            return _html_rows(block)
        case Link(url):
            shown = html.escape(url)
            return f'<p style="{_P}"><a style="{_LINK}"\nhref="{shown}">\n{shown}</a></p>'
        case OneTimeCode(code):
            return f'<p style="{_BOX};padding:14px 16px"><span style="{_MONO};font-size:26px">{html.escape(code)}</span></p>'
        case Rule():
            return '<hr style="border:0;border-top:1px solid #8a8a8a;margin:28px 0 16px">'


def _html_rows(block: Rows) -> str:
    lines = []
    for label, value in block.rows:
        style = f"{_VALUE};{_MONO}" if label in block.typed else _VALUE
        shown = f"<strong>{html.escape(value)}</strong>" if block.strong else html.escape(value)
        lines.append(f'<div style="{_LABEL}">{html.escape(label)}</div>\n<div style="{style}">{shown}</div>')
    return f'<div style="{_BOX}">\n' + "\n".join(lines) + "\n</div>"
