"""Attempts as rows, in a transaction of whoever writes or reads them."""

import secrets
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from billing.attempt_records import Attempt, NewAttempt
from billing.errors import LedgerRefused
from billing.reservations import reserve_worst_case
from billing.seals import BEGUN_HASH, hash_begun
from billing.tables import provider_attempts, runs

# Made once: a statement takes longer to make than to carry out.
_OF_THE_RUN = provider_attempts.c.run_id == bindparam("of_run")
_HIGHEST_NUMBER = select(func.coalesce(func.max(provider_attempts.c.number), 0)).where(_OF_THE_RUN)
_IN_ORDER = select(provider_attempts).where(_OF_THE_RUN).order_by(provider_attempts.c.number)
# Two attempts of one run wait for each other at the run's row. NO KEY UPDATE leaves foreign keys to it alone.
_LOCK_RUN = select(runs.c.tenant).where(runs.c.run_id == bindparam("of_run")).with_for_update(key_share=True)
_ATTEMPT = tuple(field.name for field in fields(Attempt))
_INSERT = provider_attempts.insert().returning(*provider_attempts.c)


def insert_attempt(connection: Connection, new: NewAttempt) -> Attempt:
    """Writes an attempt down in somebody's transaction, and reserves its worst case there. See `AttemptLog.begin`."""
    tenant = lock_run(connection, new.run_id)
    return _insert(connection, tenant, new, number=_take_next_number(connection, new.run_id))


def insert_first_attempt(connection: Connection, tenant: str, new: NewAttempt) -> Attempt:
    """The same in the transaction that has just written the tenant's run down: nobody else can know of it yet."""
    return _insert(connection, tenant, new, number=1)


def list_attempts(connection: Connection, run_id: str) -> tuple[Attempt, ...]:
    """Every attempt of a run, in order."""
    rows = connection.execute(_IN_ORDER, {"of_run": run_id}).mappings()
    return tuple(read_attempt(row) for row in rows)


def lock_run(connection: Connection, run_id: str) -> str:
    """The tenant of a run, whose attempts nobody else begins until the transaction ends.

    Raises:
        LedgerRefused: the run was not claimed.
    """
    tenant: str | None = connection.execute(_LOCK_RUN, {"of_run": run_id}).scalar()
    if tenant is None:
        raise LedgerRefused(f"There is no run {run_id} in the ledger: claim it before its first attempt.")
    return tenant


def read_attempt(row: RowMapping) -> Attempt:
    """An attempt as its row tells it."""
    images = row["images"]
    told = {name: row[name] for name in _ATTEMPT}
    return Attempt(**{**told, "images": None if images is None else tuple(images)})


def _insert(connection: Connection, tenant: str, new: NewAttempt, *, number: int) -> Attempt:
    reserve_worst_case(connection, tenant, new)
    row: dict[str, Any] = {
        **asdict(new),
        "number": number,
        "client_request_id": f"{new.run_id}:{number}:{secrets.token_hex(4)}",
    }
    row[BEGUN_HASH] = hash_begun(row, connection)
    return read_attempt(connection.execute(_INSERT, row).mappings().one())


def _take_next_number(connection: Connection, run_id: str) -> int:
    last: int = connection.execute(_HIGHEST_NUMBER, {"of_run": run_id}).scalar_one()
    return last + 1
