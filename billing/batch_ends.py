"""How a batch's lines end, and the batch with them. A bill in the ledger counts, whatever else is known of a run."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from billing.batch_bills import find_billed, find_unknown
from billing.batch_records import LineEnd, UnbilledEnd
from billing.batch_tables import batch_lines, batches
from billing.batches import lock_batch, move_counters, must_stop, view_batch
from billing.database import Database
from contracts.batches import BatchProgress, BatchState, Wish

_line = batch_lines.c
_UNDER_WAY: dict[Wish, BatchState] = {"start": "running", "hold": "paused", "cancel": "cancelling"}


class BatchEnds:
    """The ends of one batch's lines. Safe to share between threads."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id
        self._mine = _line.batch_id == batch_id

    def collect_billed(self) -> int:
        """Ends every line under way whose run has a bill; returns how many."""
        with self._database.reading() as connection:
            if not find_billed(connection, self._batch_id):
                return 0
        with self._database.writing() as connection:
            lock_batch(connection, self._batch_id)
            return self._end(connection, find_billed(connection, self._batch_id))

    def end_unbilled(self, ends: Sequence[UnbilledEnd]) -> None:
        """Ends lines whose runs have ended without a bill, with what they may have paid for nothing."""
        if not ends:
            return
        with self._database.writing() as connection:
            lock_batch(connection, self._batch_id)
            billed = {end.line for end in find_billed(connection, self._batch_id)}
            unknown = find_unknown(connection, self._batch_id, [end.line for end in ends])
            self._end(
                connection,
                [
                    LineEnd(
                        line=end.line,
                        state=end.state,
                        unknown=unknown[end.line].requests,
                        exposed_micro_usd=unknown[end.line].reserved_micro_usd,
                        error_type=end.error_type,
                        error_message=end.error_message,
                    )
                    for end in ends
                    if end.line in unknown and end.line not in billed
                ],
            )

    def refuse(self, ends: Sequence[UnbilledEnd]) -> None:
        """Ends lines that wait and may not be started."""
        if not ends:
            return
        with self._database.writing() as connection:
            lock_batch(connection, self._batch_id)
            query = select(_line.line, _line.unknown, _line.exposed_micro_usd).where(
                self._mine, _line.state == "waiting", _line.line.in_([end.line for end in ends])
            )
            waiting = {row["line"]: row for row in connection.execute(query).mappings()}
            refused = [_make_end(end, waiting[end.line]) for end in ends if end.line in waiting]
            self._write(connection, refused)
            move_counters(connection, self._batch_id, waiting=-len(refused), failed=len(refused))

    def settle(self, wish: Wish, *, capped: bool) -> BatchProgress:
        """Gives the batch the state that follows from its lines: ended, or under way. `capped` says that its limit keeps the
        next line from being started.
        """
        with self._database.writing() as connection:
            batch = lock_batch(connection, self._batch_id)
            state, reason = _decide(batch, wish, capped=capped)
            now = datetime.now(UTC)
            changes: dict[str, Any] = {"state": state, "reason": reason}
            if state not in _UNDER_WAY.values():
                changes["ended_at"] = now
            if any(batch[name] != value for name, value in changes.items() if name != "ended_at"):
                connection.execute(
                    update(batches)
                    .where(batches.c.batch_id == self._batch_id)
                    .values(**changes, updated_at=now)
                )
            found = connection.execute(select(batches).where(batches.c.batch_id == self._batch_id))
            return view_batch(found.mappings().one())

    def _end(self, connection: Connection, ends: Sequence[LineEnd]) -> int:
        """Writes the ends of lines under way, and moves the counters by what each of them changes."""
        query = select(_line.ceiling_micro_usd, _line.unknown, _line.exposed_micro_usd).where(
            self._mine, _line.line.in_([end.line for end in ends])
        )
        before = connection.execute(query).mappings().all()
        self._write(connection, ends)
        move_counters(
            connection,
            self._batch_id,
            running=-len(ends),
            done=sum(end.state == "done" for end in ends),
            failed=sum(end.state == "failed" for end in ends),
            cancelled=sum(end.state == "cancelled" for end in ends),
            images=sum(end.images for end in ends),
            pending=sum(end.pending for end in ends),
            charged_micro_usd=sum(end.charged_micro_usd for end in ends),
            reserved_micro_usd=-sum(line["ceiling_micro_usd"] or 0 for line in before),
            unknown=sum(end.unknown for end in ends) - sum(line["unknown"] for line in before),
            exposed_micro_usd=sum(end.exposed_micro_usd for end in ends)
            - sum(line["exposed_micro_usd"] for line in before),
        )
        return len(ends)

    def _write(self, connection: Connection, ends: Sequence[LineEnd]) -> None:
        if not ends:
            return
        names = ("state", "unknown", "exposed_micro_usd", "error_type", "error_message")
        connection.execute(
            update(batch_lines)
            .where(self._mine, _line.line == bindparam("of_line"))
            .values({name: bindparam(f"new_{name}") for name in names} | {"ended_at": datetime.now(UTC)}),
            [{"of_line": end.line} | {f"new_{name}": getattr(end, name) for name in names} for end in ends],
        )


def _make_end(end: UnbilledEnd, before: RowMapping) -> LineEnd:
    """The end of a line that was not started; what it may have paid for in an earlier round stays."""
    return LineEnd(
        line=end.line,
        state=end.state,
        unknown=before["unknown"],
        exposed_micro_usd=before["exposed_micro_usd"],
        error_type=end.error_type,
        error_message=end.error_message,
    )


def _decide(batch: RowMapping, wish: Wish, *, capped: bool) -> tuple[BatchState, str | None]:
    left = batch["waiting"]
    if batch["running"]:
        return _UNDER_WAY[wish], None
    if wish == "cancel" and (left or batch["cancelled"]):
        return "cancelled", f"It was cancelled; {left:,} lines were not started."
    if not left:
        return "done", None
    if must_stop(batch):
        return "stopped", f"A line has failed, and --fail-fast was given; {left:,} lines were not started."
    if capped and wish == "start":
        return "capped", f"The next line could pass --max-cost; {left:,} lines were not started."
    return _UNDER_WAY[wish], None
