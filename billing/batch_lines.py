"""How a batch's lines begin: read, claimed, and known to be started. How they end is in `billing.batch_ends`.

Each change is one transaction that moves the batch's counters too, and no step touches more lines than are under way:
whatever the batch's size, a line costs the same.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, or_, select, update

from billing.batch_bills import sum_unknown_in_flight
from billing.batch_records import FollowedLine, PricedLine, StartedLine, WaitingLine
from billing.batch_tables import batch_lines
from billing.batches import lock_batch, move_counters, must_stop
from billing.database import Database

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

    def take_doubtful(self, age: timedelta, limit: int, *, attached: bool) -> list[FollowedLine]:
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
