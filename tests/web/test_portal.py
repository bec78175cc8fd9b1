"""A recipient's way through the portal, over real sockets and without JavaScript: looking decides nothing, the code does."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from gateway.core.letter import State
from tests.web.browser import Browser
from tests.web.stand_in import CODE, LETTER, NOW, TOKEN, StandIn, session, showing

L = f"/l/{TOKEN}"


async def decide(browser: Browser, choice: str, code: str = CODE) -> tuple[int, str]:
    page = await browser.get(L)
    page = await browser.post(f"{L}/choice", {"choice": choice, "nonce": page.nonce})
    assert page.status == 200
    answer = await browser.post(f"{L}/decision", {"choice": choice, "code": code, "nonce": page.nonce})
    return answer.status, answer.headers.get("location", answer.text)


async def test_the_first_page_says_what_is_to_be_known_before_deciding(browser: Browser) -> None:
    page = await browser.get(L)
    assert page.status == 200
    for words in (
        "ABCDE-FGHJK",
        "j•••@example.com",
        "until Thursday 16 July 2026",
        "Paris time",
        "Example Post",
        "+33 1 99",
    ):
        assert words in page.text
    assert re.findall(r'<button name="choice" value="(\w+)"', page.text) == ["accept", "refuse"]


async def test_nothing_of_the_sender_is_on_any_page_before_acceptance(browser: Browser, counter: StandIn) -> None:
    pages = [await browser.get(L), await browser.post(f"{L}/choice", {"choice": "accept", "nonce": showing().nonce})]
    pages += [
        await browser.get(f"{L}/{path}") for path in ("letter", "letter.eml", "letter.zip", "parts/1", "receipt.pdf")
    ]
    counter.letters[TOKEN] = showing(state=State.REFUSED, open=False, decision="refuse", decided_at=NOW)
    pages.append(await browser.get(L))
    for page in pages:
        for words in ("Jane", "jane.doe", "termination", "example.org"):
            assert words not in page.text


@pytest.mark.parametrize(("choice", "to"), [("accept", f"{L}/letter"), ("refuse", L)])
async def test_a_choice_and_its_code_decide(browser: Browser, counter: StandIn, choice: str, to: str) -> None:
    assert await decide(browser, choice) == (303, to)
    assert counter.done == [("code", choice), ("decided", choice)]


async def test_the_cookie_is_one_for_this_letter_out_of_reach_of_scripts_and_of_other_sites(browser: Browser) -> None:
    page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": (await browser.get(L)).nonce})
    answer = await browser.post(f"{L}/decision", {"choice": "accept", "code": CODE, "nonce": page.nonce})
    (cookie,) = answer.cookies
    assert re.fullmatch(rf"pli-[0-9a-f]{{12}}={session(TOKEN)}; HttpOnly; Path=/; SameSite=lax", cookie)
    assert TOKEN not in cookie.partition("=")[0]


async def test_a_decision_already_made_is_shown_and_stands(browser: Browser, counter: StandIn) -> None:
    await decide(browser, "refuse")
    for path, form in (("choice", {"choice": "accept"}), ("decision", {"choice": "accept", "code": "000000"})):
        answer = await browser.post(f"{L}/{path}", {**form, "nonce": showing().nonce})
        assert (answer.status, "This letter was refused" in answer.text, answer.cookies) == (200, True, [])
    assert counter.letters[TOKEN].decision == "refuse"


async def test_a_wrong_code_leaves_the_form_standing_and_the_right_one_still_works(
    browser: Browser, counter: StandIn
) -> None:
    page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": (await browser.get(L)).nonce})
    for _ in range(4):
        page = await browser.post(f"{L}/decision", {"choice": "accept", "code": "000000", "nonce": page.nonce})
        assert page.status == 403
        assert 'id="code"' in page.text
        assert 'role="alert"' in page.text
        assert 'aria-invalid="true"' in page.text
    answer = await browser.post(f"{L}/decision", {"choice": "accept", "code": CODE, "nonce": page.nonce})
    assert answer.status == 303


async def test_the_fifth_wrong_code_says_that_another_is_needed(browser: Browser) -> None:
    page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": (await browser.get(L)).nonce})
    for _ in range(5):
        page = await browser.post(f"{L}/decision", {"choice": "accept", "code": "000000", "nonce": page.nonce})
    assert (page.status, "fifth wrong try" in page.text) == (403, True)


async def test_a_fourth_code_is_refused_and_the_third_can_still_be_typed(browser: Browser) -> None:
    first = await browser.get(L)
    for _ in range(3):
        page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": first.nonce})
    page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": first.nonce, "kept": page.nonce})
    assert (page.status, page.headers["retry-after"]) == (429, "600")
    answer = await browser.post(f"{L}/decision", {"choice": "accept", "code": CODE, "nonce": page.nonce})
    assert answer.status == 303


async def test_forms_without_code_or_nonce_change_nothing(browser: Browser, counter: StandIn) -> None:
    page = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": (await browser.get(L)).nonce})
    before = list(counter.done)
    for path, form in (
        ("decision", {"choice": "accept", "nonce": page.nonce}),
        ("decision", {"choice": "accept", "nonce": page.nonce, "code": " "}),
        ("decision", {"choice": "accept", "nonce": "", "code": CODE}),
        ("decision", {}),
        ("choice", {"choice": "accept"}),
        ("choice", {"choice": "accept", "nonce": "wrong"}),
    ):
        assert (await browser.post(f"{L}/{path}", form)).status == 403
    assert (await browser.post(f"{L}/choice", {"nonce": showing().nonce, "choice": "burn"})).status == 400
    assert (counter.done, counter.tries) == (before, 0)


async def test_looking_by_get_and_head_changes_nothing(browser: Browser, counter: StandIn) -> None:
    paths = [
        "",
        "/",
        "/choice",
        "/decision",
        "/letter",
        "/letter.eml",
        "/letter.zip",
        "/parts/1",
        "/receipt.pdf",
        "/original",
    ]
    for path in paths:
        got, head = await browser.get(L + path), await browser.get(L + path, "HEAD")
        assert (head.status, head.body) == (got.status, b"")
        assert {k: v for k, v in head.headers.items() if k != "date"} == {
            k: v for k, v in got.headers.items() if k != "date"
        }
    assert (counter.done, counter.letters) == ([], {TOKEN: showing()})


@pytest.mark.parametrize("headers", [{"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://elsewhere.test"}])
async def test_forms_of_other_sites_are_refused(browser: Browser, counter: StandIn, headers: dict[str, str]) -> None:
    form = {"choice": "accept", "nonce": showing().nonce}
    assert (await browser.post(f"{L}/choice", form, **headers)).status == 403
    assert counter.done == []


@pytest.mark.parametrize(
    "headers", [{"Sec_Fetch_Site": "same-origin", "Origin": "null"}, {"Origin": "https://pli.test"}]
)
async def test_our_own_forms_are_taken_as_browsers_send_them(browser: Browser, headers: dict[str, str]) -> None:
    assert (await browser.post(f"{L}/choice", {"choice": "accept", "nonce": showing().nonce}, **headers)).status == 200


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        (State.DEPOSITED, 200, "still on its way"),
        (State.UNCLAIMED, 410, "This letter is closed"),
        (State.UNDELIVERABLE, 410, "did not reach"),
        (State.NOTIFIED, 410, "This letter is closed"),  # the window is over, and the sweep has not come yet
        (State.PRINTED, 410, "This letter is closed"),
    ],
)
async def test_a_letter_that_cannot_be_decided_says_so(
    browser: Browser, counter: StandIn, state: State, status: int, words: str
) -> None:
    counter.letters[TOKEN] = showing(state=state, open=False)
    page = await browser.get(L)
    assert (page.status, words in page.text, "<button" in page.text) == (status, True, False)
    answer = await browser.post(f"{L}/choice", {"choice": "accept", "nonce": showing().nonce})
    assert answer.status == (409 if state == State.DEPOSITED else 410)


async def test_an_unknown_token_is_404_everywhere(browser: Browser) -> None:
    for path in ("", "/letter", "/letter.eml", "/parts/1", "/receipt.pdf"):
        assert (await browser.get("/l/unknown" + path)).status == 404
    for path in ("choice", "decision"):
        assert (await browser.post(f"/l/unknown/{path}", {"choice": "accept", "nonce": "x", "code": "1"})).status == 404


async def test_after_acceptance_the_letter_is_shown_and_handed_out_byte_for_byte(
    browser: Browser, counter: StandIn
) -> None:
    await decide(browser, "accept")
    page = await browser.get(f"{L}/letter")
    for words in (
        "Jane Doe",
        "jane.doe@example.org",
        "Notice of termination",
        "Dear Sir",
        "ab" * 32,
        "Wednesday 1 July 2026",
    ):
        assert words in page.text
    assert (
        '<a href="https://example.org/terms" rel="noopener noreferrer nofollow">https://example.org/terms</a>.'
        in page.text
    )
    eml = await browser.get(f"{L}/letter.eml")
    assert (eml.body, eml.headers["content-type"]) == (LETTER, "message/rfc822")
    assert (await browser.get(f"{L}/receipt.pdf")).body.startswith(b"%PDF")
    await asyncio.sleep(0.05)
    assert counter.done[2:] == [("handed over", "page"), ("handed over", "eml")]


async def test_without_a_session_an_accepted_letter_is_read_again_by_a_code(browser: Browser, counter: StandIn) -> None:
    await decide(browser, "accept")
    browser.cookies = dict.fromkeys(browser.cookies, "of-another-time-and-place")
    page = await browser.get(f"{L}/letter")
    assert (page.status, "Jane" in page.text) == (401, False)
    assert 'value="read"' in page.text
    page = await browser.post(f"{L}/choice", {"choice": "read", "nonce": page.nonce})
    answer = await browser.post(f"{L}/decision", {"choice": "read", "code": CODE, "nonce": page.nonce})
    assert (answer.status, answer.headers["location"]) == (303, f"{L}/letter")
    assert (await browser.get(f"{L}/letter")).status == 200


async def test_after_refusal_a_session_opens_the_receipt_and_never_the_letter(browser: Browser) -> None:
    await decide(browser, "refuse")
    assert "receipt.pdf" in (await browser.get(L)).text
    assert (await browser.get(f"{L}/receipt.pdf")).status == 200
    for path in ("letter", "letter.eml", "letter.zip", "parts/1"):
        page = await browser.get(f"{L}/{path}")
        assert (page.status, b"Dear Sir" in page.body) == (409, False)


async def test_the_original_is_mailed_on_a_form_with_its_nonce_alone(browser: Browser, counter: StandIn) -> None:
    await decide(browser, "accept")
    assert (await browser.post(f"{L}/original", {"nonce": "wrong"})).status == 403
    assert ("original",) not in counter.done
    page = await browser.get(f"{L}/letter")
    assert (await browser.post(f"{L}/original", {"nonce": page.nonce})).status == 200
    assert ("original",) in counter.done


async def test_one_browser_can_hold_two_letters(browser: Browser, counter: StandIn) -> None:
    other = TOKEN[::-1]
    counter.letters[other] = replace(showing(), state=State.ACCEPTED, open=False, decision="accept")
    await decide(browser, "accept")
    page = await browser.post(f"/l/{other}/choice", {"choice": "read", "nonce": showing().nonce})
    await browser.post(f"/l/{other}/decision", {"choice": "read", "code": CODE, "nonce": page.nonce})
    assert len(browser.cookies) == 2
    for token in (TOKEN, other):
        assert (await browser.get(f"/l/{token}/letter")).status == 200


async def test_a_typed_reference_and_code_lead_to_the_letter(browser: Browser) -> None:
    answer = await browser.post("/", {"reference": "abcde-fghjk", "code": "ABCDEFGHJKMN"})
    assert (answer.status, answer.headers["location"]) == (303, L)
    wrong = await browser.post("/", {"reference": '"><b>', "code": "x"})
    assert (wrong.status, "<b>" in wrong.text) == (404, False)
    assert (await browser.post("/", {"reference": "x", "code": "too often"})).status == 429
