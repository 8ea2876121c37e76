"""Batches: opened, registered page by page, and read. How their lines move on is in `billing.batch_lines`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from billing.batch_records import NewLine
from billing.batch_retries import reset_lines
from billing.batch_tables import COUNTERS, batch_lines, batches
from billing.database import Database
from billing.errors import BatchConflict
from billing.writes import insert_once
from contracts.batches import BatchOrder, BatchProgress
from contracts.money import format_usd, parse_usd


class Batches:
    """The batches of a ledger's database. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, order: BatchOrder) -> int:
        """Writes a batch down, or takes it up again with new options; returns the first page that is not registered yet.

        A round that follows the batch's last one starts lines again, once: the same order again changes nothing more.

        Raises:
            BatchConflict: the id stands for other lines, or the round is none that could follow.
        """
        with self._database.writing() as connection:
            is_new = insert_once(connection, batches, _make_row(order))
            row = lock_batch(connection, order.batch_id)
            if not is_new:
                _refuse_others(order, row)
                self._take_up(connection, order, row)
            return int(row["pages_registered"])

    def register(self, batch_id: str, page: int, lines: Sequence[NewLine]) -> None:
        """Writes the lines of a page down, once; pages come in order."""
        with self._database.writing() as connection:
            row = lock_batch(connection, batch_id)
            if row["pages_registered"] != page:
                return  # an earlier attempt has done it
            connection.execute(batch_lines.insert(), [_make_line(row, page, line) for line in lines])
            skipped = sum(line.run_id is None for line in lines)
            move_counters(connection, batch_id, waiting=len(lines) - skipped, skipped=skipped)
            done = page + 1
            state = "running" if done == row["pages"] else "registering"
            connection.execute(
                update(batches)
                .where(batches.c.batch_id == batch_id)
                .values(pages_registered=done, state=state)
            )

    def find(self, batch_id: str) -> BatchProgress | None:
        """Where a batch stands, None where there is none of that id."""
        with self._database.reading() as connection:
            found = connection.execute(select(batches).where(batches.c.batch_id == batch_id)).mappings()
            row = found.first()
        return None if row is None else view_batch(row)

    def list(self, *, limit: int | None = None) -> tuple[BatchProgress, ...]:
        """Every batch, the newest first, at most `limit` of them."""
        query = select(batches).order_by(batches.c.created_at.desc(), batches.c.batch_id).limit(limit)
        with self._database.reading() as connection:
            return tuple(view_batch(row) for row in connection.execute(query).mappings())

    def _take_up(self, connection: Connection, order: BatchOrder, row: RowMapping) -> None:
        if order.round == row["round"] + 1 and order.retry:
            reset_lines(connection, order.batch_id, order.round, order.retry)
        registered = row["pages_registered"] == row["pages"]
        connection.execute(
            update(batches)
            .where(batches.c.batch_id == order.batch_id)
            .values(
                **_make_options(order),
                round=max(order.round, row["round"]),
                state="running" if registered else "registering",
                failed_before=batches.c.failed,
                reason=None,
                ended_at=None,
                updated_at=datetime.now(UTC),
            )
        )


def lock_batch(connection: Connection, batch_id: str) -> RowMapping:
    """A batch's row, which nobody else changes until the transaction ends; SQLite needs no lock for that."""
    query = select(batches).where(batches.c.batch_id == batch_id).with_for_update()
    return connection.execute(query).mappings().one()


def move_counters(connection: Connection, batch_id: str, **changes: int) -> None:
    """Adds to a batch's counters, in the transaction that changes its lines."""
    moved = {name: batches.c[name] + change for name, change in changes.items() if change}
    connection.execute(
        update(batches).where(batches.c.batch_id == batch_id).values(**moved, updated_at=datetime.now(UTC))
    )


def must_stop(batch: RowMapping) -> bool:
    """Whether a failure of this round keeps further lines from being started."""
    return bool(batch["fail_fast"] and batch["failed"] > batch["failed_before"])


def view_batch(row: RowMapping) -> BatchProgress:
    """A batch as JSON shows it."""
    amounts = {
        name.replace("_micro_usd", "_usd"): format_usd(row[name])
        for name in COUNTERS
        if name.endswith("_micro_usd")
    }
    most = row["max_cost_micro_usd"]
    return BatchProgress(**row, **amounts, max_cost_usd=None if most is None else format_usd(most))


def _make_row(order: BatchOrder) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "batch_id": order.batch_id,
        "digest": order.digest,
        "lines": order.lines,
        "pages": order.pages,
        "state": "registering",
        "round": 1,
        **_make_options(order),
        "created_at": now,
        "updated_at": now,
    }


def _make_options(order: BatchOrder) -> dict[str, Any]:
    most = order.max_cost_usd
    return {
        "window": order.window,
        "max_cost_micro_usd": None if most is None else parse_usd(most),
        "fail_fast": order.fail_fast,
    }


def _make_line(batch: RowMapping, page: int, line: NewLine) -> dict[str, Any]:
    return {
        "batch_id": batch["batch_id"],
        "line": line.line,
        "page": page,
        "run_id": line.run_id,
        "state": "skipped" if line.run_id is None else "waiting",
        "round": batch["round"],
        "error_type": None if line.problem is None else "RequestRefused",
        "error_message": line.problem,
    }


def _refuse_others(order: BatchOrder, row: RowMapping) -> None:
    if row["economy"]:
        raise BatchConflict(describe_other_kind(order.batch_id, economy=True))
    if order.digest != row["digest"]:
        raise BatchConflict(describe_conflict(order.batch_id, row["digest"], order.digest))
    if order.round > row["round"] + 1:
        raise BatchConflict(
            f"The batch {order.batch_id} is in round {row['round']}, and {order.round} cannot follow."
            " Nothing was started."
        )


def describe_conflict(batch_id: str, known: str, given: str) -> str:
    """Why other lines cannot have this id."""
    return (
        f"The batch {batch_id} stands for other lines already (digest {known[:12]}, now {given[:12]}), and nothing was"
        " started. Give changed lines an id of their own with --id, or run the first file again to go on with it."
    )


def describe_other_kind(batch_id: str, *, economy: bool) -> str:
    """Why a batch of the other price cannot have this id, which stands for an economy batch or for one at the standard price."""
    kind, way = (
        ("an economy batch", "with --economy")
        if economy
        else ("a batch at the standard price", "without --economy")
    )
    return (
        f"The batch {batch_id} is {kind} already, and nothing was started. Go on with it {way}, or give the other one an id of"
        " its own with --id."
    )
