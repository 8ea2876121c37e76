"""How a batch's lines begin: read, claimed, and known to be started. How they end is in `gpt_image_runs.batches.lines`.

Each change is one transaction that moves the batch's counters too, and no step touches more lines than are under way:
whatever the batch's size, a line costs the same.
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


class Claim(NamedTuple):
    """Lines that may be started now; `capped` where the batch's limit keeps back the one behind them."""

    lines: set[int]
    capped: bool


class BatchLines:
    """The lines of one batch that wait or are under way. Safe to share between threads."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id
        self._mine = _line.batch_id == batch_id

    def list_waiting(self, limit: int) -> list[WaitingLine]:
        """The next lines to start, in the order of the file."""
        query = select(*_WAITING).where(self._mine, _line.state == "waiting")
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_line.line).limit(limit)).mappings()
            return [WaitingLine(**row) for row in rows]

    def list_starting(self) -> list[FollowedLine]:
        """Lines that were claimed and not confirmed: a worker may have died in between."""
        return self._list(select(*_FOLLOWED).where(self._mine, _line.state == "starting"))

    def list_running(self, run_ids: Iterable[str] | None = None) -> list[FollowedLine]:
        """The lines whose runs are under way, of those runs where some are named."""
        query = select(*_FOLLOWED).where(self._mine, _line.state == "running")
        return self._list(query if run_ids is None else query.where(_line.run_id.in_(list(run_ids))))

    def claim_stale(self, age: timedelta, limit: int, *, attached: bool) -> list[FollowedLine]:
        """Lines that nobody has looked at for that long, the oldest first; they count as looked at from now on.

        `attached` are those whose runs others have started, which a list of the batch's own runs does not show.
        """
        now = datetime.now(UTC)
        overdue = (
            self._mine,
            _line.state == "running",
            _line.attached == attached,
            # One that was looked at in the future was looked at by a host whose clock is wrong: a look costs nothing.
            or_(_line.looked_at < now - age, _line.looked_at > now + _CLOCKS_APART),
        )
        found = self._list(select(*_FOLLOWED).where(*overdue).order_by(_line.looked_at).limit(limit))
        if found:
            theirs = _line.line.in_([line.line for line in found])
            with self._database.writing() as connection:
                connection.execute(update(batch_lines).where(self._mine, theirs).values(looked_at=now))
        return found

    def find_oldest_start(self) -> datetime | None:
        """When the oldest run under way was started, None where none is."""
        query = select(_line.started_at).where(self._mine, _line.state == "running")
        with self._database.reading() as connection:
            oldest: datetime | None = connection.execute(query.order_by(_line.started_at).limit(1)).scalar()
        return oldest

    def claim(self, lines: Sequence[PricedLine]) -> Claim:
        """Reserves the worst case of lines that wait, as many in their order as the batch's limit allows.

        They count as under way from now on: start their runs, and tell by `confirm` or `release`.
        """
        with self._database.writing() as connection:
            batch = lock_batch(connection, self._batch_id)
            if must_stop(batch):
                return Claim(set(), capped=False)
            left = None
            if batch["max_cost_micro_usd"] is not None:
                spent = batch["charged_micro_usd"] + batch["reserved_micro_usd"] + batch["exposed_micro_usd"]
                spent += sum_unknown_in_flight(connection, self._batch_id)
                left = batch["max_cost_micro_usd"] - spent
            query = select(_line.line).where(
                self._mine, _line.state == "waiting", _line.line.in_([line.line for line in lines])
            )
            waiting = set(connection.execute(query).scalars())
            wanted = [line for line in lines if line.line in waiting]
            claimed = _fit(wanted, left)
            if not claimed:
                return Claim(set(), capped=bool(wanted))
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
            reserved = sum(line.ceiling_micro_usd or 0 for line in claimed)
            self._move(connection, len(claimed), reserved)
        return Claim({line.line for line in claimed}, capped=len(claimed) < len(wanted))

    def confirm(self, started: Sequence[StartedLine]) -> None:
        """The runs of these lines exist."""
        changes = [
            {"of_line": line.line, "run": line.workflow_run_id, "others": line.attached} for line in started
        ]
        if not changes:
            return
        with self._database.writing() as connection:
            connection.execute(
                update(batch_lines)
                .where(self._mine, _line.line == bindparam("of_line"), _line.state == "starting")
                .values(state="running", workflow_run_id=bindparam("run"), attached=bindparam("others")),
                changes,
            )

    def release(self, lines: Sequence[int]) -> None:
        """Lines that were claimed and whose runs do not exist wait again."""
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

    def _move(self, connection: Any, count: int, reserved: int) -> None:
        move_counters(connection, self._batch_id, waiting=-count, running=count, reserved_micro_usd=reserved)

    def _list(self, query: Select[Any]) -> list[FollowedLine]:
        with self._database.reading() as connection:
            return [FollowedLine(**row) for row in connection.execute(query).mappings()]


def _fit(lines: Sequence[PricedLine], left: int | None) -> list[PricedLine]:
    """The first lines that fit into what is left, in micro-USD. One that does not fit holds up those behind it, and so does one
    without a known worst case.
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


_batch_ends_line = batch_lines.c
_UNDER_WAY: dict[Wish, BatchState] = {"start": "running", "hold": "paused", "cancel": "cancelling"}


class BatchEnds:
    """The ends of one batch's lines. Safe to share between threads."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id
        self._mine = _batch_ends_line.batch_id == batch_id

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
            query = select(
                _batch_ends_line.line, _batch_ends_line.unknown, _batch_ends_line.exposed_micro_usd
            ).where(
                self._mine,
                _batch_ends_line.state == "waiting",
                _batch_ends_line.line.in_([end.line for end in ends]),
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
            return view_counted(connection, found.mappings().one())

    def _end(self, connection: Connection, ends: Sequence[LineEnd]) -> int:
        """Writes the ends of lines under way, and moves the counters by what each of them changes."""
        query = select(
            _batch_ends_line.ceiling_micro_usd, _batch_ends_line.unknown, _batch_ends_line.exposed_micro_usd
        ).where(self._mine, _batch_ends_line.line.in_([end.line for end in ends]))
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
            .where(self._mine, _batch_ends_line.line == bindparam("of_line"))
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
