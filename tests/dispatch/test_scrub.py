"""No text of strangers brings a recipient's link or code into our store, and none breaks a line or a record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.evidence import canonical
from gateway.dispatch.scrub import REMOVED, scrub
from gateway.links import Links, grouped

LINKS = Links(b"l" * 32)


@settings(deadline=None)
@given(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32), st.integers(1, 5))
def test_tokens_and_access_codes_go_in_every_writing(letter: str, generation: int) -> None:
    token, code = LINKS.token(letter, generation), LINKS.access_code(letter, generation)
    for secret, texts in (
        (token, [f"see https://pli.test/l/{token}.", token, token.upper(), f"(https%3A%2F%2Fpli.test%2Fl%2F{token})"]),
        (token[:20], [f"https://pli.test/l/{token[:20]}"]),
        (code, [f"code {code} refused", grouped(code, 4), grouped(code, 4).replace("-", " ")]),
    ):
        for text in texts:
            clean = scrub(text)
            assert secret.lower() not in clean.lower(), text
            assert REMOVED in clean


def test_one_time_codes_go_and_what_helps_stays() -> None:
    assert "042137" not in scrub("Blocked: Code: 042137 found")
    for text in (
        "250 2.0.0 Ok: queued as 4Xy1ZabcDEzQ1",
        "550 5.1.1 <jane.roe@example.net>: Recipient address rejected: User unknown in local recipient table",
        "250 2.0.0 OK  1795593922 d2e1a72fcca58-7b8d1f0e1c2si1234567b3a.12 - gsmtp",
    ):
        assert scrub(text) == " ".join(text.split())


@settings(deadline=None)
@given(st.text())
def test_everything_becomes_one_bounded_line_that_a_record_can_hold(text: str) -> None:
    clean = scrub(text, 100)
    assert len(clean) <= 100
    assert "\n" not in clean
    assert "\r" not in clean
    canonical({"text": clean})


def test_half_a_surrogate_pair_cannot_break_a_record() -> None:
    canonical({"text": scrub("550 \udce9 \ud800 no")})
