"""Batches of both kinds: opened, registered page by page, and read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, select, update

from gpt_image_runs.batches.models import NewLine
from gpt_image_runs.batches.results import count_without_picture
from gpt_image_runs.contracts.batches import (
    BatchOrder,
    BatchProgress,
    Retry,
    describe_conflict,
    describe_other_kind,
)
from gpt_image_runs.contracts.economy import EconomyOrder
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.contracts.names import run_id_for
from gpt_image_runs.database.engine import Database, insert_once
from gpt_image_runs.database.errors import BatchConflict
from gpt_image_runs.database.tables import COUNTERS, batch_lines, batches, provider_attempts

EXHAUSTED = "TooManyUnknownOutcomes"
_STATES = ("failed", "cancelled")
_line = batch_lines.c


def count_retries(database: Database, batch_id: str) -> dict[Retry, int]:
    """Count the lines that a retry would start again, by what `retry` includes."""
    ended = select(func.count()).where(_line.batch_id == batch_id, _line.state.in_(_STATES))
    with database.reading() as connection:
        return {
            "unpaid": connection.execute(ended.where(_line.unknown == 0)).scalar_one(),
            "unknown": connection.execute(ended.where(_line.unknown > 0)).scalar_one(),
        }


def reset_lines(connection: Connection, batch_id: str, number: int, retry: Retry) -> None:
    """Let ended lines wait again for the round `number`. The batch's row has to be locked."""
    again = [_line.batch_id == batch_id, _line.state.in_(_STATES)]
    if retry == "unpaid":
        again.append(_line.unknown == 0)
    else:
        _give_new_ids(connection, batch_id, number)
    states = connection.execute(select(_line.state, func.count()).where(*again).group_by(_line.state))
    counts = {str(state): int(count) for state, count in states}
    connection.execute(
        update(batch_lines)
        .where(*again)
        .values(
            state="waiting",
            round=number,
            workflow_run_id=None,
            attached=False,
            ceiling_micro_usd=None,
            error_type=None,
            error_message=None,
            started_at=None,
            ended_at=None,
        )
    )
    moved = {state: batches.c[state] - count for state, count in counts.items()}
    waiting = batches.c.waiting + sum(counts.values())
    connection.execute(update(batches).where(batches.c.batch_id == batch_id).values(**moved, waiting=waiting))


def _give_new_ids(connection: Connection, batch_id: str, number: int) -> None:
    """Give new run ids to lines that lost too many answers.

    The exposure of their old runs stays counted for the batch.
    """
    paid = select(provider_attempts.c.attempt_id).where(
        provider_attempts.c.run_id == _line.run_id, provider_attempts.c.outcome == "succeeded"
    )
    exhausted = select(_line.line, _line.run_id).where(
        _line.batch_id == batch_id,
        _line.state.in_(_STATES),
        _line.error_type == EXHAUSTED,
        ~paid.exists(),
    )
    changes = [
        {"of_line": line, "new_run_id": run_id_for(run_id.split(":")[1], f"{batch_id}-{line:06d}.{number}")}
        for line, run_id in connection.execute(exhausted)
    ]
    if changes:
        connection.execute(
            update(batch_lines)
            .where(_line.batch_id == batch_id, _line.line == bindparam("of_line"))
            .values(run_id=bindparam("new_run_id"), unknown=0, exposed_micro_usd=0),
            changes,
        )


class Batches:
    """The batches of a ledger's database. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, order: BatchOrder | EconomyOrder, number: int = 1) -> int:
        """Record a batch or resume it, and return the first page not registered yet.

        A resumed batch gets the options of the order. The round is `order.round`, or `number` for an economy order, which has none. Lines that `order.retry` names wait again, once for each round: the same round again changes no line.

        Raises:
            BatchConflict: the id stands for other lines, for a batch of the other kind, or the round cannot follow.
        """
        number = order.round if isinstance(order, BatchOrder) else number
        with self._database.writing() as connection:
            is_new = insert_once(connection, batches, _make_row(order, number))
            row = lock_batch(connection, order.batch_id)
            if not is_new:
                _check_order(order, number, row)
                _resume(connection, order, number, row)
            return int(row["pages_registered"])

    def register(self, batch_id: str, page: int, lines: Sequence[NewLine]) -> None:
        """Record the lines of a page, once. Pages come in order."""
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
        """Find the progress of a batch, None where there is no batch of that id."""
        with self._database.reading() as connection:
            found = connection.execute(select(batches).where(batches.c.batch_id == batch_id)).mappings()
            row = found.first()
            return None if row is None else view_counted(connection, row)

    def list(self, *, limit: int | None = None) -> tuple[BatchProgress, ...]:
        """List the batches, the newest first, at most `limit`."""
        query = select(batches).order_by(batches.c.created_at.desc(), batches.c.batch_id).limit(limit)
        with self._database.reading() as connection:
            return tuple(view_batch(row) for row in connection.execute(query).mappings())


def _resume(connection: Connection, order: BatchOrder | EconomyOrder, number: int, row: RowMapping) -> None:
    # An economy order that names no retry comes from another program, which gets all lines that are not paid.
    retry = order.retry or ("unknown" if isinstance(order, EconomyOrder) else None)
    if number > row["round"] and retry and retry != "waiting":
        reset_lines(connection, order.batch_id, number, retry)
    registered = row["pages_registered"] == row["pages"]
    connection.execute(
        update(batches)
        .where(batches.c.batch_id == order.batch_id)
        .values(
            **_make_options(order),
            round=max(number, row["round"]),
            state="running" if registered else "registering",
            failed_before=batches.c.failed,
            reason=None,
            ended_at=None,
            updated_at=datetime.now(UTC),
        )
    )


def lock_batch(connection: Connection, batch_id: str) -> RowMapping:
    """Lock a batch's row until the transaction ends, and return it."""
    query = select(batches).where(batches.c.batch_id == batch_id).with_for_update()
    return connection.execute(query).mappings().one()


def move_counters(connection: Connection, batch_id: str, **changes: int) -> None:
    """Add to a batch's counters, in the transaction that changes its lines."""
    moved = {name: batches.c[name] + change for name, change in changes.items() if change}
    connection.execute(
        update(batches).where(batches.c.batch_id == batch_id).values(**moved, updated_at=datetime.now(UTC))
    )


def must_stop(batch: RowMapping) -> bool:
    """Return whether a failure of this round keeps further lines from being started."""
    return bool(batch["fail_fast"] and batch["failed"] > batch["failed_before"])


def view_batch(row: RowMapping) -> BatchProgress:
    """Convert a batch's row to its progress."""
    amounts = {
        name.replace("_micro_usd", "_usd"): format_usd(row[name])
        for name in COUNTERS
        if name.endswith("_micro_usd")
    }
    most = row["max_cost_micro_usd"]
    return BatchProgress(**row, **amounts, max_cost_usd=None if most is None else format_usd(most))


def view_counted(connection: Connection, row: RowMapping) -> BatchProgress:
    """Convert a batch's row to its progress, after its end with counts over all lines."""
    progress = view_batch(row)
    if not progress.has_ended:
        return progress
    count = count_without_picture(connection, progress.batch_id)
    return progress.model_copy(update={"without_picture": count})


def _make_row(order: BatchOrder | EconomyOrder, number: int) -> dict[str, Any]:
    now, economy = datetime.now(UTC), isinstance(order, EconomyOrder)
    return {
        "batch_id": order.batch_id,
        "digest": order.digest,
        "lines": order.lines,
        "pages": order.pages,
        "state": "registering",
        "round": number if economy else 1,
        "economy": economy,
        **_make_options(order),
        "created_at": now,
        "updated_at": now,
    }


def _make_options(order: BatchOrder | EconomyOrder) -> dict[str, Any]:
    most = None if order.max_cost_usd is None else parse_usd(order.max_cost_usd)
    if isinstance(order, BatchOrder):
        return {"window": order.window, "max_cost_micro_usd": most, "fail_fast": order.fail_fast}
    # No run of an economy batch is started by itself. Its limit stays where the order names none.
    limit = {} if most is None else {"max_cost_micro_usd": most}
    return {"window": 0, "fail_fast": False, **limit}


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


def _check_order(order: BatchOrder | EconomyOrder, number: int, row: RowMapping) -> None:
    economy = isinstance(order, EconomyOrder)
    if row["economy"] != economy:
        raise BatchConflict(describe_other_kind(order.batch_id, economy=not economy))
    if order.digest != row["digest"]:
        raise BatchConflict(describe_conflict(order.batch_id, row["digest"], order.digest))
    if not economy and number > row["round"] + 1:
        raise BatchConflict(
            f"The batch {order.batch_id} is in round {row['round']}, and {number} cannot follow."
            " Nothing was started."
        )
