"""The error tree: each class says what its module's drawing says, and no sentence tells of our insides."""

from __future__ import annotations

import re

import pytest

from gateway.core import errors
from gateway.core.errors import Deferred, OurFault, PliError, Refused, TooManyAttempts, TooManyRecipients, Unusable

CLASSES = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, PliError)]
DRAWN = re.findall(r"([A-Z]\w+) +(\d{3})(?: (\d\.\d+\.\d+))?", errors.__doc__ or "")


def test_the_drawing() -> None:
    """An SMTP line has two codes; a single number is an HTTP status."""
    assert len(DRAWN) == 17
    for name, code, enhanced in DRAWN:
        found = getattr(errors, name)
        if enhanced:
            assert (found.smtp_code, found.enhanced) == (int(code), enhanced), name
        else:
            assert found.http_status == int(code), name


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_codes_agree_with_each_other(kind: type[PliError]) -> None:
    """RFC 3463 2: the class of the enhanced code is that of the reply code; 4 is temporary, 5 is not."""
    error = kind(detail="/secret/path")
    reply = error.smtp_reply
    assert re.fullmatch(r"[45]\d\d [45]\.\d{1,3}\.\d{1,3} [ -~]+", reply)
    # RFC 5321 4.5.3.1.10 wants 452 for too many recipients, RFC 3463 has no 4.5.3 in its own words.
    assert reply[0] == kind.enhanced[0] or kind is TooManyRecipients
    assert kind.temporary == (reply[0] == "4")
    assert (
        (issubclass(kind, Refused) and not kind.temporary) or issubclass(kind, (Deferred, Unusable)) or kind is PliError
    )
    assert "secret" not in reply
    assert error.detail == "/secret/path"


def test_a_sentence_of_its_own() -> None:
    assert str(OurFault()) == PliError.sentence
    assert str(TooManyAttempts("Wait.")) == "Wait."


@pytest.mark.parametrize("sentence", ["one\r\n250 two", "é\0\x7f", "x" * 5000])
def test_a_reply_is_one_short_line_of_ascii(sentence: str) -> None:
    reply = Refused(sentence).smtp_reply
    assert re.fullmatch(r"550 5\.0\.0 [ -~]+", reply)
    assert len(reply) <= 510
