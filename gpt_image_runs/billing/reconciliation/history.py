"""The comparisons that were made: each is written once under its caller's key, and never changed."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from sqlalchemy import ColumnElement, RowMapping, select

from gpt_image_runs.billing.seals import COMPARISONS, append_seal, hash_numbered, lock_chain
from gpt_image_runs.contracts.provider_reconciliation import Comparison, RecordedComparison
from gpt_image_runs.database.engine import Database, insert_once
from gpt_image_runs.database.errors import LedgerRefused
from gpt_image_runs.database.tables import provider_comparisons
from gpt_image_runs.database.types import utc_now


class ComparisonLog:
    """Write and read comparisons with the provider's books. Safe to share between threads and processes."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def record(self, key: str, comparison: Comparison) -> RecordedComparison:
        """Record a comparison. The same key again returns the first one, whatever `comparison` says.

        Raises:
            LedgerUnavailable: try again.
        """
        row = {
            "comparison_id": f"cmp_{uuid4().hex}",
            "comparison_key": key,
            "provider": comparison.provider,
            "day": comparison.day.isoformat(),
            "verdict": comparison.verdict,
            "comparison": comparison.model_dump(mode="json"),
            "created_at": self._clock(),
        }
        query = select(provider_comparisons).where(provider_comparisons.c.comparison_key == key)
        with self._database.writing() as connection:
            kept = connection.execute(query).mappings().first()
            if kept is None:
                lock_chain(connection, COMPARISONS)
                if insert_once(connection, provider_comparisons, row):
                    content_hash = hash_numbered(provider_comparisons, row, connection)
                    append_seal(connection, COMPARISONS, "comparison", key, content_hash)
                kept = connection.execute(query).mappings().one()
        return _read(kept)

    def find(self, key: str) -> RecordedComparison | None:
        """Return the comparison of a key, None where there is none yet."""
        return self._find(provider_comparisons.c.comparison_key == key)

    def read(self, comparison_id: str) -> RecordedComparison:
        """Return a comparison by its id.

        Raises:
            LedgerRefused: there is no such comparison.
        """
        found = self._find(provider_comparisons.c.comparison_id == comparison_id)
        if found is None:
            raise LedgerRefused(
                f"There is no comparison {comparison_id} in the ledger at {self._database.location}."
                " Is this the ledger that the worker writes?"
            )
        return found

    def _find(self, condition: ColumnElement[bool]) -> RecordedComparison | None:
        with self._database.reading() as connection:
            row = connection.execute(select(provider_comparisons).where(condition)).mappings().first()
        return None if row is None else _read(row)


def _read(row: RowMapping) -> RecordedComparison:
    return RecordedComparison(
        comparison_id=row["comparison_id"],
        recorded_at=row["created_at"],
        comparison=Comparison.model_validate(row["comparison"]),
    )
