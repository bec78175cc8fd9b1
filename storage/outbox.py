"""Mails that are owed (intents), the attempts to send them, one-time codes, portal sessions and made proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F, Q
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from storage.bulk import Insert, Rows
from storage.rows import CodeRow, IntentRow
from storage.tables import Attempt, Code, Intent, PortalSession, Proof
from storage.vault import Sealed, Vault

_INTENT = [f.name for f in fields(IntentRow)]
_CODE = [f.name for f in fields(CodeRow)]
_NEW = Insert(
    Intent,
    ("id", "letter_id", "kind", "n", "dedupe", "message_id", "state", "attempts", "created_at", "due_at", "details"),
)

DUE, LEASED, DONE, FAILED, CANCELLED = "due", "leased", "done", "failed", "cancelled"
OUR_FAULT = "our fault"
"""The outcome of an attempt that did not come to a connection."""
_HELD_BACK = timedelta(hours=1)
IN_ORDER = ("status",)
"""Kinds of mail that tell a story: they are first tried in the order of the evidence they speak of."""


@dataclass(slots=True)
class NewIntent:
    """A mail to be owed; nobody changes one. dedupe: a text that no other intent has; a second one with it is not added."""

    id: str
    letter_id: str
    kind: str
    n: int
    dedupe: str
    message_id: str
    due_at: datetime
    details: dict[str, Any]


def new_intents(vault: Vault, rows: Sequence[NewIntent], now: datetime) -> Rows:
    """To be inserted in the transaction that makes the mails owed; a dedupe that exists is a conflict."""
    return _NEW, [
        (row.id, row.letter_id, row.kind, row.n, row.dedupe, row.message_id, DUE, 0, now, row.due_at,
         vault.seal_json(row.details, f"intent/{row.id}"))
        for row in rows
    ]  # fmt: skip


async def claim(vault: Vault, now: datetime, lease_until: datetime, owner: str, most: int) -> list[IntentRow]:
    """Lease up to *most* due intents, oldest first; also those whose lease ran out (their worker died).

    A mail of a kind in IN_ORDER stays behind while an earlier one of its letter is on its way or was never tried.
    """
    ready = Q(state=DUE, due_at__lte=now) | Q(state=LEASED, lease_until__lte=now)
    async with in_transaction():
        # On SQLite the clause is dropped: there is one process, and the lock is the connection's. On PostgreSQL another
        # process sees rows that are being leased as skipped, and then as leased; never as free.
        found = await Intent.filter(ready).order_by("due_at", "n").limit(2 * most).select_for_update(skip_locked=True)
        waiting = await _behind_others([row for row in found if row.kind in IN_ORDER], now)
        ids = [row.id for row in found if row.id not in waiting][:most]
        if not ids:
            return []
        await Intent.filter(id__in=ids).update(state=LEASED, lease_until=lease_until, lease_owner=owner)
        rows = await Intent.filter(id__in=ids).order_by("due_at", "n", "created_at").values(*_INTENT)
    leased = []
    for row in rows:
        try:
            leased.append(_intent(vault, row))
        except Sealed:  # parked, so that one damaged row does not stop the others; `pli check` names it
            await settle(str(row["id"]), FAILED, "unreadable", now)
    return leased


async def _behind_others(candidates: Sequence[Intent], now: datetime) -> set[str]:
    """Which of *candidates* have an earlier mail of their kind and letter that is on its way, or whose outcome is open.

    What could not be sent by a fault of our own holds the others back, too, but not for ever.
    """
    if not candidates:
        return set()
    faulty = Q(state=DUE, outcome=OUR_FAULT, created_at__gt=now - _HELD_BACK)
    unsettled = await Intent.filter(
        Q(state=LEASED) | Q(state=DUE, outcome__isnull=True) | faulty,
        letter_id__in={row.letter_id for row in candidates},
        kind__in=IN_ORDER,
    ).values_list("letter_id", "kind", "n")
    earliest: dict[tuple[str, str], int] = {}
    for letter_id, kind, n in unsettled:
        key = (str(letter_id), str(kind))
        earliest[key] = min(int(n), earliest.get(key, int(n)))
    return {row.id for row in candidates if row.n > earliest.get((row.letter_id, row.kind), row.n)}


async def release_leases(owner: str | None = None) -> int:
    """Give back what *owner* had leased before it died; None: all of it, for a database that no other process uses."""
    query = Intent.filter(state=LEASED) if owner is None else Intent.filter(state=LEASED, lease_owner=owner)
    return await _update_free(query, state=DUE, lease_until=None, lease_owner=None)


async def lease_owners() -> list[str]:
    """Who holds leases."""
    found = (
        await Intent.filter(state=LEASED, lease_owner__isnull=False).distinct().values_list("lease_owner", flat=True)
    )
    return [str(owner) for owner in found]


async def extend(intent_ids: Sequence[str], owner: str, until: datetime) -> int:
    """Keep leases; returns how many: some may be settled at this moment, or others may have taken over what ran out."""
    return await _update_free(
        Intent.filter(id__in=list(intent_ids), state=LEASED, lease_owner=owner), lease_until=until
    )


async def _update_free(query: QuerySet[Intent], **columns: Any) -> int:
    """Update rows that nobody works on at this moment. To wait for one while holding others would be half of a deadlock."""
    async with in_transaction():
        ids = [row.id for row in await query.select_for_update(skip_locked=True)]
        return await Intent.filter(id__in=ids).update(**columns) if ids else 0


async def next_due(now: datetime) -> datetime | None:
    """When the next intent falls due, for the queue's sleep."""
    row = await Intent.filter(Q(state=DUE)).order_by("due_at").limit(1).values_list("due_at", flat=True)
    return row[0] if row else None  # type: ignore[return-value]


async def begin(
    vault: Vault, attempt_id: str, intent_id: str, owner: str, now: datetime, digest: str, day: date | None
) -> bool:
    """Record an attempt before its connection is made. False where the lease is no longer *owner*'s: then nothing may be sent."""
    async with in_transaction():
        held = await Intent.filter(id=intent_id, state=LEASED, lease_owner=owner).update(attempts=F("attempts") + 1)
        if held:
            await Attempt.create(id=attempt_id, intent_id=intent_id, began_at=now, digest=digest, printed_last_day=day)
    return held == 1


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


async def postpone(intent_id: str, owner: str, due_at: datetime, outcome: str) -> None:
    """Try again at *due_at*; nothing where the lease is no longer *owner*'s."""
    await Intent.filter(id=intent_id, state=LEASED, lease_owner=owner).update(
        state=DUE, due_at=due_at, outcome=outcome, lease_until=None, lease_owner=None
    )


async def is_settled(intent_id: str) -> bool:
    return not await Intent.filter(id=intent_id, state__in=[DUE, LEASED]).exists()


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
        _intent(vault, row)
        for row in await Intent.filter(*conditions, **where).order_by("created_at", "id").values(*_INTENT)
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


async def add_proofs(letter_id: str, n: int, parts: Mapping[str, tuple[str, str]], now: datetime) -> bool:
    """Register the made parts of one proof (part: blob and SHA-256), all or none. False where another maker was first."""
    rows = [
        Proof(letter_id=letter_id, n=n, part=part, blob=blob, sha256=sha256, made_at=now)
        for part, (blob, sha256) in sorted(parts.items())
    ]
    try:
        async with in_transaction():
            await Proof.bulk_create(rows)
    except IntegrityError:
        return False
    return True


async def proofs(letter_id: str, n: int | None = None) -> list[tuple[int, str, str, str]]:
    """(n, part, blob, sha256) of a letter's made parts."""
    query = Proof.filter(letter_id=letter_id) if n is None else Proof.filter(letter_id=letter_id, n=n)
    rows = await query.order_by("n", "part").values_list("n", "part", "blob", "sha256")
    return [(int(a), str(b), str(c), str(d)) for a, b, c, d in rows]
