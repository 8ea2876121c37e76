"""Attempts as rows, in a transaction of whoever writes or reads them."""

import secrets
from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, func, select

from billing.attempt_records import Attempt, NewAttempt
from billing.errors import LedgerRefused
from billing.reservations import reserve_worst_case
from billing.tables import provider_attempts, runs


def insert_attempt(connection: Connection, new: NewAttempt) -> Attempt:
    """Writes an attempt down in somebody's transaction, and reserves its worst case there. See `AttemptLog.begin`."""
    tenant = lock_run(connection, new.run_id)
    number = _take_next_number(connection, new.run_id)
    reserve_worst_case(connection, tenant, new)
    row = {
        **asdict(new),
        "number": number,
        "client_request_id": f"{new.run_id}:{number}:{secrets.token_hex(4)}",
    }
    inserted = connection.execute(provider_attempts.insert().values(row).returning(*provider_attempts.c))
    return read_attempt(inserted.mappings().one())


def list_attempts(connection: Connection, run_id: str) -> tuple[Attempt, ...]:
    """Every attempt of a run, in order."""
    query = select(provider_attempts).where(provider_attempts.c.run_id == run_id)
    rows = connection.execute(query.order_by(provider_attempts.c.number)).mappings()
    return tuple(read_attempt(row) for row in rows)


def lock_run(connection: Connection, run_id: str) -> str:
    """The tenant of a run, whose attempts nobody else begins until the transaction ends.

    Raises:
        LedgerRefused: the run was not claimed.
    """
    # Two attempts of one run wait for each other at the run's row. NO KEY UPDATE leaves foreign keys to it alone.
    claimed = select(runs.c.tenant).where(runs.c.run_id == run_id).with_for_update(key_share=True)
    tenant: str | None = connection.execute(claimed).scalar()
    if tenant is None:
        raise LedgerRefused(f"There is no run {run_id} in the ledger: claim it before its first attempt.")
    return tenant


def read_attempt(row: RowMapping) -> Attempt:
    """An attempt as its row tells it."""
    images = row["images"]
    return Attempt(**{**row, "images": None if images is None else tuple(images)})


def _take_next_number(connection: Connection, run_id: str) -> int:
    highest = select(func.coalesce(func.max(provider_attempts.c.number), 0))
    last: int = connection.execute(highest.where(provider_attempts.c.run_id == run_id)).scalar_one()
    return last + 1
