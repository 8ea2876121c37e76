"""Append entries to the ledger: link each to its tenant's chain and move the chain's head to it.

Nothing else writes entries. The head holds how many entries a tenant has and the hash of the last, so entries that are
cut off are noticed. Two writers of one tenant wait for each other at its head; tenants do not wait for one another.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from gpt_image_runs.billing.hash_chain import ENTRY_HASH, PREVIOUS_HASH, genesis_hash, hash_entry
from gpt_image_runs.database.engine import insert_once
from gpt_image_runs.database.tables import ledger_entries, ledger_heads
from gpt_image_runs.database.types import JsonText, PlainText

_OF_THE_TENANT = ledger_heads.c.tenant == bindparam("of_tenant")
# SQLite has no row locks and needs none: it has one writer at a time.
_LOCK = select(ledger_heads).where(_OF_THE_TENANT).with_for_update()
_MOVE_ON = update(ledger_heads).where(_OF_THE_TENANT)


def append_entry(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Append an entry to its tenant's chain, unless its `entry_key` is taken.

    Returns whether it was written. No other entry of the tenant can be written until the transaction ends.

    Raises:
        IntegrityError: a rule of the database is broken, or the chain has entries that its head does not know.
    """
    tenant = row["tenant"]
    head = _lock_head(connection, tenant)
    linked = {**row, PREVIOUS_HASH: head.entry_hash}
    entry_hash = hash_entry(_as_stored(linked, connection))
    if not insert_once(connection, ledger_entries, {**linked, ENTRY_HASH: entry_hash}, key="entry_key"):
        return False
    moved_on = {"entries": head.entries + 1, "entry_hash": entry_hash}
    connection.execute(_MOVE_ON, {**moved_on, "of_tenant": tenant})
    return True


def _lock_head(connection: Connection, tenant: str) -> Row[Any]:
    head = connection.execute(_LOCK, {"of_tenant": tenant}).first()
    if head is None:
        insert_once(
            connection, ledger_heads, {"tenant": tenant, "entries": 0, "entry_hash": genesis_hash(tenant)}
        )
        head = connection.execute(_LOCK, {"of_tenant": tenant}).one()
    return head


def _as_stored(row: Mapping[str, Any], connection: Connection) -> dict[str, Any]:
    return {name: _text_as_stored(name, value, connection) for name, value in row.items()}


def _text_as_stored(name: str, value: Any, connection: Connection) -> Any:
    kind = ledger_entries.c[name].type
    return (
        kind.process_bind_param(value, connection.dialect)
        if isinstance(kind, JsonText | PlainText)
        else value
    )
