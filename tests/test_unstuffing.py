"""What content comes out of the wire never depends on how it was cut, and ends only where it really ends."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.intake.data import Unstuffer

_TOKENS = st.sampled_from(
    [b"\r\n", b".", b"\r", b"\n", b"\0", b"x", b"..", b"\r\n.", b"\r\n.\r", b"long text", b"\xff"]
)
_WIRES = st.lists(_TOKENS, max_size=30).map(b"".join)


def _by_lines(wire: bytes) -> tuple[bytes, bytes] | None:
    """(content, rest), read slowly: line by line as RFC 5321 4.5.2 tells it; None where the end does not come."""
    lines: list[bytes] = []
    rest = wire
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        if line == b".":
            return b"".join(lines), rest
        lines.append(line.removeprefix(b".") + b"\r\n")
    return None


def _cut(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return [wire[a:b] for a, b in pairwise(places) if b > a]


def _feed(pieces: list[bytes]) -> tuple[bytes, Unstuffer, bytes]:
    content, out = Unstuffer(), []
    for n, piece in enumerate(pieces):
        out.append(content.feed(piece))
        if content.ended:
            return b"".join(out), content, content.rest + b"".join(pieces[n + 1 :])
    return b"".join(out), content, b""


@settings(deadline=None)
@given(_WIRES, st.lists(st.integers(0, 200), max_size=20))
@example(b".\r\n", [1, 2])
@example(b"..\r\n.\r\n", [1, 2, 3, 4, 5])
@example(b"\r\n.\r\n\r\n", [3])
def test_any_cutting_gives_the_same_content(wire: bytes, cuts: list[int]) -> None:
    expected = _by_lines(wire)
    out, content, rest = _feed(_cut(wire, cuts))
    if expected is None:
        assert not content.ended
    else:
        assert content.ended
        assert (out, rest) == expected


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=20))
def test_bare_cr_lf_and_nul_are_found_wherever_the_cuts_are(raw: bytes, cuts: list[int]) -> None:
    broken = any(byte in raw.replace(b"\r\n", b"") for byte in (b"\r", b"\n", b"\0"))
    wire = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in raw.split(b"\r\n"))
    _, content, _ = _feed(_cut(wire + b"\r\n.\r\n", cuts))
    assert content.ended
    assert bool(content.broken) == broken


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=20))
def test_a_stuffed_message_comes_out_as_it_was(raw: bytes, cuts: list[int]) -> None:
    message = raw.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    wire = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in message.split(b"\r\n"))
    out, content, rest = _feed(_cut(wire + b".\r\nQUIT\r\n", cuts))
    assert (out, rest) == (message, b"QUIT\r\n")
    assert bool(content.broken) == (b"\0" in raw)


@settings(deadline=None)
@given(_WIRES)
def test_what_is_wrong_is_told_by_counting_pairs(raw: bytes) -> None:
    content = Unstuffer()
    content.feed(raw.replace(b".", b"x") + b"\r\n.\r\n")
    pairs = raw.count(b"\r\n")
    # A CR at the end of *raw* meets the CRLF that follows, and no LF: it is bare, too.
    wrong = [name for byte, name in ((b"\n", "Bare LF"), (b"\r", "Bare CR")) if raw.count(byte) != pairs]
    if b"\0" in raw:
        wrong.append("NUL byte")
    assert content.broken[:8].rstrip(":") == (wrong[0] if wrong else "")[:8]
