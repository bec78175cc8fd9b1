"""Typesetting: a page's data to a PDF/A-3 with tags, the record attached. About 5 ms with a compiler that is kept.

The compiler sees one folder, the templates' own, and no network; the same data gives the same bytes.
Not here: what the page says (page.py), the seal over it (seal.py).
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import typst

from gateway.proof import foreign
from gateway.proof.words import PAGES

_STANDARDS: list[typst.PDFStandard] = ["a-3a", "ua-1"]  # for people who listen to a page, and for archives
_MISSING = re.compile(r'(?:the text|codepoint) `"((?:[^"\\]|\\.)+)"`')
_RUST_ESCAPE = re.compile(r"\\u\{([0-9a-f]{1,6})\}")
_TRIES = 8


class Typesetter:
    """One compiler under a lock: it may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # System fonts are left out, so that every machine makes the same page.
        self._compiler = typst.Compiler(str(PAGES / "proof.typ"), root=str(PAGES), ignore_system_fonts=True)

    def set(self, page: dict[str, Any], record: bytes) -> bytes:
        """The PDF of *page*; *record* is attached where the page says so."""
        text, hidden = json.dumps(page, ensure_ascii=False), set[str]()
        for _ in range(_TRIES):
            try:
                return self._compile(foreign.without(text, hidden), record)
            except typst.TypstError as error:
                # PDF/A refuses characters that no font of ours has: they are shown by their number.
                if not (missing := _missing(error) - hidden):
                    raise
                hidden |= missing
        return self._compile("".join(c if c.isascii() else foreign.number(c) for c in text), record)

    def _compile(self, page: str, record: bytes) -> bytes:
        inputs = {"page": page, "record": record.decode()}
        with self._lock:
            made = self._compiler.compile(format="pdf", sys_inputs=inputs, pdf_standards=_STANDARDS)
        if not isinstance(made, bytes):
            raise TypeError("the compiler made no PDF")
        return made


def _missing(error: typst.TypstError) -> set[str]:
    found = set[str]()
    for text in _MISSING.findall(error.diagnostic):
        found |= set(_RUST_ESCAPE.sub(lambda m: chr(int(m[1], 16)), text))
    return {character for character in found if not character.isascii()}
