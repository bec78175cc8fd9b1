"""Senders' accounts, their addresses and app passwords, and the journal of the gateway itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tortoise.connection import get_connection

from storage.tables import Account, AccountAddress, AppPassword, Journal
from storage.vault import Vault


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: str
    state: str
    language: str | None
    created_at: datetime
    details: dict[str, Any]
    addresses: tuple[str, ...]  # as given by the account holder


@dataclass(frozen=True, slots=True)
class Login:
    """An app password's digest, and the account behind it."""

    digest: str
    account_id: str
    state: str
    details: dict[str, Any]
    addresses: tuple[str, ...]


_LOGIN = """
SELECT p.digest, a.id, a.state, a.details, x.address FROM app_password p
JOIN account a ON a.id = p.account_id JOIN account_address x ON x.account_id = a.id
WHERE p.prefix = {} AND p.revoked_at IS NULL ORDER BY x.id
"""


async def add(
    vault: Vault,
    account_id: str,
    address: str,
    index: str,
    language: str | None,
    details: Mapping[str, Any],
    now: datetime,
) -> None:
    """Inside a transaction. Raises IntegrityError where another account has the address. index: keyed comparison form."""
    await Account.create(
        id=account_id,
        state="active",
        language=language,
        created_at=now,
        details=vault.seal_json(dict(details), f"account/{account_id}"),
    )
    await AccountAddress.create(
        account_id=account_id,
        address_index=index,
        address=vault.seal(address.encode(), f"address/{account_id}"),
        proven_at=now,
    )


async def add_password(
    vault: Vault, password_id: str, account_id: str, prefix: str, digest: str, label: str, now: datetime
) -> None:
    await AppPassword.create(
        id=password_id,
        account_id=account_id,
        prefix=prefix,
        digest=digest,
        created_at=now,
        details=vault.seal_json({"label": label}, f"password/{password_id}"),
    )


async def revoke_passwords(account_id: str, now: datetime) -> int:
    """Revoke every app password of an account; returns how many there were."""
    return await AppPassword.filter(account_id=account_id, revoked_at=None).update(revoked_at=now)


async def change(
    vault: Vault,
    account_id: str,
    *,
    state: str | None = None,
    language: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Change what is given of an account."""
    columns: dict[str, Any] = {} if state is None else {"state": state}
    if language is not None:
        columns["language"] = language
    if details is not None:
        columns["details"] = vault.seal_json(dict(details), f"account/{account_id}")
    await Account.filter(id=account_id).update(**columns)


async def login(vault: Vault, prefix: str) -> Login | None:
    """What the app password with this prefix opens, unless revoked: one query, since every connection asks."""
    connection = get_connection("default")
    mark = "?" if connection.capabilities.dialect == "sqlite" else "$1"
    found = await connection.execute_query_dict(_LOGIN.format(mark), [prefix])
    if not found:
        return None
    row = found[0]
    addresses = tuple(vault.open(bytes(a["address"]), f"address/{row['id']}").decode() for a in found)
    details = vault.open_json(bytes(row["details"]), f"account/{row['id']}")
    return Login(row["digest"], row["id"], row["state"], details, addresses)


async def by_index(index: str) -> str | None:
    row = await AccountAddress.get_or_none(address_index=index)
    return None if row is None else row.account_id


async def account(vault: Vault, account_id: str) -> AccountRow | None:
    row = await Account.get_or_none(id=account_id)
    if row is None:
        return None
    found = await AccountAddress.filter(account_id=account_id).order_by("id")
    addresses = tuple(vault.open(bytes(a.address), f"address/{account_id}").decode() for a in found)
    details = vault.open_json(bytes(row.details), f"account/{account_id}")
    return AccountRow(row.id, row.state, row.language, row.created_at, details, addresses)


async def accounts(vault: Vault) -> list[AccountRow]:
    ids = await Account.all().order_by("created_at").values_list("id", flat=True)
    found = [await account(vault, str(i)) for i in ids]
    return [row for row in found if row is not None]


async def note(vault: Vault, at: datetime, topic: str, details: Mapping[str, Any]) -> None:
    await Journal.create(at=at, topic=topic, details=vault.seal_json(dict(details), f"journal/{topic}"))


async def noted(vault: Vault, topic: str, since: datetime) -> list[dict[str, Any]]:
    rows = await Journal.filter(topic=topic, at__gte=since).order_by("at")
    return [
        {"at": r.at, **({} if r.details is None else vault.open_json(bytes(r.details), f"journal/{topic}"))}
        for r in rows
    ]
