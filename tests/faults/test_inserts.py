"""Each table's INSERT is made to fail by a trigger in the real database, in each of a letter's steps.

Nothing is half written, the peer is told to come back (451 4.3.0), the visitor that we are at fault (503), with a form that
still works; once the trigger is gone all goes on, without a restart.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.blackbox.drive import pli
from tests.faults.base import FAILURES
from tests.faults.scene import Scene, scene, until

OF_A_STEP = ("ledger", "evidence_body", "batch", "intent")
_SECOND = {  # conditions on a row that speaks of a letter's second record, the notice that was taken
    "ledger": "NEW.n = 2",
    "evidence_body": "NEW.n = 2",
    "intent": "NEW.n = 2",
    "batch": "EXISTS (SELECT 1 FROM ledger WHERE batch_id = NEW.id AND n = 2)",
    "attempt": "EXISTS (SELECT 1 FROM intent WHERE id = NEW.intent_id AND kind = 'notice')",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("inserts") / "s") as made:
        yield made


@pytest.mark.parametrize("manner", FAILURES)
@pytest.mark.parametrize("table", ["deposit", "vault_key", "letter", *OF_A_STEP, "message_bytes"])
def test_a_deposit(gateway: Scene, table: str, manner: str) -> None:
    if table == "message_bytes" and not gateway.base.url:
        pytest.skip("message bytes stand in files beside SQLite: test_disks.py")
    first, second = gateway.mail(), gateway.mail()
    gateway.quiet()
    before = gateway.base.rows()
    with gateway.base.failing(table, manner):
        for message_id in (first, second):
            code, text = gateway.hand_in(message_id)
            assert (code, text[:6]) == (451, "4.3.0 "), text
            assert "fault" not in text
        assert gateway.base.rows() == before, "something was left of it"
    for message_id in (first, second):
        assert gateway.hand_in(message_id)[0] == 250


@pytest.mark.parametrize("manner", FAILURES)
@pytest.mark.parametrize("table", list(_SECOND))
def test_a_notice(gateway: Scene, table: str, manner: str) -> None:
    """The letter waits. A mail that had gone is not sent again: its end is recorded once it can be."""
    to = f"notice-{table}-{manner}@example.net"
    failed = gateway.log("mail put back" if table == "attempt" else "end of a mail not recorded")
    with gateway.base.failing(table, manner, _SECOND[table]):
        gateway.deposit(to)
        until(failed, "nothing failed")
        assert gateway.state(to) == "deposited"
    gateway.clock(120 if table == "attempt" else 0)
    gateway.until_state(to, "notified")
    assert len([mail for mail in gateway.world.all() if mail.rcpt_to == to]) == 1


@pytest.mark.parametrize("manner", FAILURES)
@pytest.mark.parametrize("table", [*OF_A_STEP, "code"])
def test_a_choice(gateway: Scene, table: str, manner: str) -> None:
    to = f"choice-{table}-{manner}@example.net"
    link = gateway.letter(to)
    with gateway.base.failing(table, manner):
        failed = gateway.choose(link, "accept")
        assert failed.status == 503
        assert "Something went wrong on our side" in failed.text
        assert "fault" not in failed.text
    # The same form, from the page that told of the error.
    form = gateway.choose(link, "accept", failed)
    assert form.status == 200
    assert gateway.decide(link, "accept", gateway.code(to), form).status == 303


@pytest.mark.parametrize("manner", FAILURES)
@pytest.mark.parametrize("table", OF_A_STEP)
def test_a_decision(gateway: Scene, table: str, manner: str) -> None:
    to = f"decision-{table}-{manner}@example.net"
    link = gateway.letter(to)
    form = gateway.choose(link, "refuse")
    code = gateway.code(to)
    with gateway.base.failing(table, manner):
        failed = gateway.decide(link, "refuse", code, form)
        assert failed.status == 503
        assert "Nothing was decided" in failed.text
        assert gateway.state(to) == "notified"
    assert gateway.decide(link, "refuse", code, form).status == 303
    assert gateway.state(to) == "refused"


@pytest.mark.parametrize("manner", FAILURES)
def test_a_decision_whose_session_cannot_be_kept_is_not_called_undecided(gateway: Scene, manner: str) -> None:
    to = f"session-{manner}@example.net"
    link = gateway.letter(to)
    form = gateway.choose(link, "accept")
    with gateway.base.failing("portal_session", manner):
        failed = gateway.decide(link, "accept", gateway.code(to), form)
        assert failed.cookie == ""
        assert gateway.state(to) in ("accepted", "notified")
        if gateway.state(to) == "accepted":
            assert "Nothing was decided" not in failed.text
    # He identifies himself again, and reads.
    again = "read" if gateway.state(to) == "accepted" else "accept"
    form = gateway.choose(link, again, gateway.get(link))
    done = gateway.decide(link, again, gateway.code(to, 2), form)
    assert done.status == 303
    assert gateway.get(f"{link}/letter", done.cookie).status == 200
    gateway.until_state(to, "handed_over")


@pytest.mark.parametrize("manner", FAILURES)
@pytest.mark.parametrize("table", OF_A_STEP)
def test_a_hand_over(gateway: Scene, table: str, manner: str) -> None:
    """The bytes went; the promise is tried again, and a later download is the hand-over where it could not be kept."""
    to = f"handover-{table}-{manner}@example.net"
    link = gateway.letter(to)
    form = gateway.choose(link, "accept")
    done = gateway.decide(link, "accept", gateway.code(to), form)
    failed = gateway.log("hand-over not recorded")
    with gateway.base.failing(table, manner):
        assert gateway.get(f"{link}/letter", done.cookie).status == 200
        until(failed, "the hand-over did not fail")
        assert gateway.state(to) == "accepted"
    gateway.until_state(to, "handed_over")


@pytest.mark.parametrize("manner", FAILURES)
def test_a_proof(gateway: Scene, manner: str) -> None:
    """The status mail that carries it waits, and carries it later."""
    to = f"proof-{manner}@example.net"
    failed = gateway.log("mail put back")
    with gateway.base.failing("proof", manner):
        gateway.deposit(to)
        gateway.until_state(to, "notified")
        until(failed, "no mail was put back")
    gateway.clock(120)

    def told() -> bool:
        mails = [mail.message for mail in gateway.world.all() if mail.rcpt_to == "jane.doe@example.org"]
        found = [mail for mail in mails if to in str(mail) and mail["Pli-Event"] == "deposited"]
        return ["proof.pdf" in {part.get_filename() for part in mail.walk()} for mail in found] == [True]

    until(told, "the sender never got his proof of deposit, or more than one mail of it")


@pytest.mark.parametrize("manner", FAILURES)
def test_a_refused_deposit(gateway: Scene, manner: str) -> None:
    """Its evidence cannot be written: the refusal waits until it can."""
    message_id = gateway.mail()
    gateway.sent[message_id] = gateway.sent[message_id].replace(b"Subject:", b"Bcc: hidden@example.org\r\nSubject:")
    with gateway.base.failing("evidence_body", manner):
        assert gateway.hand_in(message_id)[0] == 451
    assert gateway.hand_in(message_id)[0] == 550


@pytest.mark.parametrize("table", ["account", "account_address", "app_password"])
def test_an_account(gateway: Scene, table: str) -> None:
    """The command says so, and the account is there whole or not at all."""
    address = f"{table.replace('_', '-')}@example.org"
    with gateway.base.failing(table, "break"):
        done = pli("account", "add", address, "--name", "John Roe", config=gateway.where.config)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert pli("account", "add", address, "--name", "John Roe", config=gateway.where.config).returncode == 0


def test_every_table_was_tried(gateway: Scene) -> None:
    tried = {"deposit", "vault_key", "letter", *OF_A_STEP, "attempt", "code", "portal_session", "proof"}
    tried |= {"account", "account_address", "app_password"}
    # The journal of the gateway itself is tried where it is written: test_clock.py. Message bytes stand in a table on PostgreSQL.
    assert tried | {"journal", "message_bytes"} >= set(gateway.base.tables())
