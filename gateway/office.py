"""What every clerk of the post office has at hand: settings, profile, clock, register, blobs, keys. Built by __main__ alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.core.profile import Profile
from gateway.links import Links
from storage.vault import Vault

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.dispatch.compose import House
    from gateway.dispatch.returns import Returns
    from gateway.proof.bundle import Press
    from gateway.proof.keys import Keys
    from gateway.register import Register
    from gateway.settings import Settings
    from storage.blobs import Store


@dataclass(frozen=True)
class Office:
    settings: Settings
    profile: Profile
    clock: Clock
    vault: Vault
    register: Register
    blobs: Store
    keys: Keys
    links: Links
    returns: Returns
    house: House
    press: Press

    def message_id(self, *, to_recipient: bool) -> str:
        """A new Message-ID; mails to recipients never name the domain of senders' business (CPCE R.53-3 I)."""
        gateway = self.settings.gateway
        domain = gateway.notice_domain if to_recipient else gateway.domain
        return f"<{os.urandom(16).hex()}@{domain}>"

    def link(self, token: str) -> str:
        return f"{self.settings.gateway.public_url.rstrip('/')}/l/{token}"
