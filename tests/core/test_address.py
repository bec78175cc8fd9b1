"""What addresses mean to the gateway, and how a mail is understood: the three gestures of DESIGN.md 4."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.address import (
    Addressee,
    Dedicated,
    Encoded,
    Head,
    Mailbox,
    Problem,
    Understood,
    comparison_form,
    read_rcpt,
    understand,
)  # fmt: skip
from gateway.core.errors import BadRecipient, NoRecipient, PliError, Stranger
from gateway.core.mailbox import mailboxes

LETTERS, DEDICATED = "letters.pli.example", "letter@pli.example"


def _read(
    address: str, letters: str = LETTERS, dedicated: str = DEDICATED
) -> tuple[str, tuple[str, ...]] | tuple[str, ...] | None:
    read = read_rcpt(address, letters, dedicated)
    if isinstance(read, Encoded):
        return read.recipient, read.tags
    return read.tags if read is not None else None


class TestEncoded:
    @pytest.mark.parametrize(
        ("local", "recipient", "tags"),
        [
            ("jane.doe=example.org", "jane.doe@example.org", ()),
            ("Jane.Doe=EXAMPLE.Org", "Jane.Doe@example.org", ()),
            ("jane.doe=example.org+fr+code", "jane.doe@example.org", ("fr", "code")),
            ("jane.doe=example.org+FR", "jane.doe@example.org", ("fr",)),
            ("jane.doe+lists=example.org", "jane.doe+lists@example.org", ()),
            ("jane.doe+lists=example.org+fr", "jane.doe+lists@example.org", ("fr",)),
            ("a=b=c=example.org", "a=b=c@example.org", ()),
            ("a==example.org", "a=@example.org", ()),
            ("jane=example.org+", "jane@example.org", ()),
            ("jane=example.org++fr+", "jane@example.org", ("fr",)),
            ("jane=example.org+zh-hant", "jane@example.org", ("zh-hant",)),
            ('"jane doe=example.org"', '"jane doe"@example.org', ()),
            (r'"\"jane doe\"=example.org"', '"jane doe"@example.org', ()),
            ('"jane=example.org"', "jane@example.org", ()),
            (r'"ja\"ne=example.org"', r'"ja\"ne"@example.org', ()),
            ("letter+fr=example.org", "letter+fr@example.org", ()),
            ("letter=example.org", "letter@example.org", ()),
            ("用户=例え.テスト", "用户@xn--r8jz45g.xn--zckzah", ()),
            ("jane=bücher.example+fr", "jane@xn--bcher-kva.example", ("fr",)),
            ("jane=xn--bcher-kva.example", "jane@xn--bcher-kva.example", ()),
            (
                "a" * 64 + "=example.org",
                "a" * 64 + "@example.org",
                (),
            ),  # longer together than RFC 5321 4.5.3.1.1 asks us to take
        ],
    )
    def test_forms(self, local: str, recipient: str, tags: tuple[str, ...]) -> None:
        assert _read(f"{local}@{LETTERS}") == (recipient, tags)
        assert _read(f"{local}@{LETTERS.upper()}") == (recipient, tags)

    @pytest.mark.parametrize(
        "local",
        [
            "=example.org", "jane=", "=", "jane=example", "jane=+fr", "jane=example.org+a.b", "jane=exa_mple.org",
            "jane..doe=example.org",
            "jane=example.org+é!", "jane=[127.0.0.1]", '"jane=[127.0.0.1]"', "no=equals=", "jane doe=example.org",
            "jane=-x.org",
            '"jane"=example.org', "a" * 65 + "=example.org", "a" * 500 + "=" + "b" * 20 + ".org", f"jane={LETTERS}",
            f"jane=example.org={LETTERS}", "letter=pli.example", "anybody=pli.example", "jane=example.org+" + "x" * 65,
            "jan\u202ee=example.org",
        ],
        ids=ascii,
    )  # fmt: skip
    def test_unreadable_forms(self, local: str) -> None:
        with pytest.raises(BadRecipient) as refused:
            read_rcpt(f"{local}@{LETTERS}", LETTERS, DEDICATED)
        assert refused.value.smtp_reply.startswith("550 5.1.3 ")
        assert len(refused.value.smtp_reply) < 510  # RFC 5321 4.5.3.1.5

    @pytest.mark.parametrize("local", ["=example.org", "jane=", "=", "jane=+fr"])
    def test_the_refusal_shows_the_form(self, local: str) -> None:
        with pytest.raises(BadRecipient, match=f"jane.doe=example.org@{LETTERS}"):
            read_rcpt(f"{local}@{LETTERS}", LETTERS, DEDICATED)

    @given(
        st.from_regex(r"[a-z0-9+=_-]{1,20}(\.[a-z0-9+=_-]{1,20})?", fullmatch=True),
        st.lists(st.sampled_from(["fr", "code", "x-1"]), max_size=3),
    )
    def test_every_local_part_survives(self, local: str, tags: list[str]) -> None:
        """Replace the @ by =, add tags behind: the recipient comes out as he went in."""
        address = "".join([local, "=example.org", *(f"+{tag}" for tag in tags), "@", LETTERS])
        assert _read(address) == (f"{local}@example.org", tuple(tags))


class TestDedicated:
    @pytest.mark.parametrize(
        ("local", "tags"),
        [("letter", ()), ("LETTER", ()), ("letter+fr+code", ("fr", "code")), ("Letter+FR", ("fr",)), ("letter+", ()),
        ("letter++fr", ("fr",)),
         ('"letter"', ()), ("letter+urgnt", ("urgnt",))],
    )  # fmt: skip
    def test_forms(self, local: str, tags: tuple[str, ...]) -> None:
        read = read_rcpt(f"{local}@PLI.example", LETTERS, DEDICATED)
        assert read == Dedicated(tags)
        assert not hasattr(read, "recipient")

    @pytest.mark.parametrize("local", ["letter+a.b", "letter+jane=example.org", "letter+fr_FR", "letter+" + "x" * 65])
    def test_unreadable_tags(self, local: str) -> None:
        with pytest.raises(BadRecipient, match="options after"):
            read_rcpt(f"{local}@pli.example", LETTERS, DEDICATED)

    def test_one_domain_for_both(self) -> None:
        """The default of the configuration: what holds "=" is a recipient, the rest may be the dedicated address."""
        one = ("pli.example", "letter@pli.example")
        assert _read("letter+fr@pli.example", *one) == ("fr",)
        assert _read("letter+fr=example.org@pli.example", *one) == ("letter+fr@example.org", ())
        assert _read("jane=example.org+fr@pli.example", *one) == ("jane@example.org", ("fr",))
        assert _read("jane@pli.example", *one) is None

    def test_at_the_letters_domain_beside_another(self) -> None:
        assert _read(f"letter+fr@{LETTERS}", LETTERS, f"letter@{LETTERS}") == ("fr",)


@pytest.mark.parametrize(
    "address",
    ["jane@example.org", "jane=example.net@example.org", f"jane@{LETTERS}", "other@pli.example", "letters@pli.example",
    "letter.fr@pli.example",
     f"letter@{LETTERS}", "a=b@pli.example", "letter@example.org", "letter@sub.pli.example", "xletter+fr@pli.example"],
)  # fmt: skip
def test_ordinary_addresses(address: str) -> None:
    assert _read(address) is None


@pytest.mark.parametrize(
    "address", ["", "jane", "@example.org", "jane@", "jane@[127.0.0.1]", "jane@exa mple.org", f"ja ne@{LETTERS}"]
)
def test_no_address_at_all(address: str) -> None:
    with pytest.raises(BadRecipient):
        read_rcpt(address, LETTERS, DEDICATED)


# -- understanding a whole mail ---------------------------------------------------------------------------------------------


def _enc(address: str, tags: str = "") -> str:
    return f"{address.replace('@', '=')}{tags}@{LETTERS}"


def _understand(
    rcpts: list[str], text: str = "", *, to: str = "", cc: str = "", subject: str = "A letter"
) -> Understood:
    head = Head(subject=subject, to=mailboxes(to), cc=mailboxes(cc), text=text)
    return understand(rcpts, LETTERS, DEDICATED, head, ("fr", "en"), {"paper"})


def _people(understood: Understood) -> list[tuple[str, str, str, bool]]:
    return [(to.name, to.address, to.post, to.visible) for to in understood.recipients]


JANE, JOHN = "jane@example.org", "john@example.net"


class TestGestures:
    def test_inside_the_address(self) -> None:
        understood = _understand([_enc(JANE, "+fr")], "Dear Jane", to=_enc(JANE, "+fr"), subject="[code] Notice")
        assert understood == Understood((Addressee("", JANE, "", True),), "encoded", "fr", ("fr", "code"), "Notice", ())

    def test_lines(self) -> None:
        text = f"To: Jane Doe <{JANE}>\nPost: 12 rue X, 75001 Paris\nLanguage: français\n\nDear Jane"
        understood = _understand([DEDICATED], text, to=DEDICATED)
        assert understood == Understood(
            (Addressee("Jane Doe", JANE, "12 rue X, 75001 Paris", True),), "lines", "fr", ("fr",), "A letter", ()
        )

    def test_copy(self) -> None:
        understood = _understand([JANE, JOHN, DEDICATED], "Dear both", to=f"Jane Doe <{JANE}>", cc=DEDICATED)
        assert understood.gesture == "copy"
        assert _people(understood) == [("Jane Doe", JANE, "", True), ("", JOHN, "", False)]

    def test_copy_with_an_encoded_recipient(self) -> None:
        understood = _understand(["letter+en@pli.example", _enc(JANE), JOHN], to=f"{JOHN}")
        assert _people(understood) == [("", JANE, "", False), ("", JOHN, "", True)]
        assert (understood.gesture, understood.language) == ("copy", "en")

    def test_lines_add_to_the_other_gestures(self) -> None:
        text = f"To: John <{JOHN}>, JANE@EXAMPLE.ORG\n\nDear both"
        assert _people(_understand([_enc(JANE)], text)) == [("", JANE, "", True), ("John", JOHN, "", True)]
        assert _people(_understand([JANE, DEDICATED], text)) == [("", JANE, "", True), ("John", JOHN, "", True)]

    @pytest.mark.parametrize("text", ["", "Dear Jane", "Language: fr\n\nDear", "Post: x\n\n", "\n\n"])
    def test_nobody_named(self, text: str) -> None:
        with pytest.raises(NoRecipient):
            _understand([DEDICATED], text)

    def test_ordinary_recipients_alone_make_no_letter(self) -> None:
        for rcpts in ([JANE], [JANE, _enc(JOHN)]):
            with pytest.raises(Stranger, match=DEDICATED):
                _understand(rcpts)

    @pytest.mark.parametrize("rcpt", [f"nobody@{LETTERS}", "nobody@pli.example"])
    def test_the_gateway_is_no_recipient(self, rcpt: str) -> None:
        with pytest.raises(BadRecipient, match="of this gateway"):
            _understand([rcpt, DEDICATED])


class TestWhoSeesWhom:
    def test_only_in_rcpt_is_not_shown(self) -> None:
        people = _people(_understand([_enc(JANE), _enc(JOHN)], to=f'"Doe, Jane" <{_enc(JANE)}>'))
        assert people == [("Doe, Jane", JANE, "", True), ("", JOHN, "", False)]

    @pytest.mark.parametrize("shown", [_enc(JANE), _enc("JANE@example.ORG", "+fr"), JANE, JANE.upper()])
    @pytest.mark.parametrize("header", ["to", "cc"])
    def test_by_the_encoded_or_the_plain_address(self, shown: str, header: str) -> None:
        headers: dict[str, Any] = {header: f"Jane D <{shown}>"}
        assert _people(_understand([_enc(JANE)], **headers)) == [("Jane D", JANE, "", True)]

    def test_headers_alone_name_no_recipient(self) -> None:
        assert len(_understand([_enc(JANE)], to=f"{_enc(JOHN)}, {JOHN}", cc="third@example.org").recipients) == 1

    def test_what_cannot_be_read_in_a_header_is_passed_over(self) -> None:
        to = f"nonsense, <>, a@[1.2.3.4], jane={'x' * 600}@{LETTERS}, {_enc(JANE)}, (open"
        assert _people(_understand([_enc(JANE)], to=to)) == [("", JANE, "", True)]

    @pytest.mark.parametrize("name", [JANE, f"'{JANE}'", _enc(JANE), '""', "\u202e \u200b\u0007"])
    def test_a_name_that_is_none(self, name: str) -> None:
        head = Head(to=(Mailbox(name, _enc(JANE)),))
        assert understand([_enc(JANE)], LETTERS, DEDICATED, head, ("fr",), ()).recipients[0].name == ""

    def test_the_line_names_before_the_header(self) -> None:
        assert (
            _understand([JANE, DEDICATED], f"To: By Line <{JANE}>\n\n", to=f"By Header <{JANE}>").recipients[0].name
            == "By Line"
        )

    def test_names_are_one_clean_line(self) -> None:
        head = Head(to=(Mailbox("Jane\r\nBcc: x\u202e\0 Doe" + "e" * 500, JANE),))
        name = understand([_enc(JANE)], LETTERS, DEDICATED, head, ("fr",), ()).recipients[0].name
        assert name.startswith("Jane Bcc: x Doe")
        assert len(name) == 200


class TestDuplicates:
    def test_one_letter_each(self) -> None:
        rcpts = [_enc(JANE), _enc("Jane@EXAMPLE.org", "+fr"), f'"jane=example.org"@{LETTERS}', _enc(JOHN)]
        understood = _understand(rcpts)
        assert [to.address for to in understood.recipients] == [JANE, JOHN]
        assert understood.tags == ("fr",)

    def test_in_the_order_named(self) -> None:
        text = "To: b@example.org\nTo: a@example.org, B@example.org\nTo: Bea <b@example.org>\n\nDear"
        assert _people(_understand([DEDICATED], text)) == [
            ("Bea", "b@example.org", "", True),
            ("", "a@example.org", "", True),
        ]


class TestLines:
    def test_post_belongs_to_the_line_before_it(self) -> None:
        text = f"To: {JANE}\nPost: Rue A\nPost: 75001 Paris\nTo: {JOHN}, x@example.org\nPost: Rue B,\n\nDear"
        assert [to.post for to in _understand([DEDICATED], text).recipients] == ["Rue A, 75001 Paris", "Rue B", "Rue B"]

    def test_post_before_all_belongs_to_all(self) -> None:
        assert [to.post for to in _understand([DEDICATED], f"Post: Rue A\nTo: {JANE}, {JOHN}\n\n").recipients] == [
            "Rue A",
            "Rue A",
        ]
        assert [to.post for to in _understand([_enc(JANE), _enc(JOHN)], "Post: Rue A\n\n").recipients] == [
            "Rue A",
            "Rue A",
        ]

    def test_an_encoded_address_in_a_line(self) -> None:
        understood = _understand([DEDICATED], f"To: Jane <{_enc(JANE, '+fr')}>\n\n")
        assert _people(understood) == [("Jane", JANE, "", True)]
        assert understood.language == "fr"

    @pytest.mark.parametrize(
        "line", ["To:", "To: ,", "To: Jane", "To: jane@", "To: <jane@example.org", f"To: {JANE}, Jane",
        "To: jane@localhost", "To: a@[1.2.3.4]",
                 f"To: {DEDICATED}", f"To: nobody@{LETTERS}", "To: (hello)", f"To: =example.org@{LETTERS}",
                 "To: " + "é" * 400 + "@"],
    )  # fmt: skip
    def test_a_line_that_names_nobody_is_refused(self, line: str) -> None:
        with pytest.raises(BadRecipient) as refused:
            _understand([DEDICATED], f"{line}\n\nDear")
        assert len(refused.value.smtp_reply) < 510
        assert refused.value.smtp_reply.isascii()

    def test_a_letter_may_begin_like_a_line(self) -> None:
        """Where the envelope names the recipients, "To:" without any address is the sender's own text; with one it is not."""
        text = "To: the tenants of this house\nRe: rent\n\nDear all"
        assert _people(_understand([_enc(JANE)], text)) == [("", JANE, "", False)]
        assert _understand([_enc(JANE)], text).problems == ()
        with pytest.raises(BadRecipient):
            _understand([_enc(JANE)], f"To: the tenants, {JOHN}\n\nDear all")

    def test_at_most_a_hundred(self) -> None:
        hundred = [f"a{n}@example.org" for n in range(100)]
        assert len(_understand([DEDICATED], f"To: {', '.join(hundred)}, {hundred[0]}\n\n").recipients) == 100
        with pytest.raises(BadRecipient, match="at most 100"):
            _understand([DEDICATED], "".join(f"To: {one}\n" for one in [*hundred, JANE]))

    def test_many_in_rcpt_are_not_counted_here(self) -> None:
        assert len(_understand([f"a{n}@example.org" for n in range(300)] + [DEDICATED]).recipients) == 300


class TestProblems:
    @pytest.mark.parametrize(
        ("rcpts", "subject", "text", "problems"),
        [
            ([_enc(JANE, "+urgnt")], "x", "", [("unknown_tag", "urgnt")]),
            ([_enc(JANE), "letter+urgnt@pli.example"], "x", "", [("unknown_tag", "urgnt")]),
            ([_enc(JANE)], "[urgnt] x", "", [("unknown_tag", "urgnt")]),
            ([_enc(JANE)], "x", "Language: Klingon\n\n", [("unknown_tag", "klingon")]),
            ([_enc(JANE)], "x", "Language:\n\n", [("unknown_tag", "Language:")]),
            ([_enc(JANE)], "x", "Language: fr\nPriority: high\n\n", [("unknown_tag", "Priority:")]),
            ([_enc(JANE)], "x", "Post:\n\n", [("unknown_tag", "Post:")]),
            ([_enc(JANE)], "[paper] x", "", [("unavailable_tag", "paper")]),
            ([_enc(JANE, "+fr"), _enc(JOHN, "+en")], "x", "", [("language_conflict", "en")]),
            ([_enc(JANE, "+fr")], "[en] x", "Langue: de\n\n", [("unknown_tag", "de"), ("language_conflict", "en")]),
            ([_enc(JANE, "+a+b")], "[c]", "", [("unknown_tag", word) for word in "abc"]),
        ],
    )  # fmt: skip
    def test_what_is_not_understood_holds_the_letter(
        self, rcpts: list[str], subject: str, text: str, problems: list[tuple[str, str]]
    ) -> None:
        understood = _understand(rcpts, text, subject=subject)
        assert understood.problems == tuple(Problem(*one) for one in problems)
        assert understood.recipients

    def test_the_same_option_in_each_gesture(self) -> None:
        ways = [
            _understand([_enc(JANE, "+fr")]), _understand([_enc(JANE)], subject="[FR] A letter"),
            _understand([_enc(JANE)], "Langue : fr\n\nx"),
            _understand(["letter+fr@pli.example"], f"À : {JANE}\n\nx"), _understand([JANE, "letter+FR@pli.example"]),
        ]  # fmt: skip
        assert {(way.language, way.tags, way.subject, way.problems) for way in ways} == {
            ("fr", ("fr",), "A letter", ())
        }

    def test_known_tags_are_hidden_in_the_subject_and_unknown_ones_stay(self) -> None:
        assert _understand([_enc(JANE)], subject="Re: [fr] [Draft] x [CODE]").subject == "Re: [Draft] x"


@given(
    st.lists(st.text(max_size=30) | st.sampled_from([DEDICATED, JANE, _enc(JANE), _enc(JOHN, "+fr"),
        "letter+x@pli.example"]), max_size=4),
    st.text(max_size=80) | st.from_regex(r"(To|Post|Language): ?[a-z@.<>, ]{0,30}\n.{0,20}", fullmatch=True),
    st.text(max_size=40), st.text(max_size=20),
)  # fmt: skip
def test_any_mail_is_understood_or_refused(rcpts: list[str], text: str, to: str, subject: str) -> None:
    try:
        understood = _understand(rcpts, text, to=to, subject=subject)
    except PliError as refused:
        assert isinstance(refused, (BadRecipient, NoRecipient, Stranger))
        return
    assert understood.recipients
    assert understood.gesture in ("encoded", "lines", "copy")
    forms = [comparison_form(to.address) for to in understood.recipients]
    assert len(set(forms)) == len(forms)
