"""HTML-only mails as their text: the lines that the sender saw are the lines that are read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.html_text import to_text
from gateway.core.options import lines

GMAIL = (
    '<div dir="ltr">To: Jane Doe &lt;<a href="mailto:jane@example.org">jane@example.org</a>&gt;'
    "<div>Language: fr</div><div><br></div>"
    "<div>Dear Jane</div></div>"
)
OUTLOOK = (
    '<html xmlns:o="urn:schemas"><head><meta charset="utf-8"><title>To: no</title><style><!-- p {margin:0} --></style>'
    "<!--[if gte mso 9]><xml>To: no</xml><![endif]--></head><body lang=FR>"
    "<div class=WordSection1>\r\n<p class=MsoNormal>To: Jane Doe &lt;"
    "jane@example.org&gt;<o:p></o:p></p>\r\n\r\n<p class=MsoNormal>Language:\r\nfr<o:p></o:p></p>"
    "<p class=MsoNormal><o:p>&nbsp;</o:p></p>"
    "<p class=MsoNormal>Dear Jane<o:p></o:p></p></div></body></html>"
)
THUNDERBIRD = (
    "<html><body><p>To: Jane Doe <jane@example.org><br>\n    Language: fr</p>\n"
    "<p>&nbsp;</p><p>Dear Jane</p></body></html>"
)
APPLE = (
    "<html><body style='a: \"b>c\"'>To: Jane Doe &lt;jane@example.org&gt;<br>Language: fr"
    "<div><br></div><div>Dear Jane</div></body></html>"
)
PRE = "<PRE>To: Jane Doe &lt;jane@example.org&gt;\r\nLanguage: fr\r\n\r\nDear Jane</PRE>after"


@pytest.mark.parametrize(
    "source", [GMAIL, OUTLOOK, THUNDERBIRD, APPLE, PRE], ids=["gmail", "outlook", "thunderbird", "apple", "pre"]
)
def test_option_lines_as_clients_write_them(source: str) -> None:
    assert [(line.key, line.value) for line in lines(to_text(source))] == [
        ("to", "Jane Doe <jane@example.org>"), ("language", "fr"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""), ("plain", "plain"), ("a\n b", "a b"), ("a<br>b<BR/>c", "a\nb\nc"), ("<p>a<p>b", "a\nb"),
        ("a<br><br>b", "a\n\nb"),
        ("<div><div>a</div></div><div>b</div>", "a\nb"), ("a<b>b</b>c", "abc"), ("&lt;&eacute;&#233;&gt;", "<éé>"),
        ("1 < 2 > 0", "1 < 2 > 0"),
        ("a<script>b<br>'</script>c", "ac"), ("a<style>b", "a"), ("a<!-- b", "a"), ("a<!-- b -->c", "ac"),
        ("a<!DOCTYPE html>b<?x y?>c</>d", "abcd"),
        ('<a title="x>y">z</a>', "z"), ('<a title="x>y', "y"), ("<a title=\"x>y<b>z</b>", "yz"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("<pre>a\n\nb</pre>c\nd", "a\n\nb\nc d"), ("x<table><tr><td>a</td><td>b</td></tr></table>", "x\na\nb"),
        ("a<", "a<"), ("<", "<"), ("a</p", "a"),
        ("<pre>a<div>b\nc</div>d\ne</pre>", "a\nb\nc\nd\ne"),
    ],
    ids=lambda text: repr(text[:30]),
)  # fmt: skip
def test_text(source: str, text: str) -> None:
    assert to_text(source) == text


@given(st.text(max_size=200) | st.text("<>/!-a\"'= &;#pbr\n", max_size=120))
def test_any_source(source: str) -> None:
    to_text(source)


PIECES = ["<!--", "<a ", "<![", "&#", "<", "</", '<a b="', "<script>", "<!", "<?", "<a b='x' ", "<style><", "<a b=",
    "&#1", "&amp", "<pre>\n", "x<br>",
          "<a\"'>", "<a '\"", "<p>", "</script", "<title>"]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_time_is_linear(piece: str) -> None:
    """html.parser needs a minute for some of these."""
    start = time.process_time()
    for tail in ("", ">", '">', "-->"):
        to_text(piece * (65_536 // len(piece)) + tail)
    assert time.process_time() - start < 5
