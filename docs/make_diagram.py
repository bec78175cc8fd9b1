"""Writes docs/life.md from the life-cycle table (gateway/core/letter.py), so that page and code cannot differ.

`make diagram` runs it; tests/test_docs.py holds the page to its output.
"""

from __future__ import annotations

from pathlib import Path

from gateway.core.letter import FACTS, STEPS, Event, State

PAGE = Path(__file__).with_name("life.md")

_STATES = {
    State.HELD: "taken, but something is missing; nobody has been told of it but the sender",
    State.DEPOSITED: "taken; the notice is on its way",
    State.NOTIFIED: "the recipient's server took a notice; the window runs",
    State.ACCEPTED: "the identified recipient accepted; the bytes may still be on their way",
    State.HANDED_OVER: "the last byte went to the identified recipient",
    State.REFUSED: "the identified recipient refused; the sender stays unknown where the profile says so",
    State.UNCLAIMED: "the window closed without a decision",
    State.UNDELIVERABLE: "no notice reached the recipient's server, or every one came back",
    State.WITHDRAWN: "taken back by the sender before any notice was taken",
    State.DISCARDED: "held, and never completed",
    State.PRINTED: "on paper",
    State.POSTED: "given to the postal operator",
    State.PAPER_DELIVERED: "the postal operator delivered it",
    State.PAPER_REFUSED: "refused at the door",
    State.PAPER_UNCLAIMED: "not fetched from the post office",
    State.PAPER_RETURNED: "came back as undeliverable",
}
_EVENTS = {
    Event.REJECT: "an account's deposit was refused: evidence of its own, and never a letter",
    Event.HOLD: "something is missing",
    Event.DISCARD: "the hold period is over, or the operator ended it",
    Event.DEPOSIT: "the deposit is complete",
    Event.NOTICE_TAKEN: "the recipient's server answered 250 to a notice",
    Event.NOTICE_FAILED: "the notice was refused for good, or ran out of retries",
    Event.REMINDER_TAKEN: "the recipient's server answered 250 to a reminder",
    Event.BOUNCE: "a notice came back after its 250 (profile: late_bounce = record)",
    Event.BOUNCE_CLOSES: "the same (profile: late_bounce = close)",
    Event.ACCEPT: "the recipient accepted, identified",
    Event.CONSIGN: "the content is made available to the identified recipient",
    Event.HAND_OVER: "the last byte was handed over",
    Event.HAND_OVER_FAILED: "a transfer ended before its last byte",
    Event.REFUSE: "the recipient refused, identified",
    Event.LAPSE: "the window closed",
    Event.LAPSE_UNREACHED: "the window closed, and every notice had come back",
    Event.WITHDRAW: "the sender took it back",
    Event.PRINT: "paper was chosen",
    Event.POST: "given to the postal operator",
    Event.PAPER_DELIVER: "delivered",
    Event.PAPER_REFUSE: "refused at the door",
    Event.PAPER_LAPSE: "not fetched",
    Event.PAPER_RETURN: "came back",
    Event.LINK_FETCHED: "somebody, perhaps a link scanner, fetched the link; never called “read”",
    Event.PAGE_SHOWN: "the letter's page was shown to the identified recipient",
    Event.CODE_SENT: "a one-time code was mailed for a choice",
    Event.CODE_LOCKED: "five wrong codes",
    Event.DOWNLOAD_REPEATED: "handed over again",
    Event.ORIGINAL_MAILED: "the original went to the recipient's mailbox, as the recipient asked",
    Event.OUTAGE_BEGAN: "the gateway was out of service from here",
    Event.OUTAGE_ENDED: "and in service again from here",
    Event.PROOF_REISSUED: "a proof was made again",
}

_INTRO = """# The life of a letter

This page is made by `make diagram` from the table in `gateway/core/letter.py`; nothing else in the program changes a state. One
mail to several recipients is one deposit and as many letters: each has a life of its own.
"""


def page() -> str:
    """The text of docs/life.md."""
    parts = [_INTRO, "```mermaid", "stateDiagram-v2"]
    parts += [f"    {_node(start)} --> {_node(end)}: {event}" for (start, event), end in STEPS.items()]
    ends = set(State) - {start for start, _ in STEPS}
    parts += [f"    {state} --> [*]" for state in State if state in ends]
    parts += ["```", "", "## States", "", "| state | meaning |", "| --- | --- |"]
    parts += [f"| `{state}` | {_STATES[state]} |" for state in State]
    parts += [
        "",
        "## Events that move a letter",
        "",
        "| event | what happened | from | to |",
        "| --- | --- | --- | --- |",
    ]
    for event in Event:
        parts += [
            f"| `{event}` | {_EVENTS[event]} | {f'`{start}`' if start else '(nothing)'} | `{end}` |"
            for (start, by), end in STEPS.items()
            if by is event
        ]
    parts += ["", "## Facts", "", "They become evidence in any state and move nothing.", ""]
    parts += ["| event | what happened |", "| --- | --- |"]
    parts += [f"| `{event}` | {_EVENTS[event]} |" for event in Event if event in FACTS]
    return "\n".join(parts) + "\n"


def _node(state: State | None) -> str:
    return "[*]" if state is None else state


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
