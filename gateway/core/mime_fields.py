"""Header fields of MIME: encoded words (RFC 2047), parameters (RFC 2045, RFC 2231), and text that is safe to keep and show.

Everything here takes any text and raises nothing, in linear time. Not here: addresses (mailbox.py), bodies (gateway/mime.py).
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote_to_bytes

_WORD = re.compile(r"=\?([A-Za-z0-9._:+-]{1,40})(?:\*[A-Za-z0-9-]{0,40})?\?([BbQq])\?([^?\s]{0,4096})\?=")
_PARAMETER = re.compile(r';\s*([^\s=;"]{1,64})\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_JOINERS = frozenset("\u200c\u200d")  # Persian, Indic scripts and emoji need them
_MAX_FIELD, _MAX_STRUCTURED = 16 * 1024, 4 * 1024

_CODEC = re.compile(r"[a-z0-9][a-z0-9._:-]{0,39}")
_CODECS = {  # names that mails use for more than they say, as browsers read them (WHATWG Encoding 4.2)
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "latin1", "latin-1", "ansi"), "cp1252"),
    **dict.fromkeys(("iso-8859-9", "latin5"), "cp1254"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk"), "gb18030"),
    **dict.fromkeys(("ks_c_5601-1987", "ksc5601", "euc-kr"), "cp949"),
    **dict.fromkeys(("shift_jis", "shift-jis", "x-sjis"), "cp932"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e"), "iso-8859-8"),
    **dict.fromkeys(("utf8mb4", "unicode-1-1-utf-8", "utf-8"), "utf-8"),
    "windows-874": "cp874",
    "us-ascii": "us-ascii",
}
_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf_7"})
"""Codecs of Python that are no charset of a mail, or whose time is not linear."""
_CUT_OFF = frozenset({"unexpected end of data", "incomplete multibyte sequence"})


def decode_charset(data: bytes, charset: str) -> str | None:
    """*data* read as *charset*; None where there is no such charset or the bytes are not of it.

    A last character that is cut in two is dropped if there is a whole one before it: only the beginning of a mail may be known.
    """
    name = charset.strip().strip("'\"").lower()
    codec = _CODECS.get(name)
    if codec is None:
        codec = name
        if not _CODEC.fullmatch(codec) or codec.replace("-", "_") in _NO_CHARSETS:
            return None
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        whole = data[: error.start]
        return whole.decode(codec) if error.reason in _CUT_OFF and not whole.isascii() else None
    except (LookupError, ValueError):
        return None


def decode_field(raw: bytes) -> str:
    """The text of a raw header field: UTF-8 (RFC 6532) or, where it is not, what old programs write."""
    for codec in ("utf-8", "cp1252"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def decode_words(text: str) -> str:
    """*text* with its encoded words decoded, also inside quotes, where many clients put them; broken ones stay as they are.

    To be used on display names and subjects alone, after addresses were found: what a word says is never an address.
    """
    if "=?" not in text:
        return text
    parts: list[str] = []
    end, pending, charset = 0, b"", ""
    for word in _WORD.finditer(text[:_MAX_FIELD]):
        between = text[end : word.start()]
        data = _payload(word[2], word[3])
        # A character may be cut in two by the end of a word (RFC 2047 5 forbids it; many do it).
        joins = bool(charset) and not between.strip()
        if not (joins and word[1].lower() == charset):
            parts.append(_show(pending, charset))
            pending, charset = b"", word[1].lower()
        if not joins:
            parts.append(between)
        pending += data
        end = word.end()
    return "".join([*parts, _show(pending, charset), text[end:]])


def _payload(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if encoding in "Qq":
        return binascii.a2b_qp(raw, header=True)
    return decode_base64(raw)


def _show(data: bytes, charset: str) -> str:
    if not data:
        return ""
    # RFC 2047 6.3: an unknown charset may be shown in any way that keeps the rest readable.
    text = decode_charset(data, charset)
    return text if text is not None else data.decode("utf-8", "replace")


def decode_base64(raw: bytes) -> bytes:
    """The bytes of base64 text, whatever stands between its letters, also of several texts in a row, each with its padding."""
    texts = re.sub(rb"[^A-Za-z0-9+/=]", b"", raw).split(b"=")
    # One letter over is no octet; it was cut off.
    whole = (text[:-1] if len(text) % 4 == 1 else text for text in texts)
    return b"".join(binascii.a2b_base64(text + b"=" * (-len(text) % 4)) for text in whole)


def clean(text: str, longest: int = 1000) -> str:
    """*text* as one line that is safe in a mail, a page and a row: no controls, no turned direction, no half characters."""
    if text.isprintable():  # no character to replace or to drop
        return " ".join(text.split())[:longest].rstrip()
    kept = "".join(" " if c.isspace() or unicodedata.category(c) == "Cc" else c for c in text if not is_unsafe(c))
    return " ".join(kept.split())[:longest].rstrip()


def is_unsafe(character: str) -> bool:
    """Half a character of UTF-16, or one that is not seen, such as those that make "exe.pdf" of "fdp.exe"."""
    return character not in _JOINERS and unicodedata.category(character) in ("Cf", "Cs")


def parameters(value: str) -> tuple[str, Mapping[str, str]]:
    """A Content-Type or Content-Disposition: its first word in lower case ("" if none), and its parameters by lower-case name.

    Of a parameter given twice the first counts. Parts of a long one (RFC 2231 3) are put together.
    """
    first, semicolon, _ = value[:_MAX_FIELD].partition(";")
    word = first.partition("(")[0].strip().lower()
    if not semicolon:
        return word, {}
    found: dict[str, str] = {}
    for name, given in _given(value).items():
        found.setdefault(name.rstrip("*"), given)
    for name in [name for name in found if name.endswith("*0")]:
        whole, number = "", 0
        while (part := found.get(f"{name[:-1]}{number}")) is not None:
            whole, number = whole + part, number + 1
        found.setdefault(name[:-2], whole)
    return word, found


def text_parameter(value: str, name: str) -> str:
    """The parameter *name* (lower case) as text: in its own charset (RFC 2231 4) and, where programs write them against the
    rules, with encoded words decoded. "" where there is none."""
    given = _given(value)
    if (whole := given.get(f"{name}*")) is not None:
        return _extended([(whole, True)])
    parts: list[tuple[str, bool]] = []
    while (key := f"{name}*{len(parts)}") in given or f"{key}*" in given:
        coded = f"{key}*" in given
        parts.append((given[f"{key}*" if coded else key], coded))
    return _extended(parts) if parts else decode_words(given.get(name, ""))


def _given(value: str) -> dict[str, str]:
    """The parameters as they stand, names with their asterisks and in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(value[:_MAX_FIELD]):
        given = match[2].strip()
        if len(given) > 1 and given[0] == given[-1] == '"':
            given = given[1:-1]
            if "\\" in given:
                given = _ESCAPED.sub(r"\1", given)
        elif given.startswith('"'):  # the closing one was forgotten
            given = given[1:]
        found.setdefault(match[1].lower(), given)
    return found


def _extended(parts: Sequence[tuple[str, bool]]) -> str:
    """Parts of a value, each with whether its octets are written as %E9 (RFC 2231 4.1)."""
    charset, first = "utf-8", parts[0][0]
    if parts[0][1] and first.count("'") >= 2:
        charset, _, first = first.split("'", 2)
    texts = [(first, parts[0][1]), *parts[1:]]
    data = b"".join(unquote_to_bytes(text) if coded else text.encode("utf-8", "replace") for text, coded in texts)
    text = decode_charset(data, charset or "utf-8")
    return data.decode("utf-8", "replace") if text is None else text


def header_fields(head: bytes, names: Collection[str]) -> dict[str, bytes]:
    """The first field of each of *names* (lower case) in raw header fields, unfolded (RFC 5322 2.2.3), 4 KiB of each."""
    found: dict[str, list[bytes]] = {}
    current: list[bytes] = []
    for line in head.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line[:1] in (b" ", b"\t"):
            current.append(line)
            continue
        before, colon, after = line.partition(b":")
        name = before[:80].rstrip(b" \t").decode("latin-1").lower()
        current = []
        if colon and name in names and name not in found:
            found[name] = current = [after]
    return {name: b"".join(lines)[:_MAX_STRUCTURED].strip() for name, lines in found.items()}
