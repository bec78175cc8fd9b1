"""Mails that are owed (intents), the attempts to send them, one-time codes, portal sessions and made proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from tortoise.expressions import F, Q
from tortoise.transactions import in_transaction

from storage.rows import CodeRow, IntentRow
from storage.tables import Attempt, Code, Intent, PortalSession, Proof
from storage.vault import Vault

_INTENT = [f.name for f in fields(IntentRow)]
_CODE = [f.name for f in fields(CodeRow)]

DUE, LEASED, DONE, FAILED, CANCELLED = "due", "leased", "done", "failed", "cancelled"
IN_ORDER = ("status",)
"""Kinds of mail that tell a story: they are first tried in the order of the evidence they speak of."""


@dataclass(frozen=True, slots=True)
class NewIntent:
    """A mail to be owed. dedupe: a text that no other intent has; a second one with it is not added."""

    id: str
    letter_id: str
    kind: str
    n: int
    dedupe: str
    message_id: str
    due_at: datetime
    details: Mapping[str, Any]


async def add(vault: Vault, rows: Sequence[NewIntent], now: datetime) -> None:
    """Called inside the transaction that makes the mails owed. Raises IntegrityError for a dedupe that exists."""
    await Intent.bulk_create(
        [
            Intent(
                id=row.id,
                letter_id=row.letter_id,
                kind=row.kind,
                n=row.n,
                dedupe=row.dedupe,
                message_id=row.message_id,
                state=DUE,
                attempts=0,
                created_at=now,
                due_at=row.due_at,
                details=vault.seal_json(dict(row.details), f"intent/{row.id}"),
            )
            for row in rows
        ]
    )


async def claim(vault: Vault, now: datetime, lease_until: datetime, owner: str, most: int) -> list[IntentRow]:
    """Lease up to *most* due intents, oldest first; also those whose lease ran out (their worker died).

    A mail of a kind in IN_ORDER stays behind while an earlier one of its letter is on its way or was never tried.
    """
    ready = Q(state=DUE, due_at__lte=now) | Q(state=LEASED, lease_until__lte=now)
    async with in_transaction():
        # On SQLite the clause is dropped: there is one process, and the lock is the connection's.
        found = await Intent.filter(ready).order_by("due_at", "n").limit(2 * most).select_for_update(skip_locked=True)
        waiting = await _behind_others([row for row in found if row.kind in IN_ORDER])
        ids = [row.id for row in found if row.id not in waiting][:most]
        if not ids:
            return []
        await Intent.filter(id__in=ids).update(state=LEASED, lease_until=lease_until, lease_owner=owner)
        rows = await Intent.filter(id__in=ids).order_by("due_at", "n", "created_at").values(*_INTENT)
    return [_intent(vault, row) for row in rows]


async def _behind_others(candidates: Sequence[Intent]) -> set[str]:
    """Which of *candidates* have an earlier mail of their kind and letter that is on its way, or was never tried."""
    if not candidates:
        return set()
    unsettled = await Intent.filter(
        Q(state=LEASED) | Q(state=DUE, attempts=0, outcome__isnull=True),
        letter_id__in={row.letter_id for row in candidates},
        kind__in=IN_ORDER,
    ).values_list("letter_id", "kind", "n")
    earliest: dict[tuple[str, str], int] = {}
    for letter_id, kind, n in unsettled:
        key = (str(letter_id), str(kind))
        earliest[key] = min(int(n), earliest.get(key, int(n)))
    return {row.id for row in candidates if row.n > earliest.get((row.letter_id, row.kind), row.n)}


async def release_leases(owner_prefix: str) -> int:
    """Give back what workers of this host had leased before they died; for one-process databases, at the start."""
    return await Intent.filter(state=LEASED, lease_owner__startswith=owner_prefix).update(
        state=DUE, lease_until=None, lease_owner=None
    )


async def extend(intent_id: str, owner: str, until: datetime) -> bool:
    """Keep a lease; False where somebody else took the intent over."""
    return await Intent.filter(id=intent_id, state=LEASED, lease_owner=owner).update(lease_until=until) == 1


async def next_due(now: datetime) -> datetime | None:
    """When the next intent falls due, for the queue's sleep."""
    row = await Intent.filter(Q(state=DUE)).order_by("due_at").limit(1).values_list("due_at", flat=True)
    return row[0] if row else None  # type: ignore[return-value]


async def begin(vault: Vault, attempt_id: str, intent_id: str, now: datetime, digest: str, day: date | None) -> None:
    """Record an attempt before its connection is made."""
    await Attempt.create(id=attempt_id, intent_id=intent_id, began_at=now, digest=digest, printed_last_day=day)
    await Intent.filter(id=intent_id).update(attempts=F("attempts") + 1)


async def end(vault: Vault, attempt_id: str, now: datetime, verdict: str, facts: Mapping[str, Any]) -> None:
    sealed = vault.seal_json(dict(facts), f"attempt/{attempt_id}")
    await Attempt.filter(id=attempt_id).update(ended_at=now, verdict=verdict, facts=sealed)


async def attempts(vault: Vault, intent_id: str) -> list[dict[str, Any]]:
    found = []
    for row in await Attempt.filter(intent_id=intent_id).order_by("began_at"):
        facts = {} if row.facts is None else vault.open_json(bytes(row.facts), f"attempt/{row.id}")
        found.append(
            {"id": row.id, "began_at": row.began_at, "verdict": row.verdict, "digest": row.digest, "facts": facts}
        )
    return found


async def postpone(intent_id: str, due_at: datetime, outcome: str) -> None:
    await Intent.filter(id=intent_id, state=LEASED).update(
        state=DUE, due_at=due_at, outcome=outcome, lease_until=None, lease_owner=None
    )


async def settle(intent_id: str, state: str, outcome: str, now: datetime) -> bool:
    """End an intent, once; what it was rendered from is erased. False where it was settled before."""
    changed = await Intent.filter(id=intent_id, state__in=[DUE, LEASED]).update(
        state=state, outcome=outcome, settled_at=now, lease_until=None, lease_owner=None
    )
    return changed == 1


async def erase_details(vault: Vault, intent_id: str) -> None:
    """A code mail must not outlive its sending."""
    await Intent.filter(id=intent_id).update(details=vault.seal_json({}, f"intent/{intent_id}"))


async def mark_bounced(intent_id: str) -> bool:
    """A mail that was taken came back; True the first time only."""
    return await Intent.filter(id=intent_id, state=DONE).exclude(outcome="bounced").update(outcome="bounced") == 1


async def cancel(letter_id: str, kinds: Sequence[str], now: datetime) -> int:
    """Cancel unsent mails of a letter by compare-and-set; leased ones are on their way already."""
    return await Intent.filter(letter_id=letter_id, kind__in=list(kinds), state=DUE).update(
        state=CANCELLED, outcome="cancelled", settled_at=now
    )


async def intent(vault: Vault, **where: Any) -> IntentRow | None:
    found = await Intent.filter(**where).limit(1).values(*_INTENT)
    return _intent(vault, found[0]) if found else None


async def intents(vault: Vault, *conditions: Q, **where: Any) -> list[IntentRow]:
    return [
        _intent(vault, row) for row in await Intent.filter(*conditions, **where).order_by("created_at").values(*_INTENT)
    ]


def _intent(vault: Vault, row: Mapping[str, Any]) -> IntentRow:
    values = dict(row)
    values["details"] = {} if row["details"] is None else vault.open_json(bytes(row["details"]), f"intent/{row['id']}")
    return IntentRow(**values)


async def add_code(row: CodeRow) -> None:
    """Make this the letter's one live code."""
    await Code.filter(letter_id=row.letter_id, state="live").update(state="replaced")
    await Code.create(**{name: getattr(row, name) for name in _CODE})


async def live_code(letter_id: str) -> CodeRow | None:
    found = await Code.filter(letter_id=letter_id, state="live").order_by("-asked_at").limit(1).values(*_CODE)
    return CodeRow(**found[0]) if found else None


async def codes_since(letter_id: str, since: datetime) -> int:
    return await Code.filter(letter_id=letter_id, asked_at__gt=since).count()


async def count_try(code_id: str, most: int) -> int:
    """Take one try of a live code; returns how many were taken, *most* + 1 where none was left."""
    changed = await Code.filter(id=code_id, state="live", tries__lt=most).update(tries=F("tries") + 1)
    if changed != 1:
        return most + 1
    row = await Code.get(id=code_id)
    return row.tries


async def end_code(code_id: str, state: str) -> bool:
    """Compare-and-set from live; False where somebody was faster."""
    return await Code.filter(id=code_id, state="live").update(state=state) == 1


async def add_session(
    vault: Vault, digest: str, letter_id: str, now: datetime, until: datetime, details: Mapping[str, Any]
) -> None:
    await PortalSession.create(
        id=digest,
        letter_id=letter_id,
        created_at=now,
        expires_at=until,
        details=vault.seal_json(dict(details), f"session/{digest}"),
    )


async def session(vault: Vault, digest: str, letter_id: str, now: datetime) -> dict[str, Any] | None:
    row = await PortalSession.get_or_none(id=digest, letter_id=letter_id, expires_at__gt=now)
    return None if row is None else vault.open_json(bytes(row.details), f"session/{digest}")


async def add_proof(letter_id: str, n: int, part: str, blob: str, sha256: str, now: datetime) -> None:
    """Register a made part; a second maker of the same part finds the first one's."""
    await Proof.bulk_create(
        [Proof(letter_id=letter_id, n=n, part=part, blob=blob, sha256=sha256, made_at=now)], ignore_conflicts=True
    )


async def proofs(letter_id: str, n: int | None = None) -> list[tuple[int, str, str, str]]:
    """(n, part, blob, sha256) of a letter's made parts."""
    query = Proof.filter(letter_id=letter_id) if n is None else Proof.filter(letter_id=letter_id, n=n)
    rows = await query.order_by("n", "part").values_list("n", "part", "blob", "sha256")
    return [(int(a), str(b), str(c), str(d)) for a, b, c, d in rows]
