"""The lines of economy batches in the tables of batches: begun as their part is claimed, ended by what the ledger says.

A batch that was planned before these tables knew of it has no lines there: then nothing is written, and nothing is held back.
"""

from collections.abc import Sequence

from sqlalchemy import RowMapping, select

from billing.batch_ends import BatchEnds
from billing.batch_lines import BatchLines, Claim
from billing.batch_records import PricedLine, StartedLine, UnbilledEnd
from billing.batch_tables import batch_lines, batches
from billing.database import Database
from billing.tables import provider_attempts
from contracts.economy import BATCH_CANCELLED

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
