"""Seal rows that are not entries: outcomes of attempts, budgets, comparisons with the provider's books, the ledger's identity.

A seal holds the hash of a row and the hash of the previous seal of its chain: a tenant's chain, or `COMPARISONS`. The
chain's head holds the number of seals and the last one's hash. So `verify` finds every sealed row that is changed, removed
or inserted. A row of `runs` or `provider_attempts` also carries the hash of what was known when it was written, because an
attempt in progress has no seal yet.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Table, bindparam, select, text

from gpt_image_runs.billing.hash_chain import hash_row
from gpt_image_runs.database.engine import insert_once
from gpt_image_runs.database.tables import provider_attempts, runs, seal_heads
from gpt_image_runs.database.types import JsonText, PlainText

SealKind = Literal["attempt", "budget", "comparison", "identity"]

# No tenant's name begins with an asterisk.
COMPARISONS = "*comparisons"
IDENTITY = "*ledger"
FIRST = "0" * 64
BEGUN_HASH = "begun_hash"
RUN_HASH = "run_hash"
SEAL = "seal"
# What is known of an attempt before it is sent. `simulated` is left out: the answer may correct it.
BEGUN = (
    "attempt_id",
    "run_id",
    "number",
    "client_request_id",
    "workflow_run_id",
    "model",
    "provider",
    "reserved_micro_usd",
    "sent_at",
    "batch_part",
    "recovered_at",
)

_OF_THE_CHAIN = seal_heads.c.chain == bindparam("of_chain")
_LOCK = select(*seal_heads.c["seals", "seal_hash"]).where(_OF_THE_CHAIN).with_for_update(key_share=True)
_MOVE_ON = "UPDATE seal_heads SET seals = :number, seal_hash = :seal_hash WHERE chain = :chain"
_INSERT = (
    "INSERT INTO seals (chain, number, kind, subject, content_hash, previous_hash, seal_hash)"
    " VALUES (:chain, :number, :kind, :subject, :content_hash, :previous_hash, :seal_hash)"
)
# One round trip: whoever ends an attempt waits for each.
_APPEND_ON_POSTGRESQL = text(f"WITH moved AS ({_MOVE_ON}) {_INSERT}")
_APPEND_ON_SQLITE = (text(_MOVE_ON), text(_INSERT))


class SealHead(NamedTuple):
    """The end of a chain of seals: how many there are, and the hash of the last."""

    seals: int
    seal_hash: str


def append_seal(
    connection: Connection,
    chain: str,
    kind: SealKind,
    subject: str,
    content_hash: str,
    *,
    head: SealHead | None = None,
) -> str:
    """Seal a row as the last of its chain, and return the seal's hash.

    Pass `head` where the caller has already locked the chain. Nobody else seals on this chain until the transaction ends.
    """
    last = head or lock_chain(connection, chain)
    row: dict[str, Any] = {
        "chain": chain,
        "number": last.seals + 1,
        "kind": kind,
        "subject": subject,
        "content_hash": content_hash,
        "previous_hash": last.seal_hash,
    }
    row["seal_hash"] = hash_row(row)
    if connection.dialect.name == "postgresql":
        connection.execute(_APPEND_ON_POSTGRESQL, row)
    else:
        for statement in _APPEND_ON_SQLITE:
            connection.execute(statement, row)
    seal_hash: str = row["seal_hash"]
    return seal_hash


def lock_chain(connection: Connection, chain: str) -> SealHead:
    """Lock a chain until the transaction ends, and return its head.

    Call it before a row of `budgets` or `provider_comparisons` gets its number, so that numbers and seals have one order.
    """
    head = connection.execute(_LOCK, {"of_chain": chain}).first()
    if head is None:
        begin_chain(connection, chain)
        head = connection.execute(_LOCK, {"of_chain": chain}).one()
    return SealHead(*head)


def begin_chain(connection: Connection, chain: str) -> None:
    """Write the head of a chain that has none yet."""
    insert_once(connection, seal_heads, {"chain": chain, "seals": 0, "seal_hash": FIRST})


def hash_run(row: Mapping[str, Any], connection: Connection) -> str:
    """Return the hash of a run's row that is about to be written."""
    return hash_row(_as_stored(runs, row, connection), left_out=(RUN_HASH,))


def hash_begun(row: Mapping[str, Any], connection: Connection) -> str:
    """Return the hash of what is known of an attempt before it is sent."""
    begun = {name: row.get(name) for name in BEGUN}
    return hash_row(_as_stored(provider_attempts, begun, connection))


def hash_outcome(row: Mapping[str, Any], connection: Connection) -> str:
    """Return the hash of a whole attempt that is about to be written."""
    return hash_row(_as_stored(provider_attempts, row, connection), left_out=(SEAL,))


def hash_numbered(table: Table, row: Mapping[str, Any], connection: Connection) -> str:
    """Return the hash of a row of `budgets` or `provider_comparisons`, without its number."""
    return hash_row(_as_stored(table, row, connection))


def _as_stored(table: Table, row: Mapping[str, Any], connection: Connection) -> dict[str, Any]:
    """Return a row as the database will hold it, so that its hash can be computed again later."""
    stored = {}
    for name, value in row.items():
        kind: Any = table.c[name].type
        is_text = isinstance(kind, JsonText | PlainText)
        stored[name] = kind.process_bind_param(value, connection.dialect) if is_text else value
    return stored
