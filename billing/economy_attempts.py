"""The attempts of economy batches: one for each line, written down before its part of the batch is created.

All lines of a part go to the provider in one file, so an attempt here is no HTTP request of its own. It stays of outcome
"unknown" until the line's result is there; meanwhile nobody else sends anything for its run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, func, select

from billing.attempt_records import Attempt, NewAttempt, Outcome
from billing.attempt_rows import insert_attempt, list_attempts, lock_run, read_attempt
from billing.database import Database
from billing.errors import BudgetExceeded, LedgerRefused, RunConflict
from billing.runs import RunIdentity, claim_run
from billing.tables import ledger_entries, provider_attempts

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
