"""What a letter holds, for showing it to its recipient: text, HTML, attachments. Any bytes can be read; none of them raises.

MIME is split by offsets (RFC 2046 5.1), so that parts are cut out of the letter unchanged, and so that depth and number have a
limit: the standard library's parser recurses, builds an object for each of a million empty parts, and reads one parameter in
quadratic time. Header fields are read by core/mime_fields.py.
Not here: what an intake must know of a mail (mime.py), making HTML harmless (markup.py), pages (web/). Blocking.
"""

from __future__ import annotations

import base64
import binascii
import io
import mimetypes
import quopri
import re
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import charset_normalizer

from gateway.core.mime_fields import decode_charset, decode_field, header_fields, parameters, text_parameter
from gateway.markup import MOST_HTML, as_text, harmless

_MOST_PARTS = 500
_MOST_DEPTH = 20
_MOST_HEAD, _MOST_PART_HEAD = 256 * 1024, 32 * 1024
"""Octets; the letter's own may be as long as the intake takes them."""
_MOST_TEXT = 1_000_000
_MOST_IMAGE = 2_000_000
_SHOWN_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_KNOWN_TYPES = re.compile(
    r"image/(?:png|jpeg|gif|webp|tiff|heic)|audio/[\w.+-]+|video/[\w.+-]+|text/(?:plain|csv|calendar)|message/rfc822"
    r"|application/(?:pdf|zip|msword|rtf|json|vnd\.[\w.+-]+|pkcs7-signature|x-pkcs7-signature|pgp-signature)"
)
"""Types that a browser saves under their own name; everything else is handed out as bytes without a meaning."""
_READ = frozenset({"content-type", "content-disposition", "content-transfer-encoding", "content-id"})
_TYPE = re.compile(r"[!-.0-~]+/[!-.0-~]+")
_SAMPLE, _MOST_GUESSES = 2048, 4
"""Octets from which a charset is guessed, which takes milliseconds; and how many parts it is guessed for."""
_END_OF_HEAD = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_HIGH = re.compile(rb"[\x80-\xff]")
_UNFIT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)  # device names on Windows


@dataclass(frozen=True, slots=True)
class Attachment:
    """n: its number in the letter, from 1. name: safe to save under. size: in bytes, decoded."""

    n: int
    name: str
    type: str
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """A letter as it can be shown.

    text: plain words. html: a harmless fragment, or None. plain: the text is the sender's own, not made from his HTML.
    blocked: remote content was left out. whole: False where the letter is longer or more involved than what is shown.
    """

    text: str
    html: str | None
    plain: bool
    blocked: bool
    attachments: tuple[Attachment, ...]
    whole: bool


Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Part:
    head: Fields
    start: int  # of the body
    end: int
    type: str
    within: tuple[str, ...]  # types of the multiparts around it
    first: bool  # of its multipart


def read(raw: bytes) -> Contents:
    """Read a whole letter for display."""
    parts, whole = _leaves(raw)
    shown, attached = _sorted(parts)
    texts, pages = _bodies(raw, shown)
    source = "\n<hr>\n".join(pages)
    made = harmless(source, _images(raw, parts)) if pages else None
    text = "\n\n".join(texts) if texts else as_text(source)
    whole = whole and len(text) <= _MOST_TEXT and len(source) <= MOST_HTML
    return Contents(
        text=text[:_MOST_TEXT],
        html=made.html if made else None,
        plain=bool(texts),
        blocked=made.blocked if made else False,
        attachments=tuple(_attachment(raw, part, n) for n, part in enumerate(attached, 1)),
        whole=whole,
    )


def attachment(raw: bytes, n: int) -> tuple[Attachment, bytes] | None:
    """Attachment number *n* and its bytes, or None where there is none."""
    attached = _sorted(_leaves(raw)[0])[1]
    if not 1 <= n <= len(attached):
        return None
    part = attached[n - 1]
    return _attachment(raw, part, n), _body(raw, part)


def archive(raw: bytes, at: datetime) -> bytes:
    """A ZIP of the letter as it was deposited (letter.eml) and of its attachments. at: the time its entries bear."""
    out = io.BytesIO()
    moment = at.timetuple()[:6] if at.year >= 1980 else (1980, 1, 1, 0, 0, 0)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        entries = [("letter.eml", raw)]
        for n, part in enumerate(_sorted(_leaves(raw)[0])[1], 1):
            entries.append((f"attachments/{n:02} {_name(part, n)}", _body(raw, part)))
        for name, data in entries:
            info = zipfile.ZipInfo(name, moment)
            info.external_attr, info.compress_type = 0o600 << 16, zipfile.ZIP_DEFLATED
            made.writestr(info, data)
    return out.getvalue()


# -- splitting --------------------------------------------------------------------------------------------------------


def _leaves(raw: bytes) -> tuple[list[_Part], bool]:
    """All parts that hold no other, in order; and whether that is all of them."""
    found: list[_Part] = []
    waiting: list[tuple[int, int, tuple[str, ...], bool]] = [(0, len(raw), (), True)]
    seen, whole = 0, True
    while waiting:
        start, end, within, first = waiting.pop()
        seen += 1
        if seen > _MOST_PARTS:
            return found, False
        head, body = _head(raw, start, end)
        kind = _type(head, within)
        pieces: list[tuple[int, int]] = []
        if kind.startswith("multipart/"):
            if len(within) < _MOST_DEPTH:
                pieces, complete = _pieces(raw, body, end, head)
                whole = whole and complete
            else:
                whole = False
        if pieces:
            around = (*within, kind)
            waiting += [(a, b, around, i == 0) for i, (a, b) in reversed(list(enumerate(pieces)))]
        else:
            found.append(_Part(head, body, end, "text/plain" if kind.startswith("multipart/") else kind, within, first))
    return found, whole


def _head(raw: bytes, start: int, end: int) -> tuple[Fields, int]:
    """The header fields of the part at *start*, and where its body begins."""
    limit = min(end, start + (_MOST_PART_HEAD if start else _MOST_HEAD))
    if raw[start : start + 1] in (b"\n", b"\r"):  # no header at all
        return {}, min(end, start + (2 if raw[start : start + 2] == b"\r\n" else 1))
    blank = _END_OF_HEAD.search(raw, start, limit)
    fields = header_fields(raw[start : blank.start() if blank else limit], _READ)
    return {name: decode_field(value) for name, value in fields.items()}, blank.end() if blank else limit


def _pieces(raw: bytes, start: int, end: int, head: Fields) -> tuple[list[tuple[int, int]], bool]:
    """Where the parts of a multipart lie (RFC 2046 5.1.1); False where there are more than we take."""
    boundary = parameters(head.get("content-type", ""))[1].get("boundary", "").rstrip().encode("utf-8", "replace")
    if not boundary:
        return [], True
    line = re.compile(rb"(?:\A|\r\n|\n|\r)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r|\n|\Z)")
    pieces: list[tuple[int, int]] = []
    begun: int | None = None
    # One octet more at the front: the delimiter's line break may be the one that ends the head.
    for found in line.finditer(raw, max(0, start - 1), end):
        if begun is not None:
            pieces.append((begun, max(begun, found.start())))
        if found[1]:
            return pieces, True
        after = found.end()
        begun = min(end, after + (2 if raw[after : after + 2] == b"\r\n" else 1))
        if len(pieces) >= _MOST_PARTS:
            return pieces, False
    if begun is not None:
        pieces.append((begun, end))
    return pieces, True


def _type(head: Fields, within: tuple[str, ...]) -> str:
    if "content-type" not in head:
        return (
            "message/rfc822" if within[-1:] == ("multipart/digest",) else "text/plain"
        )  # RFC 2046 5.1.5, RFC 2045 5.2
    kind = parameters(head["content-type"])[0]
    return kind if _TYPE.fullmatch(kind) else "text/plain"


# -- choosing ---------------------------------------------------------------------------------------------------------


def _sorted(parts: list[_Part]) -> tuple[list[_Part], list[_Part]]:
    """What is shown as the letter's text, and what is attached to it."""
    shown: list[_Part] = []
    attached: list[_Part] = []
    for part in parts:
        if _is_text(part):
            shown.append(part)
        elif not _is_decoration(part):
            attached.append(part)
    return shown, attached


def _is_text(part: _Part) -> bool:
    if part.type not in ("text/plain", "text/html"):
        return False
    if parameters(part.head.get("content-disposition", ""))[0] == "attachment":
        return False
    named = bool(_filename(part))
    beside = bool(part.within) and part.within[-1] in ("multipart/mixed", "multipart/report")
    return not (named and beside and not part.first)


def _is_decoration(part: _Part) -> bool:
    """A picture inside the HTML and no file of its own (RFC 2387)."""
    related = "multipart/related" in part.within[-1:]
    return related and part.type in _SHOWN_IMAGES and "content-id" in part.head and not _filename(part)


def _bodies(raw: bytes, shown: list[_Part]) -> tuple[list[str], list[str]]:
    """The texts and the HTML pages among the parts to be shown."""
    texts: list[str] = []
    pages: list[str] = []
    for number, part in enumerate(shown):
        if sum(map(len, texts)) > _MOST_TEXT or sum(map(len, pages)) > MOST_HTML:
            break  # what follows is beyond what is shown
        words = _decoded(_body(raw, part, 4 * _MOST_TEXT), part.head, guess=number < _MOST_GUESSES)
        if part.type == "text/html":
            pages.append(words)
        else:
            texts.append(_printable(words).strip("\n"))
    return [text for text in texts if text.strip()], pages


def _images(raw: bytes, parts: list[_Part]) -> dict[str, str]:
    """data: addresses of the letter's own images, by Content-ID (RFC 2392)."""
    images: dict[str, str] = {}
    for part in parts:
        name = part.head.get("content-id", "").strip().strip("<>")
        if name and part.type in _SHOWN_IMAGES and part.end - part.start <= 2 * _MOST_IMAGE and len(images) < 50:
            data = _body(raw, part)
            if len(data) <= _MOST_IMAGE:
                images[name] = f"data:{part.type};base64,{base64.b64encode(data).decode()}"
    return images


# -- decoding ---------------------------------------------------------------------------------------------------------


def _body(raw: bytes, part: _Part, most: int | None = None) -> bytes:
    """A part's bytes, its transfer encoding undone (RFC 2045 6); what cannot be undone stays as it is. most: octets read."""
    data = raw[part.start : part.end if most is None else min(part.end, part.start + most)]
    encoding = parameters(part.head.get("content-transfer-encoding", ""))[0]
    try:
        if encoding == "base64":
            kept = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
            return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4) if len(kept) % 4 != 1 else kept[:-1])
        if encoding == "quoted-printable":
            return quopri.decodestring(data)
    except (binascii.Error, ValueError):
        pass
    return data


def _decoded(data: bytes, head: Fields, *, guess: bool) -> str:
    """Text in its declared charset, else UTF-8, else the likeliest one."""
    charset = text_parameter(head.get("content-type", ""), "charset")
    for name in (charset, "utf-8"):
        if name and (text := decode_charset(data, name)) is not None:
            return text
    high = _HIGH.search(data)
    start = max(0, high.start() - _SAMPLE // 4) if high else 0
    best = charset_normalizer.from_bytes(data[start : start + _SAMPLE]).best() if guess else None
    return data.decode(best.encoding if best else "latin-1", "replace")


def _printable(text: str) -> str:
    """Line ends as \\n, and no control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


# -- names ------------------------------------------------------------------------------------------------------------


def _attachment(raw: bytes, part: _Part, n: int) -> Attachment:
    kind = part.type if _KNOWN_TYPES.fullmatch(part.type) else "application/octet-stream"
    return Attachment(n, _name(part, n), kind, len(_body(raw, part)))


def _filename(part: _Part) -> str:
    """RFC 2183 2.3; the older place (RFC 2045) where it is not."""
    name = text_parameter(part.head.get("content-disposition", ""), "filename")
    return name or text_parameter(part.head.get("content-type", ""), "name")


def _name(part: _Part, n: int) -> str:
    """A name that is safe to save under on any system, and that shows what it is."""
    name = _filename(part).encode("utf-8", "replace").decode()
    # Cf also holds the characters that turn the direction of writing, which make exe.fdp look like pdf.exe.
    name = "".join(
        c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs")
    )
    name = _UNFIT_IN_NAMES.sub("_", name.replace("\\", "/").rsplit("/", 1)[-1])
    name = re.sub(r"\s+", " ", name).strip(" .")
    if not name or _RESERVED.fullmatch(name):
        ending = ".eml" if part.type == "message/rfc822" else mimetypes.guess_extension(part.type) or ".bin"
        name = f"part-{n}{ending}"
    if len(name) > 100:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem[:80]}.{ending}" if dot and len(ending) <= 10 else name[:100]
    return name
