"""The lines of a batch of either kind: claimed, started, followed and ended.

Each change is one transaction that moves the batch's counters too. No step reads more lines than are under way, so the work
for a line does not depend on the batch's size.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, Select, bindparam, or_, select, update

from gpt_image_runs.batches.batches import lock_batch, move_counters, must_stop, view_counted
from gpt_image_runs.batches.models import (
    FollowedLine,
    LineEnd,
    PricedLine,
    StartedLine,
    UnbilledEnd,
    WaitingLine,
)
from gpt_image_runs.batches.results import find_billed, find_unknown, sum_unknown_in_flight
from gpt_image_runs.contracts.batches import BatchProgress, BatchState, Wish
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import batch_lines, batches

_line = batch_lines.c
_WAITING = batch_lines.c["line", "page", "run_id"]
_FOLLOWED = batch_lines.c["line", "run_id", "workflow_run_id", "attached"]
_CLOCKS_APART = timedelta(minutes=1)
_LINES_A_TRANSACTION = 500
_UNDER_WAY: dict[Wish, BatchState] = {"start": "running", "hold": "paused", "cancel": "cancelling"}


class Claim(NamedTuple):
    """Lines that may be started now. `capped`: the batch's limit keeps back the next one."""

    lines: set[int]
    capped: bool


class BatchLines:
    """The lines of one batch. Safe to share between threads.

    A ledger that was restored from a copy older than an `economy` batch does not know its lines: then nothing is written,
    and no line is kept back.
    """

    def __init__(self, database: Database, batch_id: str, *, economy: bool = False) -> None:
        self._database = database
        self._batch_id = batch_id
        self._economy = economy
        self._mine = _line.batch_id == batch_id

    def list_waiting(self, limit: int) -> list[WaitingLine]:
        """List the next lines to start, in the order of the file."""
        query = select(*_WAITING).where(self._mine, _line.state == "waiting")
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_line.line).limit(limit)).mappings()
            return [WaitingLine(**row) for row in rows]

    def list_starting(self) -> list[FollowedLine]:
        """List lines claimed and not confirmed, as after the death of a worker."""
        return self._list(select(*_FOLLOWED).where(self._mine, _line.state == "starting"))

    def list_running(self, run_ids: Iterable[str] | None = None) -> list[FollowedLine]:
        """List the lines whose runs are under way, limited to `run_ids` where given."""
        query = select(*_FOLLOWED).where(self._mine, _line.state == "running")
        return self._list(query if run_ids is None else query.where(_line.run_id.in_(list(run_ids))))

    def claim_stale(self, age: timedelta, limit: int, *, attached: bool) -> list[FollowedLine]:
        """Return running lines that were not checked for `age`, and mark them as checked.

        The oldest come first. `attached` selects the lines whose runs others have started; a list of the batch's own runs does not show those.
        """
        now = datetime.now(UTC)
        overdue = (
            self._mine,
            _line.state == "running",
            _line.attached == attached,
            # A time in the future is from a host whose clock is wrong. Checking once too often costs nothing.
            or_(_line.looked_at < now - age, _line.looked_at > now + _CLOCKS_APART),
        )
        found = self._list(select(*_FOLLOWED).where(*overdue).order_by(_line.looked_at).limit(limit))
        if found:
            theirs = _line.line.in_([line.line for line in found])
            with self._database.writing() as connection:
                connection.execute(update(batch_lines).where(self._mine, theirs).values(looked_at=now))
        return found

    def find_oldest_start(self) -> datetime | None:
        """Return when the oldest run under way was started, None without one."""
        query = select(_line.started_at).where(self._mine, _line.state == "running")
        with self._database.reading() as connection:
            oldest: datetime | None = connection.execute(query.order_by(_line.started_at).limit(1)).scalar()
        return oldest

    def claim(self, lines: Sequence[PricedLine]) -> Claim:
        """Reserve waiting lines, as many in their order as the batch's limit allows.

        Claimed lines count with their worst case as under way: start their runs, then call `confirm` or `release`. Of an economy batch the claim
        is idempotent: lines claimed before and not confirmed are in it too.
        """
        numbers = [line.line for line in lines]
        with self._database.writing() as connection:
            batch = self._lock(connection)
            if batch is None:
                return Claim(set(numbers), capped=False)
            if must_stop(batch):
                return Claim(set(), capped=False)
            query = select(_line.line, _line.state).where(self._mine, _line.line.in_(numbers))
            states = {row.line: row.state for row in connection.execute(query)}
            held = {line for line in numbers if self._economy and states.get(line) == "starting"}
            wanted = [line for line in lines if states.get(line.line) == "waiting"]
            claimed = _fit(wanted, self._find_left(connection, batch))
            if claimed:
                self._reserve(connection, claimed)
        return Claim(held | {line.line for line in claimed}, capped=len(claimed) < len(wanted))

    def _find_left(self, connection: Connection, batch: RowMapping) -> int | None:
        """Return what is left of the batch's limit in micro-USD, None without a limit."""
        if batch["max_cost_micro_usd"] is None:
            return None
        spent = batch["charged_micro_usd"] + batch["reserved_micro_usd"] + batch["exposed_micro_usd"]
        left: int = batch["max_cost_micro_usd"] - spent - sum_unknown_in_flight(connection, self._batch_id)
        return left

    def _reserve(self, connection: Connection, claimed: Sequence[PricedLine]) -> None:
        now = datetime.now(UTC)
        connection.execute(
            update(batch_lines)
            .where(self._mine, _line.line == bindparam("of_line"))
            .values(
                state="starting",
                fingerprint=bindparam("asked"),
                ceiling_micro_usd=bindparam("ceiling"),
                started_at=now,
                looked_at=now,
            ),
            [
                {"of_line": line.line, "asked": line.fingerprint, "ceiling": line.ceiling_micro_usd}
                for line in claimed
            ],
        )
        self._move(connection, len(claimed), sum(line.ceiling_micro_usd or 0 for line in claimed))

    def confirm(self, started: Sequence[StartedLine]) -> None:
        """Record that the runs of claimed lines exist."""
        changes = [
            {"of_line": line.line, "run": line.workflow_run_id, "others": line.attached} for line in started
        ]
        if not changes:
            return
        with self._database.writing() as connection:
            if self._lock(connection) is None:
                return
            connection.execute(
                update(batch_lines)
                .where(self._mine, _line.line == bindparam("of_line"), _line.state == "starting")
                .values(state="running", workflow_run_id=bindparam("run"), attached=bindparam("others")),
                changes,
            )

    def release(self, lines: Sequence[int]) -> None:
        """Let claimed lines wait again whose runs do not exist."""
        if not lines:
            return
        with self._database.writing() as connection:
            lock_batch(connection, self._batch_id)
            query = select(_line.line, _line.ceiling_micro_usd).where(
                self._mine, _line.state == "starting", _line.line.in_(lines)
            )
            found = {line: ceiling or 0 for line, ceiling in connection.execute(query)}
            connection.execute(
                update(batch_lines)
                .where(self._mine, _line.line.in_(list(found)))
                .values(state="waiting", ceiling_micro_usd=None, started_at=None)
            )
            self._move(connection, -len(found), -sum(found.values()))

    def collect_billed(self) -> int:
        """End every line under way whose run has a bill, and return how many."""
        with self._database.reading() as connection:
            if not find_billed(connection, self._batch_id):
                return 0
        with self._database.writing() as connection:
            if self._lock(connection) is None:
                return 0
            return self._end(connection, find_billed(connection, self._batch_id))

    def end_unbilled(self, ends: Sequence[UnbilledEnd]) -> None:
        """End lines whose runs have ended without a bill, and count their lost answers."""
        for some in _chunk(ends):
            self._end_unbilled(some)

    def _end_unbilled(self, ends: Sequence[UnbilledEnd]) -> None:
        with self._database.writing() as connection:
            if self._lock(connection) is None:
                return
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
        """End waiting lines that may not be started."""
        for some in _chunk(ends):
            self._refuse(some)

    def _refuse(self, ends: Sequence[UnbilledEnd]) -> None:
        with self._database.writing() as connection:
            if self._lock(connection) is None:
                return
            query = select(_line.line, _line.unknown, _line.exposed_micro_usd).where(
                self._mine, _line.state == "waiting", _line.line.in_([end.line for end in ends])
            )
            waiting = {row["line"]: row for row in connection.execute(query).mappings()}
            refused = [_make_end(end, waiting[end.line]) for end in ends if end.line in waiting]
            self._write(connection, refused)
            move_counters(connection, self._batch_id, waiting=-len(refused), failed=len(refused))

    def settle(self, wish: Wish, *, capped: bool) -> BatchProgress:
        """Set the batch's state by its lines, ended or under way, and return its progress.

        `capped`: the batch's limit keeps the next line from being started.
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
            return view_counted(connection, found.mappings().one())

    def _end(self, connection: Connection, ends: Sequence[LineEnd]) -> int:
        """Write the ends of lines under way, and move the counters accordingly."""
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

    def _lock(self, connection: Connection) -> RowMapping | None:
        """Lock the batch's row. None for an economy batch that this ledger does not know."""
        if not self._economy:
            return lock_batch(connection, self._batch_id)
        query = select(batches).where(batches.c.batch_id == self._batch_id, batches.c.economy)
        return connection.execute(query.with_for_update()).mappings().one_or_none()

    def _move(self, connection: Connection, count: int, reserved: int) -> None:
        move_counters(connection, self._batch_id, waiting=-count, running=count, reserved_micro_usd=reserved)

    def _list(self, query: Select[Any]) -> list[FollowedLine]:
        with self._database.reading() as connection:
            return [FollowedLine(**row) for row in connection.execute(query).mappings()]


def _fit(lines: Sequence[PricedLine], left: int | None) -> list[PricedLine]:
    """Return the first lines that fit into what is left, in micro-USD.

    A line that does not fit, or has no known worst case, keeps back those behind it.
    """
    if left is None:
        return list(lines)
    fitting: list[PricedLine] = []
    for line in lines:
        if line.ceiling_micro_usd is None or line.ceiling_micro_usd > left:
            break
        left -= line.ceiling_micro_usd
        fitting.append(line)
    return fitting


def _chunk(ends: Sequence[UnbilledEnd]) -> list[Sequence[UnbilledEnd]]:
    return [ends[start : start + _LINES_A_TRANSACTION] for start in range(0, len(ends), _LINES_A_TRANSACTION)]


def _make_end(end: UnbilledEnd, before: RowMapping) -> LineEnd:
    """Build the end of a line that was not started, with lost answers of earlier rounds."""
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
