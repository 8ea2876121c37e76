"""All entries of one run, read by somebody who is about to add another: nobody else corrects the run meanwhile."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from billing.errors import CorrectionRefused
from billing.tables import ledger_entries, runs


@dataclass(frozen=True)
class RunHistory:
    """A run's entries, the oldest first: at least its bill."""

    entries: tuple[RowMapping, ...]

    @property
    def latest(self) -> RowMapping:
        """The entry that decides where the run stands."""
        return self.entries[-1]

    @property
    def is_pending(self) -> bool:
        """Whether the run has no amount yet."""
        return bool(self.latest["kind"] == "hold")

    @property
    def is_reversed(self) -> bool:
        """Whether all that was billed was taken back."""
        return bool(self.latest["kind"] == "reversal")

    def sum_up(self, column: str) -> int:
        """The sum of a column in micro-USD; what is not known counts for nothing."""
        return sum(entry[column] for entry in self.entries if entry[column] is not None)

    def find(self, key: str) -> RowMapping | None:
        """The entry of that permanent key."""
        return next((entry for entry in self.entries if entry["entry_key"] == key), None)

    def find_last(self, prefix: str) -> RowMapping | None:
        """The last entry whose permanent key begins like that."""
        return next(
            (entry for entry in reversed(self.entries) if entry["entry_key"].startswith(prefix)), None
        )


def lock_history(connection: Connection, run_id: str) -> RunHistory:
    """The entries of a run, which nobody else corrects until the transaction ends.

    Raises:
        CorrectionRefused: the run has no entry.
    """
    # Two corrections of one run wait for each other at the run's row. NO KEY UPDATE leaves foreign keys to it alone;
    # SQLite needs no lock, as whoever writes there is alone in the database.
    connection.execute(select(runs.c.run_id).where(runs.c.run_id == run_id).with_for_update(key_share=True))
    query = (
        select(ledger_entries).where(ledger_entries.c.run_id == run_id).order_by(ledger_entries.c.sequence)
    )
    entries: tuple[Any, ...] = tuple(connection.execute(query).mappings())
    if not entries:
        raise CorrectionRefused(
            f"The run {run_id} has no entry in the ledger, so there is nothing to correct. Nothing was written."
            " `python starter.py ledger` lists what there is."
        )
    return RunHistory(entries)
