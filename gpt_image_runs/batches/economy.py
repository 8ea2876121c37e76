"""The lines of economy batches in the tables of batches: begun as their part is claimed, ended by what the ledger says.

In a ledger that was restored from a copy older than the batch it has no lines: then nothing is written, and nothing is held back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, RowMapping, func, select

from gpt_image_runs.batches.lines import BatchEnds, BatchLines, Claim
from gpt_image_runs.batches.models import PricedLine, StartedLine, UnbilledEnd
from gpt_image_runs.billing.attempts.attempts import insert_attempt, list_attempts, lock_run, read_attempt
from gpt_image_runs.billing.attempts.runs import RunIdentity, claim_run
from gpt_image_runs.billing.records import Attempt, NewAttempt, Outcome
from gpt_image_runs.contracts.economy import BATCH_CANCELLED
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import BudgetExceeded, LedgerRefused, RunConflict
from gpt_image_runs.database.tables import batch_lines, batches, ledger_entries, provider_attempts

BILL_MISSING = "BillMissing"
_LINES_AT_ONCE = 500
_UNDER_WAY = ("starting", "running")
_line, _attempt = batch_lines.c, provider_attempts.c


class EconomyLines:
    """The lines of one economy batch. Safe to share between threads."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id
        self._lines = BatchLines(database, batch_id)
        self._ends = BatchEnds(database, batch_id)

    def refuse(self, ends: Sequence[UnbilledEnd]) -> None:
        """Ends lines that wait and cannot be in a batch."""
        if self._is_registered():
            for some in _split(ends):
                self._ends.refuse(some)

    def reserve(self, lines: Sequence[PricedLine]) -> Claim:
        """The lines that this round may send, their worst cases reserved: those that wait, as far as the batch's limit allows.

        Asked again after a crash, it names the same lines.
        """
        numbers = {line.line for line in lines}
        if not self._is_registered():
            return Claim(numbers, capped=False)
        capped = self._lines.claim(lines).capped
        query = select(_line.line).where(
            _line.batch_id == self._batch_id, _line.state == "starting", _line.line.in_(numbers)
        )
        with self._database.reading() as connection:
            return Claim(set(connection.execute(query).scalars()), capped=capped)

    def begin(self, claimed: Sequence[StartedLine], passed: Sequence[UnbilledEnd]) -> None:
        """`claimed` lines are under way from now on; of `passed` ones those that have a bill are done, and the others failed."""
        if not self._is_registered():
            return
        self._lines.confirm(claimed)
        self._ends.collect_billed()
        for some in _split(passed):
            self._ends.end_unbilled(some)

    def collect_billed(self) -> None:
        """Ends the lines that have a bill."""
        if self._is_registered():
            self._ends.collect_billed()

    def end_part(self, batch_part: str) -> None:
        """Ends the lines of a part whose attempts all have an outcome. One that was paid and could not be billed has failed here:
        a later round, or its request by itself, finds what was paid.
        """
        if not self._is_registered():
            return
        self._ends.collect_billed()
        for some in _split(self._list_unbilled(batch_part)):
            self._ends.end_unbilled(some)

    def end_round(self, *, cancelled: bool) -> None:
        """Gives the batch the state that follows from its lines. Those that wait were kept back by its limit, or by whoever has
        cancelled it.
        """
        if self._is_registered():
            self._ends.settle("cancel" if cancelled else "start", capped=True)

    def _list_unbilled(self, batch_part: str) -> list[UnbilledEnd]:
        query = (
            select(
                _line.line,
                _attempt.attempt_id,
                _attempt.outcome,
                _attempt.error_type,
                _attempt.error_message,
            )
            .join_from(batch_lines, provider_attempts, _attempt.run_id == _line.run_id)
            .where(
                _line.batch_id == self._batch_id,
                _line.state.in_(_UNDER_WAY),
                _attempt.batch_part == batch_part,
                _attempt.finished_at.is_not(None),
            )
        )
        with self._database.reading() as connection:
            return [_describe_end(row) for row in connection.execute(query).mappings()]

    def _is_registered(self) -> bool:
        query = select(batches.c.economy).where(batches.c.batch_id == self._batch_id)
        with self._database.reading() as connection:
            return bool(connection.execute(query).scalar())


def _describe_end(row: RowMapping) -> UnbilledEnd:
    if row["outcome"] == "succeeded":
        return UnbilledEnd(
            line=row["line"],
            state="failed",
            error_type=BILL_MISSING,
            error_message=f"Attempt {row['attempt_id']} was paid and has no bill yet; `python starter.py pending` says what to do.",
        )
    return UnbilledEnd(
        line=row["line"],
        state="cancelled" if row["error_type"] == BATCH_CANCELLED else "failed",
        error_type=row["error_type"] or "",
        error_message=row["error_message"] or "",
    )


def _split(ends: Sequence[UnbilledEnd]) -> list[Sequence[UnbilledEnd]]:
    return [ends[start : start + _LINES_AT_ONCE] for start in range(0, len(ends), _LINES_AT_ONCE)]


Standing = Literal["claimed", "paid", "under_way", "doubtful"]
Refusal = RunConflict | BudgetExceeded


@dataclass(frozen=True, kw_only=True)
class LineClaim:
    """Whether a line may be sent: then `attempt` is its own.

    `paid`: the run has an attempt that succeeded, which is `attempt`. `under_way`: somebody waits for an answer.
    `doubtful`: too many answers were lost, so that sending it again may pay without end.
    """

    standing: Standing
    attempt: Attempt


@dataclass(frozen=True, kw_only=True)
class PartTotals:
    """What came of attempts: how many by outcome, and what their runs were charged in micro-USD, as far as it is known."""

    outcomes: dict[Outcome, int]
    open: int
    images: int
    without_picture: int
    charged_micro_usd: int
    pending: int


class EconomyAttempts:
    """Claims lines and counts what came of them. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, identity: RunIdentity, new: NewAttempt, resends: int) -> LineClaim:
        """Writes a line's run and attempt down, in one transaction; the same line of the same part again finds its attempt.

        Raises:
            RunConflict: its request id stands for something else already.
            BudgetExceeded: the tenant's budget does not allow it; nothing was written.
        """
        [claim] = self.claim_all([(identity, new)], resends)
        if not isinstance(claim, LineClaim):
            raise claim
        return claim

    def claim_all(
        self, lines: Sequence[tuple[RunIdentity, NewAttempt]], resends: int
    ) -> list[LineClaim | Refusal]:
        """The same for many lines in one transaction, a refusal being the result of its line alone."""
        # In the order of their runs, so that two batches that share some never wait for each other in a circle.
        in_order = sorted(range(len(lines)), key=lambda index: lines[index][0].run_id)
        with self._database.writing() as connection:
            claims = {index: _claim(connection, *lines[index], resends) for index in in_order}
        return [claims[index] for index in range(len(lines))]

    def find(self, attempt_id: str) -> Attempt:
        """An attempt that was claimed.

        Raises:
            LedgerRefused: there is none.
        """
        query = select(provider_attempts).where(provider_attempts.c.attempt_id == attempt_id)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise LedgerRefused(f"There is no attempt {attempt_id} in the ledger.")
        return read_attempt(row)

    def list_open(self, batch_part: str) -> tuple[Attempt, ...]:
        """The attempts of a part that have no outcome yet."""
        these = (provider_attempts.c.batch_part == batch_part, provider_attempts.c.finished_at.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(select(provider_attempts).where(*these)).mappings()
            return tuple(read_attempt(row) for row in rows)

    def sum_up(self, part_prefix: str) -> PartTotals:
        """What came of all attempts whose part begins like that."""
        attempt, entry = provider_attempts.c, ledger_entries.c
        these = attempt.batch_part.startswith(part_prefix, autoescape=True)
        outcomes = select(attempt.outcome, func.count()).where(these).group_by(attempt.outcome)
        still_open = select(func.count()).where(these, attempt.finished_at.is_(None))
        bills = (
            select(entry.amount_micro_usd, entry.image_count)
            .join_from(ledger_entries, provider_attempts)
            .where(these, entry.kind.in_(("charge", "estimate", "hold")))
        )
        with self._database.reading() as connection:
            counts: dict[Outcome, int] = {row[0]: row[1] for row in connection.execute(outcomes)}
            rows = connection.execute(bills).all()
            opened = connection.execute(still_open).scalar_one()
        return PartTotals(
            outcomes=counts,
            open=opened,
            images=sum(row.image_count for row in rows),
            without_picture=sum(row.image_count == 0 for row in rows),
            charged_micro_usd=sum(row.amount_micro_usd or 0 for row in rows),
            pending=sum(row.amount_micro_usd is None for row in rows),
        )


def _claim(
    connection: Connection, identity: RunIdentity, new: NewAttempt, resends: int
) -> LineClaim | Refusal:
    try:
        with connection.begin_nested():  # what is refused leaves no trace, and the other lines stay
            claim_run(connection, identity)
            lock_run(connection, identity.run_id)
            earlier = list_attempts(connection, identity.run_id)
            known = _judge(earlier, new.batch_part, resends)
            return known or LineClaim(standing="claimed", attempt=insert_attempt(connection, new))
    except (RunConflict, BudgetExceeded) as refusal:
        return refusal


def _judge(earlier: tuple[Attempt, ...], batch_part: str | None, resends: int) -> LineClaim | None:
    """What earlier attempts of the run say; None where they leave it free to be sent."""
    for attempt in earlier:
        if attempt.outcome == "succeeded":
            return LineClaim(standing="paid", attempt=attempt)
    for attempt in earlier:
        if attempt.finished_at is None:
            own = attempt.batch_part == batch_part
            return LineClaim(standing="claimed" if own else "under_way", attempt=attempt)
    unknown = [attempt for attempt in earlier if attempt.outcome == "unknown"]
    return LineClaim(standing="doubtful", attempt=unknown[-1]) if len(unknown) > resends else None


def describe_claim(claim: LineClaim, run_id: str) -> str:
    """Why a line was not sent, as a sentence."""
    attempt = claim.attempt
    if claim.standing == "paid":
        return f"The run {run_id} was paid before, by attempt {attempt.attempt_id}: it has its pictures and its bill."
    if claim.standing == "under_way":
        return (
            f"The run {run_id} is under way: attempt {attempt.attempt_id} of {_show(attempt.sent_at)} has no outcome yet."
            " Retry this line when it has."
        )
    return (
        f"Too many answers for the run {run_id} were lost, the last of attempt {attempt.attempt_id}: each may have been"
        " paid for nothing. Give the request another request_id to send it again."
    )


def _show(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
