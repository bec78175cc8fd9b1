"""Tags and option lines: one word means the same wherever it stands, and none is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import options
from gateway.core.options import (
    LANGUAGE_CONFLICT,
    MAX_TAGS,
    MAX_TEXT,
    TOO_MANY_TAGS,
    UNAVAILABLE_TAG,
    UNKNOWN_TAG,
    Line,
    Problem,
    hide_tags,
    judge,
    language_tag,
    lines,
    subject_tags,
)  # fmt: skip

OFFERED = ("fr", "en")


class TestSubject:
    @pytest.mark.parametrize(
        ("subject", "words", "shown"),
        [
            ("Notice", [], "Notice"), ("[fr] [Paper] Notice", ["fr", "paper"], "Notice"),
            ("Notice [EN]", ["en"], "Notice"),
            ("a [fr] b", ["fr"], "a b"), ("[fr][en]", ["fr", "en"], ""), ("[urgent] x", ["urgent"], "[urgent] x"),
            ("[two words] x", [], "[two words] x"), ("[] x", [], "[] x"), ("[a_b] [fr]", ["fr"], "[a_b]"),
            ("Re: [code]  x", ["code"], "Re: x"), ("[[fr]]", ["fr"], "[ ]"), ("[é]", ["é"], "[é]"),
            ("[de] x", ["de"], "[de] x"),
        ],
    )  # fmt: skip
    def test_words_and_what_is_shown(self, subject: str, words: list[str], shown: str) -> None:
        assert subject_tags(subject) == words
        assert hide_tags(subject, ["FR", "en"]) == shown

    @given(st.text("[]frFR x", max_size=40))
    def test_hidden_once_is_hidden(self, subject: str) -> None:
        """No known tag is left but those that hiding another has only then formed."""
        assert len(subject_tags(hide_tags(subject, OFFERED))) <= len(subject_tags(subject))


def _keys(text: str) -> list[tuple[str, str]]:
    return [(line.key, line.value) for line in lines(text)]


class TestLines:
    @pytest.mark.parametrize(
        "text",
        ["To: a@b.c\nLanguage: fr\n\nDear", "\n\n \nto:a@b.c\nLANGUAGE :fr\n\nDear",
        "\ufeffÀ : a@b.c\r\nLangue : fr\r\n\r\nDear",
         "A: a@b.c\nSprache: fr", "An: a@b.c\nlangue: fr\nDear Sir",
         "To:\u00a0a@b.c\u2028Language:\u202ffr\n\nTo: x@y.z",
         "A\u0300 : a@b.c\n  Language: fr\n"],
    )  # fmt: skip
    def test_spellings(self, text: str) -> None:
        assert _keys(text) == [("to", "a@b.c"), ("language", "fr")]

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("Dear Jane\nTo: a@b.c", []), ("", []), ("\n \n", []), ("Hello: a\nTo: a@b.c", []),
            ("http://x.y\nTo: a@b.c", []),
            ("To: a@b.c,\nb@b.c;\nc@b.c\nd@b.c", [("to", "a@b.c, b@b.c; c@b.c")]),
            ("To: a@b.c\n b@b.c\n\nx", [("to", "a@b.c b@b.c")]),
            ("Post: 12 rue X\n  75001 Paris\nDear", [("post", "12 rue X 75001 Paris")]),
            ("To: a@b.c\nParty: yes\nx", [("to", "a@b.c"), ("", "yes")]),
            ("To:\nPost:\n", [("to", ""), ("post", "")]), ("Courrier : Paris", [("post", "Paris")]),
            ("To: a@b.c,\nPost: x", [("to", "a@b.c,"), ("post", "x")]),
            ("To: a@b.c,\n\nb@b.c", [("to", "a@b.c,")]),
        ],
    )  # fmt: skip
    def test_where_they_begin_and_end(self, text: str, found: list[tuple[str, str]]) -> None:
        assert _keys(text) == found

    def test_the_word_as_written_is_kept(self) -> None:
        assert lines("À: a@b.c\nParty: yes") == [Line("to", "a@b.c", "À"), Line("", "yes", "Party")]

    def test_long_texts_are_cut(self) -> None:
        assert len(lines("To: " + "a" * MAX_TEXT)[0].value) < MAX_TEXT
        assert lines("\n" * MAX_TEXT + "To: a@b.c") == []

    @given(st.text(max_size=200) | st.text("To:Post \n,;à", max_size=60))
    def test_any_text(self, text: str) -> None:
        for line in lines(text):
            assert line.key in ("to", "post", "language", "")
            assert "\n" not in line.value


@given(st.text(max_size=80) | st.text("a \n\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029", max_size=30))
def test_rows_are_those_of_splitlines(text: str) -> None:
    assert list(options._rows(text)) == text.splitlines()


@given(st.text("ab \t\u00a0\u2007\u202f\u3000\x1c", max_size=30) | st.text(max_size=30))
def test_a_subject_without_groups(subject: str) -> None:
    """It is not searched for them, with the same result."""
    if "[" not in subject:
        assert options._GROUP.findall(subject) == subject_tags(subject) == []
        assert hide_tags(subject, OFFERED) == " ".join(subject.split())


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("Français", "fr"),
        (" FRENCH ", "fr"),
        ("fr", "fr"),
        ("Deutsch", "de"),
        ("anglais", "en"),
        ("Italiano", "it"),
        ("Klingon", "klingon"),
    ],
)
def test_language_words(value: str, tag: str) -> None:
    assert language_tag(value) == tag


class TestJudge:
    def test_nothing_asked(self) -> None:
        assert judge([], OFFERED, ()) == (None, (), ())

    def test_case_and_repetition_do_not_matter(self) -> None:
        assert judge(["FR", "code", "fr", "CODE"], ("Fr", "en"), ()) == ("fr", ("fr", "code"), ())

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (["fr", "urgnt"], Problem(UNKNOWN_TAG, "urgnt")), (["de"], Problem(UNKNOWN_TAG, "de")),
            ([""], Problem(UNKNOWN_TAG, "")),
            (["paper"], Problem(UNAVAILABLE_TAG, "paper")), (["fr", "en"], Problem(LANGUAGE_CONFLICT, "en")),
            (["x" * 100], Problem(UNKNOWN_TAG, "x" * 64)),
        ],
    )  # fmt: skip
    def test_problems(self, words: list[str], problem: Problem) -> None:
        assert judge(words, OFFERED, {"paper"})[2] == (problem,)

    def test_too_many_words(self) -> None:
        words = [f"w{n}" for n in range(MAX_TAGS + 5)]
        problems = judge(words, OFFERED, ())[2]
        assert len(problems) == MAX_TAGS + 1
        assert problems[-1] == Problem(TOO_MANY_TAGS, f"w{MAX_TAGS}")

    def test_paper_where_it_is_offered(self) -> None:
        assert judge(["paper"], OFFERED, ()) == (None, ("paper",), ())

    @given(st.lists(st.text(max_size=6) | st.sampled_from(["fr", "en", "code", "paper"]), max_size=40))
    def test_every_word_counts(self, words: list[str]) -> None:
        """Each is a tag or a problem; past the limit the first one left out is a problem."""
        _, tags, problems = judge(words, OFFERED, {"paper"})
        known = {*tags, *(problem.word for problem in problems)}
        wanted = list(dict.fromkeys(word.lower() for word in words))
        assert set(wanted[:MAX_TAGS]) <= known
        assert (TOO_MANY_TAGS in {problem.code for problem in problems}) == (len(wanted) > MAX_TAGS)
