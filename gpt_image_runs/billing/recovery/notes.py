"""What the image store records of a ledger: its heads, and which loss somebody has accepted.

A ledger that was restored from an older copy has fewer entries than its note, or other entries in their place. Heads are
noted while a worker runs, and never replaced by heads that do not contain them.
"""

import json
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, and_, func, or_, select

from gpt_image_runs.billing.recovery.receipts import Documents
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.database.tables import ledger_entries, ledger_heads, provider_attempts

_ASKED_AT_ONCE = 200


class NotedHead(BaseModel):
    """A tenant's head when it was noted."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    entries: int
    entry_hash: str


class LedgerNote(BaseModel):
    """The heads of a ledger when they were noted."""

    model_config = ConfigDict(frozen=True)

    ledger_id: str
    noted_at: datetime
    heads: tuple[NotedHead, ...] = ()


class AcceptedLoss(BaseModel):
    """Somebody's decision that the ledger goes on without what it had lost up to that moment."""

    model_config = ConfigDict(frozen=True)

    ledger_id: str
    accepted_at: datetime
    actor: str
    reason: str
    attempts: int
    entries: int


class LedgerNow(BaseModel):
    """A ledger as it is now. `is_fresh`: every attempt that it has was recovered, it has written none itself."""

    model_config = ConfigDict(frozen=True)

    ledger_id: str
    is_fresh: bool
    heads: tuple[NotedHead, ...]

    @property
    def sought_ledger(self) -> str | None:
        """The ledger whose runs in Temporal count as its own: None, which is any ledger, for a fresh one."""
        return None if self.is_fresh else self.ledger_id


_Noted = TypeVar("_Noted", LedgerNote, AcceptedLoss)


def read_ledger_now(database: Database) -> LedgerNow:
    """Read the heads of a ledger as a note would hold them.

    Raises:
        LedgerUnavailable: the database does not answer.
    """
    with database.reading() as connection:
        heads = connection.execute(select(ledger_heads).order_by(ledger_heads.c.tenant))
        own = select(provider_attempts.c.attempt_id).where(provider_attempts.c.recovered_at.is_(None))
        first = connection.execute(own.limit(1)).first()
        return LedgerNow(
            ledger_id=read_ledger_id(connection),
            is_fresh=first is None,
            heads=tuple(NotedHead(**row) for row in heads.mappings()),
        )


def count_heads(database: Database) -> tuple[int, int]:
    """Return the number of tenants and entries by the heads. Every entry changes it."""
    query = select(func.count(), func.coalesce(func.sum(ledger_heads.c.entries), 0))
    with database.reading() as connection:
        tenants, entries = connection.execute(query).one()
    return int(tenants), int(entries)


def count_lost_entries(
    database: Database, note: LedgerNote | None, accepted: AcceptedLoss | None = None
) -> int:
    """Return how many noted entries the ledger does not have, except accepted losses.

    A chain that continued differently lacks at least one.
    """
    lost = 0
    if note and accepted and note.noted_at <= accepted.accepted_at:
        return 0
    heads = note.heads if note else ()
    with database.reading() as connection:
        for start in range(0, len(heads), _ASKED_AT_ONCE):
            some = heads[start : start + _ASKED_AT_ONCE]
            known = _find_known(connection, some)
            entries = _count_entries(connection, some)
            lost += sum(
                max(1, head.entries - entries.get(head.tenant, 0))
                for head in some
                if head.entries and (head.tenant, head.entry_hash) not in known
            )
    return lost


def count_entries_behind(database: Database, note: LedgerNote | None) -> int:
    """Return by how many entries the chains of a ledger are shorter than noted, whatever their entries are."""
    behind = 0
    heads = note.heads if note else ()
    with database.reading() as connection:
        for start in range(0, len(heads), _ASKED_AT_ONCE):
            some = heads[start : start + _ASKED_AT_ONCE]
            entries = _count_entries(connection, some)
            behind += sum(max(0, head.entries - entries.get(head.tenant, 0)) for head in some)
    return behind


async def read_note(documents: Documents, ledger_id: str) -> LedgerNote | None:
    """Read a ledger's note, None where there is no readable one."""
    return _parse(LedgerNote, await documents.read_document(_key(ledger_id, "heads")))


async def write_note(documents: Documents, now: LedgerNow) -> None:
    """Write the heads of a ledger in place of those noted before."""
    note = LedgerNote(ledger_id=now.ledger_id, noted_at=datetime.now(UTC), heads=now.heads)
    await documents.put_document(_key(now.ledger_id, "heads"), _dump(note))


async def read_accepted_loss(documents: Documents, ledger_id: str) -> AcceptedLoss | None:
    """Read the latest accepted loss of a ledger, None where there is no readable one."""
    return _parse(AcceptedLoss, await documents.read_document(_key(ledger_id, "accepted-loss")))


async def write_accepted_loss(documents: Documents, accepted: AcceptedLoss) -> None:
    """Write an accepted loss; each is also stored under a name of its own."""
    moment = accepted.accepted_at.strftime("%Y%m%dT%H%M%S.%f")
    await documents.put_document(_key(accepted.ledger_id, f"accepted-loss-{moment}"), _dump(accepted))
    await documents.put_document(_key(accepted.ledger_id, "accepted-loss"), _dump(accepted))


def _find_known(connection: Connection, heads: tuple[NotedHead, ...]) -> set[tuple[str, str]]:
    """Return those heads whose last entry the ledger has.

    It is the head of its tenant, or a later entry names it as the previous one.
    """
    entry, now = ledger_entries.c, ledger_heads.c
    later = select(entry.tenant, entry.previous_hash).where(
        or_(*(and_(entry.tenant == head.tenant, entry.previous_hash == head.entry_hash) for head in heads))
    )
    last = select(now.tenant, now.entry_hash).where(now.tenant.in_([head.tenant for head in heads]))
    rows = (*connection.execute(later), *connection.execute(last))
    return {(tenant, entry_hash) for tenant, entry_hash in rows}


def _count_entries(connection: Connection, heads: tuple[NotedHead, ...]) -> dict[str, int]:
    now = ledger_heads.c
    query = select(now.tenant, now.entries).where(now.tenant.in_([head.tenant for head in heads]))
    return {row.tenant: row.entries for row in connection.execute(query)}


def _key(ledger_id: str, name: str) -> str:
    return f"ledgers/{ledger_id}/{name}.json"


def _dump(noted: BaseModel) -> bytes:
    return json.dumps(noted.model_dump(mode="json")).encode("ascii")


def _parse(kind: type[_Noted], data: bytes | None) -> _Noted | None:
    try:
        return None if data is None else kind.model_validate(json.loads(data))
    except ValueError:
        return None
