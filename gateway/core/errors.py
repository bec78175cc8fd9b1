"""Every error that a user of the gateway can meet, and what each visitor is told about it.

PliError
├── Refused                 the peer's fault, permanent
│   ├── BadPassword         535 5.7.8
│   ├── NotYours            553 5.7.1   From or MAIL FROM is not the account's
│   ├── Stranger            550 5.7.1
│   ├── BadRecipient        550 5.1.3   an address that cannot be read as a recipient
│   ├── NullMx              556 5.1.10
│   ├── NoRecipient         550 5.1.0
│   ├── TooBig              552 5.3.4
│   ├── BadContent          550 5.6.0   bare CR or LF, NUL, Bcc line, doubled headers
│   ├── NotFound            404
│   ├── WrongCode           403
│   ├── NotIdentified       401         a session of an identified recipient is needed
│   ├── WindowClosed        410
│   └── NotAllowed          409         the life-cycle table has no such step
├── Deferred                nobody's fault or ours; the same request may succeed later
│   ├── TooManyRecipients   452 5.5.3
│   ├── TooManyAttempts     429
│   ├── StorageFull         452 4.3.1
│   └── OurFault            451 4.3.0   says nothing about our insides
└── Unusable                configuration or input of a command: exit code 2

`str(error)` is the public sentence; what only the operator may know goes to `detail`.
"""

from __future__ import annotations

from typing import ClassVar


class PliError(Exception):
    """Root of the tree; raised only through its subclasses."""

    smtp_code: ClassVar[int] = 451
    enhanced: ClassVar[str] = "4.3.0"  # RFC 3463
    http_status: ClassVar[int] = 500
    temporary: ClassVar[bool] = True
    sentence: ClassVar[str] = "Something went wrong on our side. Please try again later."

    def __init__(self, sentence: str | None = None, *, detail: str = "") -> None:
        super().__init__(sentence or self.sentence)
        self.detail = detail

    @property
    def smtp_reply(self) -> str:
        """The reply line for an SMTP peer (RFC 5321 4.2, RFC 3463), always one line of printable ASCII."""
        text = "".join(c if " " <= c <= "~" else "?" for c in str(self))
        return f"{self.smtp_code} {self.enhanced} {text}"[:510]  # RFC 5321 4.5.3.1.5: 512 octets with CRLF


class Refused(PliError):
    smtp_code, enhanced, http_status, temporary = 550, "5.0.0", 400, False
    sentence = "This request cannot be taken as it is."


class BadPassword(Refused):
    smtp_code, enhanced, http_status = 535, "5.7.8", 403
    sentence = "Authentication failed: check the address and the app password."


class NotYours(Refused):
    smtp_code, enhanced, http_status = 553, "5.7.1", 403
    sentence = "MAIL FROM and the From header must be an address of the account that logged in."


class Stranger(Refused):
    smtp_code, enhanced, http_status = 550, "5.7.1", 403
    sentence = "We do not take mail from strangers here."


class BadRecipient(Refused):
    smtp_code, enhanced = 550, "5.1.3"
    sentence = "This recipient address cannot be read."


class NullMx(Refused):
    smtp_code, enhanced = 556, "5.1.10"  # RFC 7505 3
    sentence = "The recipient's domain says that it takes no mail (null MX)."


class NoRecipient(Refused):
    smtp_code, enhanced = 550, "5.1.0"
    sentence = "No recipient found: start the text with a line such as  To: Jane Doe <jane.doe@example.org>"


class TooBig(Refused):
    smtp_code, enhanced, http_status = 552, "5.3.4", 413
    sentence = "The message is larger than this gateway takes."


class BadContent(Refused):
    smtp_code, enhanced = 550, "5.6.0"
    sentence = "The message has a form that cannot be handed over unchanged."


class NotFound(Refused):
    http_status = 404
    sentence = "There is nothing here."


class WrongCode(Refused):
    http_status = 403
    sentence = "This code is not right, or it is no longer valid."


class NotIdentified(Refused):
    http_status = 401
    sentence = "Please confirm first that you are the recipient."


class WindowClosed(Refused):
    http_status = 410
    sentence = "The last day for a decision has passed."


class NotAllowed(Refused):
    http_status = 409
    sentence = "The letter is in a state that does not allow this."


class Deferred(PliError):
    smtp_code, enhanced, http_status, temporary = 451, "4.3.0", 503, True


class TooManyRecipients(Deferred):
    smtp_code, enhanced = 452, "5.5.3"  # RFC 5321 4.5.3.1.10, RFC 3463 X.5.3
    sentence = "Too many recipients in one transaction; send the rest in another."


class TooManyAttempts(Deferred):
    smtp_code, enhanced, http_status = 421, "4.7.0", 429
    sentence = "Too many attempts. Please wait a while and try again."


class StorageFull(Deferred):
    smtp_code, enhanced, http_status = 452, "4.3.1", 507
    sentence = "No room to store the message now; please try again later."


class OurFault(Deferred):
    pass


class Unusable(PliError):
    """Input of a command that cannot be used; `pli` prints the sentence and exits with 2."""

    smtp_code, enhanced, http_status, temporary = 451, "4.3.0", 500, True
