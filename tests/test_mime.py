"""Reading the beginning of a mail: its headers, its text in whatever form, and what check_headers refuses."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP

import pytest

from gateway.core.address import Mailbox
from gateway.core.errors import BadContent, NotYours
from gateway.core.options import lines
from gateway.mime import HEAD, check_headers, read_head
from storage.blobs import HEAD as SPOOLED

ME = {"me@example.org"}
MINIMAL = b"From: Me <me@example.org>\r\nSubject: x\r\n\r\ntext\r\n"


def _mail(*headers: str, body: str = "text") -> bytes:
    return "\r\n".join([*headers, "", body]).encode("utf-8", "surrogateescape")


def _text(*headers: str, body: str) -> str:
    return read_head(_mail("From: me@example.org", *headers, body=body)).text


def test_what_the_spool_keeps_is_what_is_read() -> None:
    assert HEAD == SPOOLED


class TestHeaders:
    def test_an_ordinary_mail(self) -> None:
        head = read_head(
            _mail(
                "From: =?utf-8?q?J=C3=A9r=C3=B4me?= <me@example.org>",
                "To: Jane <jane@example.org>,",
                "\tjohn@example.net",
                'CC: "Doe, Third" <third@example.org>',
                "Subject: =?utf-8?q?R=C3=A9siliation?=",
                " of my contract",
                "Message-ID: <1@example.org>",
                "Date: Sun, 1 Mar 2026 10:00:00 +0100",
            )
        )
        assert head.from_ == (Mailbox("Jérôme", "me@example.org"),)
        assert head.to == (Mailbox("Jane", "jane@example.org"), Mailbox("", "john@example.net"))
        assert head.cc == (Mailbox("Doe, Third", "third@example.org"),)
        assert (head.subject, head.message_id, head.text) == ("Résiliation of my contract", "<1@example.org>", "text")
        assert head.counts == dict.fromkeys(("from", "to", "cc", "subject", "message-id", "date"), 1)
        assert head.complete

    @pytest.mark.parametrize(
        ("value", "found"),
        [("<a@b>", "<a@b>"), (" <a@b> (x)", "<a@b>"), ("\r\n <a@b>", "<a@b>"), ("<2026%x.y@host>", "<2026%x.y@host>"),
        ("a@b", None), ("", None),
         ("<a b>", None), ("<é@b>", None), ("<>", None), ("<" + "a" * 501 + ">", None), ("<a><b>", "<a>")],
    )  # fmt: skip
    def test_message_id(self, value: str, found: str | None) -> None:
        assert read_head(_mail(f"Message-ID:{value}")).message_id == found

    @pytest.mark.parametrize(
        ("raw", "subject"),
        [("Réclamation".encode(), "Réclamation"), (b"R\xe9clamation", "Réclamation"),
        (b"caf\xe9 \xff\xfe =?utf-8?q?=C3=A9?=", "café ÿþ é"),
         (b"a\0b", "a b"), ("é =?utf-8?q?=C3=A9?=".encode(), "é é"), (b"", ""), (b"=?utf-7?q?+2AA-?=", "+2AA-"),
         (b"a\x1b[31mb", "a [31mb")],
    )  # fmt: skip
    def test_subjects_of_any_bytes(self, raw: bytes, subject: str) -> None:
        assert read_head(b"Subject: " + raw + b"\r\n\r\n").subject == subject

    def test_no_word_forges_an_address(self) -> None:
        head = read_head(_mail("From: =?utf-8?q?victim=40bank.example=2C?= <me@example.org>"))
        assert head.from_ == (Mailbox("victim@bank.example,", "me@example.org"),)
        head = read_head(_mail("From: =?utf-8?q?=3Cme=40example.org=3E?= <victim@bank.example>"))
        assert head.from_[0].address == "victim@bank.example"

    def test_lines_that_are_no_field_hide_none(self) -> None:
        head = read_head(
            b"\tfolded\r\nFrom x\r\nno colon\r\nBcc : a@b\r\n: x\r\nFROM:me@example.org\r\n\r\nBcc: in the text"
        )
        assert (head.counts["bcc"], head.counts["from"]) == (1, 1)

    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_any_line_ends(self, end: bytes) -> None:
        head = read_head(end.join([b"From: me@example.org", b"Bcc: a@b", b"", b"text"]))
        assert (head.counts["bcc"], head.text) == (1, "text")


class TestCheckHeaders:
    def test_a_mail_may_be_plain(self) -> None:
        """Date, Message-ID, To and even Subject are not every client's."""
        check_headers(read_head(MINIMAL), ME)
        check_headers(read_head(_mail("From: me@example.org")), ME)

    @pytest.mark.parametrize("written", ["me@example.org", "ME@Example.ORG", '"me"@example.org', "Me <me@example.org>",
        "me@example.org (Me)", "<me@example.org>",
                                         "Group: me@example.org;", "=?utf-8?q?=C3=A9?= <me@example.org>"])  # fmt: skip
    def test_the_account_in_each_spelling(self, written: str) -> None:
        check_headers(read_head(_mail(f"From: {written}")), ME)

    @pytest.mark.parametrize(
        "written",
        ["other@example.org", "me@example.net", "Me", "me@", "<>", "me@example.org <other@example.org>",
        "other@example.org (me@example.org)",
         "<me@example.org> <other@example.org>", "me@example.org, other@example.org",
         "other@example.org, me@example.org", "me@example.org\0", '"me@example.org',
         "=?utf-8?q?me=40example.org?=", "<@relay.example:me@example.org>", "me@example.org, nobody"],
    )  # fmt: skip
    def test_somebody_else(self, written: str) -> None:
        with pytest.raises(NotYours) as refused:
            check_headers(read_head(_mail(f"From: {written}")), ME)
        assert refused.value.smtp_reply.startswith("553 5.7.1")

    @pytest.mark.parametrize(
        "header",
        [
            "Bcc: a@example.org",
            "BCC: a@example.org",
            "bcc:",
            "Bcc :x",
            "Resent-Bcc: a@example.org",
            "From: me@example.org",
            "Subject: y",
            "Content-Type: text/html",
        ],
    )
    def test_bcc_and_doubled_headers(self, header: str) -> None:
        with pytest.raises(BadContent) as refused:
            check_headers(
                read_head(_mail("From: me@example.org", "Content-Type: text/plain", "Subject: x", header)), ME
            )
        assert refused.value.smtp_reply.startswith("550 5.6.0")

    @pytest.mark.parametrize("name", ["Date", "To", "Message-ID", "Content-Transfer-Encoding"])
    def test_more_doubled_headers(self, name: str) -> None:
        one = ("From: me@example.org", f"{name}: x")
        check_headers(read_head(_mail(*one)), ME)
        with pytest.raises(BadContent, match=f"(?i)more than one header {name}"):
            check_headers(read_head(_mail(*one, f"{name.upper()}: y")), ME)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\r\n",
            b"\r\nFrom: me@example.org\r\n",
            b"From:\r\n\r\n",
            b"From: nobody:;\r\n\r\n",
            b"Sender: me@example.org\r\n\r\n",
        ],
    )
    def test_no_author(self, raw: bytes) -> None:
        with pytest.raises(BadContent, match="no header From"):
            check_headers(read_head(raw), ME)

    def test_two_authors_though_both_are_the_account(self) -> None:
        with pytest.raises(BadContent, match="more than one author"):
            check_headers(read_head(_mail("From: me@example.org, also@example.org")), ME | {"also@example.org"})

    def test_headers_without_end(self) -> None:
        """A Bcc line beyond what is read is not overlooked."""
        raw = b"From: me@example.org\r\n" + b"X: y\r\n" * 60_000 + b"Bcc: a@b\r\n\r\n"
        with pytest.raises(BadContent, match="too long"):
            check_headers(read_head(raw[:HEAD]), ME)
        check_headers(read_head(b"From: me@example.org\r\n\r\n" + b"x" * HEAD), ME)

    def test_in_the_text_a_bcc_line_is_text(self) -> None:
        check_headers(read_head(MINIMAL + b"Bcc: a@b\r\n"), ME)


class TestText:
    @pytest.mark.parametrize(
        ("headers", "body", "text"),
        [
            ([], "caf\udce9", "café"), ([], "café", "café"),
            (["Content-Type: text/plain; charset=iso-8859-15"], "\udca4", "€"),
            (["Content-Type: text/plain; charset="], "café", "café"),
            (['Content-Type: text/plain; charset=""'], "caf\udce9", "café"),
            (["Content-Type: text/plain; charset=utf-8"], "caf\udce9 au lait", "café au lait"),
            (["Content-Type: text/plain; charset=none"], "café", "café"),
            (["Content-Type: text/plain; charset=us-ascii (x)"], "café", "café"),
            (["Content-Transfer-Encoding: BASE64"], "Y2Fmw6k=", "café"),
            (["Content-Transfer-Encoding: quoted-printable (x)"], "caf=C3=\r\n=A9=", "café"),
            (["Content-Transfer-Encoding: x-none"], "a", "a"),
            (["Content-Type:"], "a", "a"), (["Content-Type: text"], "a", "a"),
            (["Content-Type: application/pdf"], "a", ""), (["Content-Type: text/calendar"], "a", ""),
            (["Content-Disposition: attachment"], "a", ""),
            (["Content-Disposition: inline; filename=a.txt"], "a", "a"), (["Content-Type: multipart/mixed"], "a", "a"),
            (["Content-Type: text/html"], "<p>a</p>", "a"),
            (["Content-Type: text/html; charset=utf-8"], "<meta charset=x>é", "é"),
            (["Content-Type: text/html"], "<meta http-equiv=x content='text/html; charset=windows-1251'>\udcff", "я"),
            (["Content-Type: message/rfc822"], "a", ""),
            (["Content-Type: text/plain; charset=utf-16le"], "a\0\0\udcd8\0\udcdc", "a\U00010000"),
        ],
        ids=lambda value: ascii(value)[:50],
    )  # fmt: skip
    def test_one_part(self, headers: list[str], body: str, text: str) -> None:
        assert _text(*headers, body=body) == text

    def test_charsets_that_nobody_named_are_guessed(self) -> None:
        russian = "Уважаемый господин, настоящим письмом сообщаю вам о расторжении договора. " * 4
        for charset in ("koi8-r", "cp1251"):
            head = read_head(b"From: me@example.org\r\n\r\n" + b"To: a@example.org\n\n" * 200 + russian.encode(charset))
            assert head.text.endswith(russian)

    @pytest.mark.parametrize("delsp", ["", "; delsp=yes"])
    def test_flowed(self, delsp: str) -> None:
        """RFC 3676: soft line ends are joined; a line that is an option of its own begins anew all the same."""
        body = "To: Jane <jane@example.org> \r\nPost: 12 rue de la Paix, \r\n 75001 Paris\r\n\r\nDear \r\nJane\r\n-- \r\nme"
        text = _text(f"Content-Type: text/plain; format=flowed{delsp}", body=body)
        gap = "" if delsp else " "
        assert (
            text
            == f"To: Jane <jane@example.org>{gap}\nPost: 12 rue de la Paix,{gap}75001 Paris\n\nDear{gap}Jane\n-- \nme"
        )

    def _multipart(self, kind: str, *parts: str, boundary: str = "b") -> str:
        return (
            f"Content-Type: multipart/{kind}; boundary={boundary}\r\n\r\npreamble\r\n"
            + "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
            + f"--{boundary}--\r\nepilogue"
        )

    PLAIN = "Content-Type: text/plain\r\n\r\nplain"
    HTML = "Content-Type: text/html\r\n\r\n<p>html"
    EMPTY = "Content-Type: text/plain\r\n\r\n \r\n"
    PDF = "Content-Type: application/pdf\r\n\r\nJVBERi0="
    FILE = "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nfile"

    @pytest.mark.parametrize(
        ("kind", "parts", "text"),
        [
            ("alternative", [PLAIN, HTML], "plain"), ("alternative", [HTML, PLAIN], "plain"),
            ("alternative", [EMPTY, HTML], "html"), ("alternative", [HTML], "html"),
            ("mixed", [HTML, PLAIN], "html"), ("mixed", [PLAIN, HTML], "plain"), ("mixed", [PDF, PLAIN], "plain"),
            ("mixed", [FILE, HTML], "html"), ("mixed", [PDF], ""),
            ("mixed", [EMPTY, PDF, PLAIN], "plain"), ("mixed", ["\r\nno headers"], "no headers"),
            ("digest", ["\r\nSubject: x\r\n\r\ny"], ""), ("mixed", [], ""),
            ("mixed", ["Content-Type: text/plain"], ""), ("mixed", ["Content-Type: text/plain", PLAIN], "plain"),
            ("encrypted", [PDF, PDF], ""), ("signed", [PLAIN, PDF], "plain"),
        ],
    )  # fmt: skip
    def test_parts(self, kind: str, parts: list[str], text: str) -> None:
        assert read_head(f"From: me@example.org\r\n{self._multipart(kind, *parts)}".encode()).text.strip() == text

    @pytest.mark.parametrize(
        ("outer", "before", "inner", "parts", "after", "text"),
        [
            ("alternative", [PLAIN], "related", [HTML, PDF], [], "plain"),
            ("alternative", [EMPTY], "related", [HTML, PDF], [], "html"),
            ("mixed", [], "alternative", [HTML, PLAIN], [PDF], "plain"),
            ("mixed", [], "alternative", [EMPTY, EMPTY], [HTML], "html"),
            ("alternative", [], "mixed", [HTML, PDF], [PLAIN], "plain"),
            ("mixed", [PDF], "mixed", [], [PLAIN], "plain"),
        ],
    )  # fmt: skip
    def test_nested_parts(
        self, outer: str, before: list[str], inner: str, parts: list[str], after: list[str], text: str
    ) -> None:
        nested = self._multipart(inner, *parts, boundary="b2")
        assert read_head(f"From: x\r\n{self._multipart(outer, *before, nested, *after)}".encode()).text.strip() == text

    def test_an_outer_boundary_ends_an_inner_part_that_forgot_its_end(self) -> None:
        raw = self._multipart(
            "mixed", self._multipart("mixed", self.EMPTY, boundary="b2").replace("--b2--\r\nepilogue", ""), self.PLAIN
        )
        assert read_head(raw.encode()).text.strip() == "plain"

    def test_an_inner_boundary_means_nothing_once_its_multipart_is_over(self) -> None:
        inner = self._multipart("mixed", self.EMPTY, boundary="b2").replace("--b2--\r\nepilogue", "")
        raw = self._multipart("mixed", inner, "\r\none\r\n--b2\r\ntwo")
        assert read_head(raw.encode()).text == "one\n--b2\ntwo"

    def test_the_last_boundary_may_be_missing(self) -> None:
        assert read_head(self._multipart("mixed", self.PLAIN).partition("--b--")[0].encode()).text.strip() == "plain"

    def test_a_boundary_is_the_whole_line(self) -> None:
        raw = self._multipart("mixed", "\r\n--bb\r\n--b x\r\nplain", boundary="b").replace("--b\r\n", "--b \t\r\n")
        assert read_head(raw.encode()).text == "--bb\n--b x\nplain"

    def test_what_another_library_wrote_is_read(self) -> None:
        message = EmailMessage(SMTP)
        message["From"] = "me@example.org"
        message.set_content(
            "To: Jérôme <jane@example.org>\nPost: 12 rue de l’Église, 75001 Paris\n\nChère " + "é" * 200
        )
        message.add_alternative("<p>no</p>", subtype="html")
        message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="é.pdf")
        head = read_head(message.as_bytes())
        assert [line.value for line in lines(head.text)] == [
            "Jérôme <jane@example.org>",
            "12 rue de l’Église, 75001 Paris",
        ]

    def test_a_long_mail_is_read_from_its_beginning_alone(self) -> None:
        for encoding, body in (
            ("base64", "VG86IGFAZXhhbXBsZS5vcmcK" + "Cg==" + "w6nDqcOp\r\n" * 200_000),
            ("8bit", "To: a@example.org\r\n\r\n" + "é" * 500_000),
        ):
            raw = _mail("Content-Type: text/plain; charset=utf-8", f"Content-Transfer-Encoding: {encoding}", body=body)
            head = read_head(raw[:HEAD])
            assert lines(head.text)[0].value == "a@example.org"
            assert "é" in head.text
            assert "\ufffd" not in head.text
