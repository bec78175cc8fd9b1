"""Domains: one written form for each, and no form for what is none."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.domain import ascii_domain
from gateway.core.errors import BadRecipient


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("example.org", "example.org"), ("EXAMPLE.Org", "example.org"), ("a-b.c1.example", "a-b.c1.example"),
        ("bücher.example", "xn--bcher-kva.example"), ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"), ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"), ("straße.example", "xn--strae-oqa.example"),
        ("strasse.example", "strasse.example"), ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ．org", "example.org"),
        ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"), ("उदाहरण.परीक्षा", "xn--p1b6ci4b4b3a.xn--11b5bs3a9aj6g"),
        ("123.example", "123.example"), ("l·l.example", "xn--ll-0ea.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)  # fmt: skip
def test_one_form(written: str, name: str) -> None:
    assert ascii_domain(written) == name


@pytest.mark.parametrize(
    "written",
    [
        "", "org", ".", "a..b", ".example.org", "example.org.", "exa mple.org", "exam_ple.org", "-a.example",
        "a-.example", "a.1",
        "127.0.0.1", "[127.0.0.1]", "[IPv6:::1]", "a" * 64 + ".example", ("a" * 60 + ".") * 5 + "org",
        "a." * 600 + "org",
        "ü" * 63 + ".example", "ü" * 64 + ".example", "-ü.example", "ü-.example", "ab--ü.example", "\u0301a.example",
        "a\u202eb.example", "☃.example", "a\0.example", "a/b.example", "a@b.example", "xn--.example", "xn--a.example",
        "xn--bcher-kva-.example", "xn--99999999.example", "xn--example-.org", "xn--Bcher-Kvb1.example",
        "ü\u00ad.example",
        "xn--strae-oqa1.example", "a\n.example", "example.org\n",
    ],
    ids=lambda text: ascii(text[:30]),
)  # fmt: skip
def test_no_form(written: str) -> None:
    with pytest.raises(BadRecipient) as refused:
        ascii_domain(written)
    assert str(refused.value).endswith((".", "example.org"))


@given(st.text(max_size=80) | st.from_regex(r"([a-zA-Z0-9é-]{1,20}\.){1,4}[a-zA-Zé]{2,8}", fullmatch=True))
@example("xn--" + "9" * 60 + ".example")
@example("İ.example")
@example("K.example")
def test_a_form_is_ascii_lower_case_and_its_own_form(written: str) -> None:
    try:
        name = ascii_domain(written)
    except BadRecipient:
        return
    assert name.isascii()
    assert name == name.lower()
    assert len(name) <= 253
    assert all(0 < len(label) <= 63 for label in name.split("."))
    assert ascii_domain(name) == name
    assert ascii_domain(name.upper()) == name


@given(st.from_regex(r"[a-zà-öø-ÿœα-ωа-я]{1,12}", fullmatch=True))
def test_labels_agree_with_another_implementation(label: str) -> None:
    """The standard library's codec (IDNA 2003), where the two standards agree: letters without mapping differences."""
    if not set(label) & set("ßςµ"):
        assert ascii_domain(f"{label}.example") == f"{label}.example".encode("idna").decode()
