"""Deposits that were refused to an account: evidence without a letter (EN 319 522-1 A.2, SubmissionRejection).

A chain of one record, so that a sender's "I handed it in" can be answered. Strangers leave no evidence: they get the SMTP reply.
Not here: why a mail is refused (intake/, mime.py, deposits.py).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import structlog

from gateway import mime
from gateway.core.errors import Refused
from gateway.core.letter import Event, Letter, after
from gateway.deposits import subject
from gateway.intake.desk import Account, Envelope, Origin
from gateway.links import random_reference
from gateway.office import Office
from gateway.register import Entry, Rejected
from storage.blobs import Spool

_log = structlog.get_logger("rejections")
_MOST = 200
"""Recipients that the record names."""


@dataclass(frozen=True)
class Rejections:
    office: Office

    async def record(
        self, account: Account, envelope: Envelope, origin: Origin, spool: Spool | None, error: Refused
    ) -> None:
        """spool: the whole message, or None where its end was never kept. Raises OurFault where nothing can be written."""
        chain, at = secrets.token_hex(16), self.office.clock.now()
        content: dict[str, Any] = {"sha256": None, "size": None, "message_id": None}
        if spool is not None:
            head = mime.read_head(spool.head)
            content = {"sha256": spool.sha256, "size": spool.size, "message_id": head.message_id}
        about = subject(
            self.office,
            chain,
            random_reference(16),
            account,
            envelope,
            origin,
            {"name": "", "address": ""},
            content,
        )
        facts = {
            "reply": error.smtp_reply,
            "mail_from": envelope.mail_from,
            "envid": envelope.envid,
            "recipients": [recipient.address for recipient in envelope.recipients[:_MOST]],
            "origin": origin.facts(),
        }
        entry = Entry(Event.REJECT, after(Letter(None), Event.REJECT, at), at, facts)
        await self.office.register.commit([Rejected(chain, about, entry)])
        _log.info("deposit refused", letter=chain, reply=error.smtp_reply)
