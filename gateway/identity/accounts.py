"""Senders' accounts: opening one, app passwords, and who stands behind an SMTP login.

App passwords are generated (160 bits), found by prefix and kept as keyed HMAC-SHA-256: nothing slow is needed at each SMTP
session, because nobody chose them. Not here: identity checks beyond the operator's word.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.address import check_address, comparison_form
from gateway.core.errors import BadPassword, PliError, Refused, Unusable
from gateway.intake.desk import Account
from storage import accounts
from storage.accounts import AccountRow, Login
from storage.database import Conflict, Database

_PREFIX = 8


@dataclass(frozen=True)
class Accounts:
    """The book of accounts. password_key: 32 bytes, the HMAC key of stored app passwords."""

    database: Database
    password_key: bytes

    async def open(
        self,
        address: str,
        name: str,
        now: datetime,
        *,
        language: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Open an account and return its id. Raises Unusable for a bad address, a bad name or an address that is taken."""
        try:
            address = check_address(address)
        except PliError as error:
            raise Unusable(f"{address}: an account needs a mail address, such as jane.doe@example.org") from error
        name = _checked_name(name)
        account_id, vault = secrets.token_hex(16), self.database.vault
        index = self._index(address)
        try:
            async with self.database.transaction():
                await accounts.add(
                    vault, account_id, address, index, language, {"name": name, **dict(details or {})}, now
                )
        except Conflict as error:
            raise Unusable(f"{address}: an account with this address exists already") from error
        return account_id

    async def make_password(self, account_id: str, label: str, now: datetime, given: str | None = None) -> str:
        """A new app password, shown this once. *given*: a secret made elsewhere, of at least 26 characters.

        Raises Unusable where *given* is too short or its first characters are taken.
        """
        secret = given or base64.b32encode(secrets.token_bytes(20)).decode().lower()
        self.check_given(secret)
        try:
            await accounts.add_password(
                self.database.vault,
                secrets.token_hex(16),
                account_id,
                secret[:_PREFIX],
                self._digest(secret),
                label,
                now,
            )
        except Conflict as error:
            raise Unusable("another app password begins with the same 8 characters; choose another") from error
        return secret

    async def renew_password(self, account_id: str, now: datetime, given: str | None = None) -> str:
        """A new app password, and the end of all earlier ones. Raises Unusable as make_password."""
        if given is not None:
            self.check_given(given)
        async with self.database.transaction():
            await accounts.revoke_passwords(account_id, now)
            return await self.make_password(account_id, "renewed", now, given)

    async def change(
        self, row: AccountRow, *, name: str | None = None, language: str | None = None, state: str | None = None
    ) -> None:
        """Change an account from now on: records that exist keep what was true then. state: active or closed."""
        details = None if name is None else {**row.details, "name": _checked_name(name)}
        await accounts.change(self.database.vault, row.id, state=state, language=language, details=details)

    def check_given(self, secret: str) -> None:
        """Raises Unusable for an app password that could be guessed or typed wrongly."""
        if not 26 <= len(secret) <= 200 or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise Unusable(
                "the app password must be 26 to 200 printable ASCII characters without blanks; or let Pli make one"
            )

    async def authenticate(self, username: str, password: str) -> Account:
        """The account behind an SMTP login: an address of it and one of its app passwords. Raises BadPassword."""
        if not password.isascii() or not password.isprintable():
            raise BadPassword  # no app password is such a text, and PostgreSQL could not even look for some of them
        found = await accounts.login(self.database.vault, password[:_PREFIX])
        right = hmac.compare_digest(self._digest(password), found.digest if found else "")
        if found is None or not right or found.state != "active":
            raise BadPassword
        account = _account(found)
        try:
            if comparison_form(username.strip()) not in account.addresses:
                raise BadPassword
        except Refused as error:
            raise BadPassword from error
        return account

    async def get(self, account_id: str) -> AccountRow | None:
        return await accounts.account(self.database.vault, account_id)

    async def by_address(self, address: str) -> AccountRow | None:
        account_id = await accounts.by_index(self._index(address))
        return None if account_id is None else await self.get(account_id)

    async def all(self) -> list[AccountRow]:
        return await accounts.accounts(self.database.vault)

    def _index(self, address: str) -> str:
        return self.database.vault.index("address", comparison_form(address))

    def _digest(self, secret: str) -> str:
        return hmac.new(self.password_key, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > 200 or not name.isprintable():
        raise Unusable("--name: give the sender's first and last name, or company name, in at most 200 characters")
    return name


def _account(found: Login) -> Account:
    addresses = frozenset(comparison_form(address) for address in found.addresses)
    return Account(id=found.account_id, addresses=addresses, name=str(found.details["name"]))
