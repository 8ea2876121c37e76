"""Economy batches among all batches: written down, or taken up for another round. How their lines move on is in
`billing.economy_lines`.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, update

from billing.batch_retries import reset_lines
from billing.batch_tables import batches
from billing.batches import describe_conflict, describe_other_kind, lock_batch
from billing.database import Database
from billing.errors import BatchConflict
from billing.writes import insert_once
from contracts.economy import EconomyOrder
from contracts.money import parse_usd


def open_economy_batch(database: Database, order: EconomyOrder, number: int) -> int:
    """Writes a batch down, or takes it up for the round of that number; returns the first page that is not registered yet.

    Lines that `order.retry` names wait again, once for each round: the same round again changes no line.

    Raises:
        BatchConflict: the id stands for other lines, or for a batch at the standard price.
    """
    with database.writing() as connection:
        is_new = insert_once(connection, batches, _make_row(order, number))
        row = lock_batch(connection, order.batch_id)
        if not is_new:
            _refuse_others(order, row)
            _take_up(connection, order, row, number)
        return int(row["pages_registered"])


def _make_row(order: EconomyOrder, number: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "batch_id": order.batch_id,
        "digest": order.digest,
        "lines": order.lines,
        "pages": order.pages,
        "state": "registering",
        "round": number,
        "window": 0,  # no run is under way by itself
        "fail_fast": False,
        "economy": True,
        **_make_limit(order),
        "created_at": now,
        "updated_at": now,
    }


def _make_limit(order: EconomyOrder) -> dict[str, Any]:
    """What a batch had before stays, where nothing else is said."""
    most = order.max_cost_usd
    return {} if most is None else {"max_cost_micro_usd": parse_usd(most)}


def _refuse_others(order: EconomyOrder, row: RowMapping) -> None:
    if not row["economy"]:
        raise BatchConflict(describe_other_kind(order.batch_id, economy=False))
    if order.digest != row["digest"]:
        raise BatchConflict(describe_conflict(order.batch_id, row["digest"], order.digest))


def _take_up(connection: Connection, order: EconomyOrder, row: RowMapping, number: int) -> None:
    if number > row["round"] and order.retry != "waiting":
        reset_lines(connection, order.batch_id, number, order.retry or "unknown")
    registered = row["pages_registered"] == row["pages"]
    connection.execute(
        update(batches)
        .where(batches.c.batch_id == order.batch_id)
        .values(
            **_make_limit(order),
            round=max(number, row["round"]),
            state="running" if registered else "registering",
            reason=None,
            ended_at=None,
            updated_at=datetime.now(UTC),
        )
    )
