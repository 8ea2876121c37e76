"""What economy batches have in the ledger: attempts of claimed lines, and the ends of parts and rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, RowMapping, func, select

from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import UnbilledEnd
from gpt_image_runs.batches.results import BILLS, UNDER_WAY
from gpt_image_runs.billing.attempts.attempts import insert_attempt, list_attempts, lock_run, read_attempt
from gpt_image_runs.billing.attempts.runs import RunIdentity, claim_run
from gpt_image_runs.billing.records import Attempt, NewAttempt, Outcome
from gpt_image_runs.contracts.economy import BATCH_CANCELLED
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import BudgetExceeded, LedgerRefused, RunConflict
from gpt_image_runs.database.tables import batch_lines, ledger_entries, provider_attempts

BILL_MISSING = "BillMissing"
_line, _attempt, _entry = batch_lines.c, provider_attempts.c, ledger_entries.c


def end_part(database: Database, batch_id: str, batch_part: str) -> None:
    """End the lines of a part whose attempts all have an outcome.

    A line that was paid and could not be billed fails here: a later round, or its request by itself, finds what was paid.
    """
    lines = BatchLines(database, batch_id, economy=True)
    lines.collect_billed()
    lines.end_unbilled(_list_unbilled(database, batch_id, batch_part))


def end_round(database: Database, batch_id: str, *, cancelled: bool) -> None:
    """Set the batch's state by its lines.

    Waiting lines were kept back by the limit or the cancellation.
    """
    progress = Batches(database).find(batch_id)
    if progress and progress.economy:
        BatchLines(database, batch_id, economy=True).settle("cancel" if cancelled else "start", capped=True)


def _list_unbilled(database: Database, batch_id: str, batch_part: str) -> list[UnbilledEnd]:
    query = (
        select(_line.line, _attempt.attempt_id, _attempt.outcome, _attempt.error_type, _attempt.error_message)
        .join_from(batch_lines, provider_attempts, _attempt.run_id == _line.run_id)
        .where(
            _line.batch_id == batch_id,
            _line.state.in_(UNDER_WAY),
            _attempt.batch_part == batch_part,
            _attempt.finished_at.is_not(None),
        )
    )
    with database.reading() as connection:
        return [_unbilled_end(row) for row in connection.execute(query).mappings()]


def _unbilled_end(row: RowMapping) -> UnbilledEnd:
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


Standing = Literal["claimed", "paid", "under_way", "doubtful"]
Refusal = RunConflict | BudgetExceeded


@dataclass(frozen=True, kw_only=True)
class LineClaim:
    """Whether a line may be sent. It may where it is `claimed`, and `attempt` is its own then.

    `paid`: `attempt` of its run succeeded. `under_way`: `attempt` has no outcome yet. `doubtful`: too many answers were lost, so
    that sending it again could pay without limit.
    """

    standing: Standing
    attempt: Attempt


@dataclass(frozen=True, kw_only=True)
class PartTotals:
    """Totals of attempts: how many by outcome, and the charges of their runs in micro-USD as far as they are known."""

    outcomes: dict[Outcome, int]
    images: int
    without_picture: int
    charged_micro_usd: int
    pending: int


class EconomyAttempts:
    """Claims lines and counts their outcomes. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, identity: RunIdentity, new: NewAttempt, resends: int) -> LineClaim:
        """Record a line's run and attempt in one transaction.

        Idempotent for the same line of the same part.

        Raises:
            RunConflict: its request id stands for other content already.
            BudgetExceeded: the tenant's budget does not allow it; nothing was written.
        """
        [claim] = self.claim_all([(identity, new)], resends)
        if not isinstance(claim, LineClaim):
            raise claim
        return claim

    def claim_all(
        self, lines: Sequence[tuple[RunIdentity, NewAttempt]], resends: int
    ) -> list[LineClaim | Refusal]:
        """Claim many lines in one transaction.

        A line that is refused does not affect the others.
        """
        # In the order of their runs, so that two batches that share some cannot deadlock.
        in_order = sorted(range(len(lines)), key=lambda index: lines[index][0].run_id)
        with self._database.writing() as connection:
            claims = {index: _claim(connection, *lines[index], resends) for index in in_order}
        return [claims[index] for index in range(len(lines))]

    def find(self, attempt_id: str) -> Attempt:
        """Find an attempt by its id.

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
        """List the attempts of a part that have no outcome yet."""
        these = (provider_attempts.c.batch_part == batch_part, provider_attempts.c.finished_at.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(select(provider_attempts).where(*these)).mappings()
            return tuple(read_attempt(row) for row in rows)

    def sum_up(self, part_prefix: str) -> PartTotals:
        """Sum up all attempts whose part begins with a prefix."""
        these = _attempt.batch_part.startswith(part_prefix, autoescape=True)
        outcomes = select(_attempt.outcome, func.count()).where(these).group_by(_attempt.outcome)
        bills = (
            select(_entry.amount_micro_usd, _entry.image_count)
            .join_from(ledger_entries, provider_attempts)
            .where(these, _entry.kind.in_(BILLS))
        )
        with self._database.reading() as connection:
            counts: dict[Outcome, int] = {row[0]: row[1] for row in connection.execute(outcomes)}
            rows = connection.execute(bills).all()
        return PartTotals(
            outcomes=counts,
            images=sum(row.image_count for row in rows),
            without_picture=sum(row.image_count == 0 for row in rows),
            charged_micro_usd=sum(row.amount_micro_usd or 0 for row in rows),
            pending=sum(row.amount_micro_usd is None for row in rows),
        )


def _claim(
    connection: Connection, identity: RunIdentity, new: NewAttempt, resends: int
) -> LineClaim | Refusal:
    try:
        with connection.begin_nested():  # a refusal rolls back its own line only
            claim_run(connection, identity)
            lock_run(connection, identity.run_id)
            earlier = list_attempts(connection, identity.run_id)
            known = _judge(earlier, new.batch_part, resends)
            return known or LineClaim(standing="claimed", attempt=insert_attempt(connection, new))
    except (RunConflict, BudgetExceeded) as refusal:
        return refusal


def _judge(earlier: tuple[Attempt, ...], batch_part: str | None, resends: int) -> LineClaim | None:
    """Decide by the run's earlier attempts, None where they allow to send it."""
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
    """Describe why a line was not sent."""
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
