"""contents.py reads any bytes in little time, cuts parts out unchanged, and agrees with other readers on ordinary mails."""

from __future__ import annotations

import time
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import contents
from gateway.core.mime_fields import text_parameter
from gateway.markup import as_text, harmless, linked
from tests.needs import need_shared
from tests.web.stand_in import NOW


def everything(raw: bytes) -> contents.Contents:
    """Use all of the module on *raw*."""
    found = contents.read(raw)
    for attachment in found.attachments:
        again = contents.attachment(raw, attachment.n)
        assert again is not None
        assert (again[0], len(again[1])) == (attachment, attachment.size)
        assert attachment.name and not set(attachment.name) & set('/\\\0\r\n"<>:|?*')
    contents.archive(raw, NOW)
    return found


def nested(depth: int, kind: str = "multipart/mixed") -> bytes:
    lines = [f'Content-Type: {kind}; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(depth)]
    return "".join(lines).encode() + b"Content-Type: text/plain\r\n\r\ndeepest\r\n"


def of_parts(number: int, head: bytes, body: bytes = b"x") -> bytes:
    part = b"--b\r\n" + head + b"\r\n\r\n" + body + b"\r\n"
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * number + b"--b--\r\n"


_ODD = bytes(b"\x81\x8d\x8f\x90\x9d\xe9\xe8 abcde\xff\xc3"[n * n % 15] for n in range(20_000))
HOSTILE = {
    "parameters of semicolons": of_parts(6, b'Content-Type: application/x; a="' + b";" * 60_000),
    "parameters without values": of_parts(6, b"Content-Type: application/x; " + b"a;" * 30_000),
    "parameters in pieces": of_parts(6, b"Content-Type: a/b" + b"".join(b";a*%d*=b" % n for n in range(8_000))),
    "dispositions of semicolons": of_parts(6, b'Content-Disposition: attachment; filename="' + b";" * 60_000),
    "a boundary behind semicolons": b'Content-Type: multipart/mixed; x="' + b";" * 120_000 + b"\r\n\r\n",
    "many charsets to guess": of_parts(400, b"Content-Type: text/plain; charset=xx-none", _ODD),
    "nothing": b"",
    "one line end": b"\r\n",
    "1200 nested multiparts": nested(1200),
    "a million empty parts": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n" * 1_000_000,
    "parts in parts, many of each": b"".join(
        f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n'.encode() + f"--b{n}\r\n".encode() * 300
        for n in range(50)
    ),
    "an empty charset": b'Content-Type: text/plain; charset=""\r\n\r\n\xe9t\xe9',
    "a charset that is none": b"Content-Type: text/plain; charset=zip\r\n\r\n\xe9t\xe9",
    "a slow charset": b"Content-Type: text/plain; charset=idna\r\n\r\n" + b"xn--a." * 200_000,
    "an endless header": b"Subject: " + b"x" * 5_000_000,
    "a million header lines": b"X: y\r\n" * 1_000_000,
    "a boundary of special characters": b'Content-Type: multipart/mixed; boundary="(a+)+$["\r\n\r\n--(a+)+$[\r\n\r\nx\r\n',
    "broken base64": b"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\nA\xffBC=D==E",
    "a broken name": b"Content-Type: a/b; name*0*=utf-8''%ff%fe; name*1=\"=?x?q?=00?=\"\r\n\r\nx",
    "a name in another charset": b"Content-Type: a/b\r\nContent-Disposition: attachment; filename*=nope''%e9\r\n\r\nx",
    "deep HTML": b"Content-Type: text/html\r\n\r\n" + b"<div>" * 300_000,
    "HTML of brackets": b"Content-Type: text/html\r\n\r\n" + b"<!" * 900_000,
    "HTML of openings": b"Content-Type: text/html\r\n\r\n" + b"<a href=x" * 200_000,
    "HTML of styles never closed": b"Content-Type: text/html\r\n\r\n" + b"<style>" * 9_000,
    "NUL and all other octets": bytes(range(256)) * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mails_are_read_in_a_moment(name: str) -> None:
    begin = time.process_time()
    everything(HOSTILE[name])
    assert time.process_time() - begin < 3.0


_PIECES = [
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: text/html\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Disposition: attachment; filename=",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-ID: <x>\r\n",
    b"<img src=cid:x>",
    b"=?utf-8?b?AA==?=",
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"--b",
        b"--b--",
        b"--b\r\n",
        b"\x00\xff",
        b"a: ",
        b'"',
        b";",
        b"charset=",
        b"%e9",
        b"*0*=",
    ),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=60).map(b"".join))
def test_any_bytes_are_read(raw: bytes) -> None:
    everything(raw)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_becomes_harmless_html_and_plain_words(text: str) -> None:
    made = harmless(text, {})
    assert made.html is not None and "<script" not in made.html
    as_text(text)
    assert "".join(words for words, _ in linked(text)) == text


_NAMES = st.text(st.characters(categories=["L", "N"], include_characters=" -_."), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=200),
    files=st.lists(st.tuples(_NAMES, st.binary(max_size=300)), max_size=4),
    cte=st.sampled_from(["base64", "quoted-printable"]),
)
def test_what_the_standard_library_writes_is_read_back(text: str, files: list[tuple[str, bytes]], cte: str) -> None:
    message = EmailMessage(policy=policy.SMTP)
    message.set_content(text, cte=cte)
    for name, data in files:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    raw = message.as_bytes()
    found = everything(raw)
    assert found.text.split() == text.split()
    assert [contents.attachment(raw, n)[1] for n in range(1, len(files) + 1)] == [data for _, data in files]  # type: ignore[index]
    assert [text_parameter(str(part.head["content-disposition"]), "filename") for part in _attached(raw)] == [
        name for name, _ in files
    ]


def _attached(raw: bytes) -> list[contents._Part]:
    return contents._sorted(contents._leaves(raw)[0])[1]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ('attachment; filename="plain.pdf"', "plain.pdf"),
        ("attachment; filename=bare.pdf; size=3", "bare.pdf"),
        ("attachment; filename*=UTF-8''na%C3%AFve%20plan.pdf; filename=old.pdf", "naïve plan.pdf"),
        ("attachment; filename*=iso-8859-1'fr'%E9t%E9.pdf", "été.pdf"),
        ("attachment; filename*0*=utf-8''%C3; filename*1*=%A9t; filename*2=\"%A9.pdf\"", "ét%A9.pdf"),
        ('attachment; filename*0="a very "; filename*1="long name.pdf"', "a very long name.pdf"),
        ('attachment; filename="=?utf-8?Q?=C3=A9t=C3=A9.pdf?="', "été.pdf"),
        ('attachment;\r\n filename="folded name.pdf"', "folded name.pdf"),
        ('attachment; filename="quoted \\"x\\".pdf"', "quoted _x_.pdf"),
        ("attachment; filename*=nope''%e9.pdf", "\N{REPLACEMENT CHARACTER}.pdf"),
    ],
)
def test_names_are_read_in_every_way_they_are_written(field: str, name: str) -> None:
    raw = f"Content-Type: application/pdf\r\nContent-Disposition: {field}\r\n\r\nx".encode()
    found = contents.attachment(raw, 1)
    assert found is not None
    assert found[0].name == name


def test_headers_of_a_letter_may_be_as_long_as_the_intake_takes_them() -> None:
    head = b"X-Long: " + b"y" * 200_000 + b"\r\nContent-Type: text/plain\r\n\r\n"
    assert contents.read(head + b"the text").text == "the text"


def test_an_attached_mail_is_cut_out_unchanged() -> None:
    inner = b"subject:No blank after the colon\r\nTo:  a@example.org,\r\n\tb@example.org\r\n\r\nbody \r\n"
    raw = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nsee\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n'
    raw += inner + b"\r\n--b--\r\n"
    found = contents.attachment(raw, 1)
    assert found is not None
    assert (found[0].name, found[0].type, found[1]) == ("part-1.eml", "message/rfc822", inner)


def test_the_plain_part_is_preferred_and_the_html_is_kept_beside_it() -> None:
    message = EmailMessage()
    message.set_content("plain words")
    message.add_alternative("<p>rich <b>words</b></p>", subtype="html")
    found = contents.read(message.as_bytes())
    assert (found.text, found.html, found.plain, found.attachments) == (
        "plain words",
        "<p>rich <b>words</b></p>\n",
        True,
        (),
    )


def test_html_alone_is_turned_into_lines() -> None:
    source = "<style>x</style><h1>Title</h1><p>one<br>two &amp; three</p><table><tr><td>a</td><td>b</td></tr></table>"
    source += "<script>no</script>"
    assert as_text(source).split("\n") == ["Title", "", "one", "two & three", "", "a b"]


def test_bytes_beyond_the_limits_are_said_to_be_missing() -> None:
    assert not contents.read(b"Content-Type: text/plain\r\n\r\n" + b"x" * 2_000_000).whole
    assert not contents.read(nested(30)).whole
    assert contents.read(b"Content-Type: text/plain\r\n\r\nshort").whole


@pytest.mark.parametrize("corpus", ["enmime", "mime4j"])
def test_mails_that_others_collected_are_read_and_their_attachments_agree(corpus: str) -> None:
    seen = agreed = 0
    for path in sorted(need_shared("corpora").joinpath(corpus).rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        found = everything(raw)
        others = [
            part.get_payload(decode=True)
            for part in message_from_bytes(raw, policy=policy.compat32).walk()
            if part.get_content_disposition() == "attachment" and not part.is_multipart()
        ]
        seen += len(others)
        ours = [contents.attachment(raw, attachment.n)[1] for attachment in found.attachments]  # type: ignore[index]
        agreed += sum(other in ours for other in others)
    assert seen > 10
    assert agreed >= seen * 0.8
