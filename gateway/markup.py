"""HTML that strangers wrote, made harmless: a fragment for a sandboxed frame, or plain text.

Nothing that is shown fetches anything: remote images and styles are dropped, images of the mail itself become data: addresses.
Not here: which part of a mail is shown (contents.py), the frame's own walls (web/).
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import nh3

MOST_HTML = 1_000_000
_MOST_ELEMENTS = 10_000
"""The parser's time grows with the square of the depth: 200,000 nested elements take it minutes."""
_MOST_DEPTH = 2_000
_MOST_DATA = 4_000_000


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_TAGS = _set(
    "a abbr address article b bdi bdo big blockquote br caption center cite code col colgroup dd del details dfn div dl dt em"
    " figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark ol p pre q rp rt ruby s samp section"
    " small span strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr"
)
_HIDDEN = _set("script style title head noscript template iframe object embed svg math textarea select")
_SIZES = frozenset({"align", "valign", "width", "height", "bgcolor", "dir", "lang", "style", "title"})
_ATTRIBUTES: dict[str, set[str]] = {
    "*": set(_SIZES),
    "a": {"href"},
    "img": {"src", "alt"},
    "table": {"border", "cellpadding", "cellspacing", "summary"},
    "td": {"colspan", "rowspan", "nowrap"},
    "th": {"colspan", "rowspan", "nowrap", "scope"},
    "col": {"span"},
    "colgroup": {"span"},
    "font": {"color", "face", "size"},
    "ol": {"start", "type"},
    "li": {"value"},
    "bdo": {"dir"},
}
_STYLES = _set(
    "color background-color font-family font-size font-style font-weight font-variant letter-spacing line-height text-align"
    " text-decoration text-indent text-transform vertical-align white-space width max-width height padding padding-top"
    " padding-right padding-bottom padding-left margin margin-top margin-right margin-bottom margin-left border border-top"
    " border-right border-bottom border-left border-collapse border-color border-spacing border-style border-width"
    " list-style-type direction"
)
_FETCHING = re.compile(r"[\\@]|url|image|expression|src|var\s*\(", re.IGNORECASE)
_DATA_IMAGE = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
_REMOTE = re.compile(
    r"""(?:src|srcset|background|poster|data)\s{0,9}=\s{0,9}["']?\s{0,9}(?:https?:)?//|url\(\s{0,9}["']?\s{0,9}(?:https?:)?//"""
    r"""|<link\s|@import""",
    re.IGNORECASE,
)
_OPENS = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,30})")
_SELF_CLOSING = _set("br img hr input meta link p li td th tr dt dd option col area base wbr source param")
_BREAK = re.compile(r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6]|/?table|/?blockquote|/?ul|/?ol|hr)\b", re.IGNORECASE)
_CELL = re.compile(r"</t[dh]\b", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_LINK = re.compile(r"https?://[^\s<>\"'()\[\]{}|\\^`]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Harmless:
    """html: a fragment, or None where it is too involved to be shown. blocked: something remote was left out."""

    html: str | None
    blocked: bool


def harmless(source: str, images: Mapping[str, str]) -> Harmless:
    """A fragment that may be shown in a sandboxed frame. images: data: address by Content-ID. Never raises for any text."""
    blocked = _REMOTE.search(source) is not None
    if len(source) > MOST_HTML or _involved(source):
        return Harmless(None, blocked)
    clean = nh3.clean(
        source,
        tags=set(_TAGS),
        clean_content_tags=set(_HIDDEN),
        attributes=_ATTRIBUTES,
        attribute_filter=_filter(images),
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        url_relative="deny",
        filter_style_properties=set(_STYLES),
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer nofollow",
    )
    return Harmless(clean, blocked)


def as_text(source: str) -> str:
    """The words of an HTML text, with line breaks where blocks end. Never raises for any text."""
    source = re.sub(r"[ \t\r\n\f]+", " ", source[:MOST_HTML])
    source = _CELL.sub(lambda found: " " + found[0], _BREAK.sub(lambda found: "\n" + found[0], source))
    if _involved(source):
        bare = _TAG.sub("", source)
    else:
        bare = nh3.clean(source, tags=set(), clean_content_tags=set(_HIDDEN) - {"head"}, attributes={})
    lines = [" ".join(line.split(" ")).strip() for line in html.unescape(bare).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def linked(text: str) -> list[tuple[str, str | None]]:
    """Plain text in pieces: (words, None), or (words, address) where they are a web address to follow."""
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for found in _LINK.finditer(text):
        address = found[0].rstrip(".,;:!?*_")
        pieces += [(text[end : found.start()], None), (address, address)]
        end = found.start() + len(address)
        if len(pieces) > 2000:
            break
    return [piece for piece in [*pieces, (text[end:], None)] if piece[0]]


def _filter(images: Mapping[str, str]) -> Callable[[str, str, str], str | None]:
    room = _MOST_DATA

    def allowed(tag: str, name: str, value: str) -> str | None:
        nonlocal room
        if name == "style":
            return None if _FETCHING.search(value) else value
        if tag == "img" and name == "src":
            value = value.strip()
            shown = images.get(value[4:].strip("<> ")) if value[:4].lower() == "cid:" else value
            if shown is None or len(shown) > room or not _DATA_IMAGE.fullmatch(shown):
                return None
            room -= len(shown)
            return shown
        if name == "href":
            return value if re.match(r"(?:https?|mailto|tel):", value.strip(), re.IGNORECASE) else None
        return value

    return allowed


def _involved(source: str) -> bool:
    """More elements, or deeper ones, than the parser takes in a moment."""
    standing: Counter[str] = Counter()
    depth = total = 0
    for found in _OPENS.finditer(source):
        name = found[2].lower()
        if name in _SELF_CLOSING:
            continue
        if not found[1]:
            total, depth = total + 1, depth + 1
            standing[name] += 1
        elif standing[name]:
            standing[name] -= 1
            depth -= 1
        if total > _MOST_ELEMENTS or depth > _MOST_DEPTH:
            return True
    return False
