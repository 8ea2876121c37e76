"""The activity `reconcile_provider`: compare a day of the ledger with the provider's own usage and cost reports.

Reading costs nothing and changes nothing. The comparison is written once for each run of its workflow.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import translate_errors
from gpt_image_runs.billing.reconciliation.compare import compare_day, summarize
from gpt_image_runs.billing.reconciliation.history import ComparisonLog
from gpt_image_runs.billing.reconciliation.matching import list_compared_attempts, stretch_to_ask
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.provider_reconciliation import (
    Comparison,
    ComparisonOrder,
    ComparisonSummary,
    ProviderDay,
)
from gpt_image_runs.database.engine import Database
from gpt_image_runs.provider.usage_api import BooksFailure, ProviderBooks

log = structlog.get_logger("reconcile_provider")


class ProviderReconciler:
    """Compares a ledger with a provider's reports. `project_id` is the default of orders that name none."""

    def __init__(
        self, books: ProviderBooks, database: Database, *, provider: str, project_id: str | None
    ) -> None:
        self._books = books
        self._database = database
        self._comparisons = ComparisonLog(database)
        self._provider = provider
        self._project_id = project_id

    @activity.defn(name=names.RECONCILE_PROVIDER)
    async def reconcile_provider(self, order: ComparisonOrder) -> ComparisonSummary:
        """Compare the day that the order names. Return the totals; the whole comparison is in the ledger.

        Raises:
            ApplicationError: the provider's reports cannot be read; not retryable if waiting does not help.
            LedgerUnavailable: the database does not answer; retried until it does.
        """
        if order.day is None:
            raise ApplicationError(
                "The order has no day. Add a `day`, for example 2026-11-27.", type="NoDay", non_retryable=True
            )
        info = activity.info()
        key = f"{info.workflow_id}/{info.workflow_run_id}"
        with translate_errors(), _books_failures():
            kept = await asyncio.to_thread(self._comparisons.find, key)
            if kept is None:
                narrowed = order.model_copy(update={"project_id": order.project_id or self._project_id})
                comparison = await self._compare(narrowed, order.day)
                kept = await asyncio.to_thread(self._comparisons.record, key, comparison)
        summary = summarize(kept)
        log.info(
            "provider_day_compared",
            comparison_id=summary.comparison_id,
            day=summary.day.isoformat(),
            verdict=summary.verdict,
        )
        return summary

    async def _compare(self, order: ComparisonOrder, day: date) -> Comparison:
        books = await self._read_books(order, day)
        asked = stretch_to_ask(day)
        attempts = await asyncio.to_thread(
            list_compared_attempts, self._database, self._provider, asked.since, asked.until
        )
        return await asyncio.to_thread(compare_day, order, day, self._provider, attempts, books)

    async def _read_books(self, order: ComparisonOrder, day: date) -> ProviderDay:
        asked = stretch_to_ask(day)
        return await self._books.read_day(
            day, asked.since, asked.until, project_id=order.project_id, api_key_id=order.api_key_id
        )


@contextmanager
def _books_failures() -> Iterator[None]:
    try:
        yield
    except BooksFailure as failure:
        raise ApplicationError(
            str(failure), type=type(failure).__name__, non_retryable=not failure.retryable
        ) from None
