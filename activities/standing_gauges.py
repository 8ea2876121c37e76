"""Where the ledger stands, shown as gauges: read now and then by the worker, in a handful of queries by index.

Each worker shows the same ledger, so graphs take the highest of them and never the sum. Budgets are counted and not named: tenants
are many, and `starter.py budget show` names them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import structlog
from temporalio.common import MetricMeter

from billing.database import Database
from billing.errors import LedgerError
from billing.standing import BudgetStanding, MoneyStanding, read_standing
from contracts.budgets import Period

_EVERY_SECONDS = 30

log = structlog.get_logger("standing_gauges")


class StandingGauges:
    """The gauges of one ledger."""

    def __init__(self, database: Database, meter: MetricMeter) -> None:
        self._database = database
        self._read_at = meter.create_gauge(
            "gpt_image_standing_read_timestamp_seconds", "When the ledger was last asked where it stands."
        )
        self._waiting = meter.create_gauge("gpt_image_waiting_bills", "Bills that are not final.")
        self._oldest = meter.create_gauge(
            "gpt_image_oldest_pending_bill_age_seconds",
            "How long the oldest pending bill waits; 0 without one.",
        )
        self._estimated = meter.create_gauge("gpt_image_estimated_micro_usd", "What is billed by estimate.")
        self._exposed = meter.create_gauge(
            "gpt_image_exposed_attempts", "Requests that may have been paid for nothing, of all time."
        )
        self._exposure = meter.create_gauge(
            "gpt_image_exposure_micro_usd", "The most that these can have cost, without the unpriced ones."
        )
        self._unpriced = meter.create_gauge(
            "gpt_image_exposed_unpriced_attempts", "Those of them for which no price was known."
        )
        self._budgets = meter.create_gauge("gpt_image_budgets", "Tenants with a budget, by how much is used.")
        self._highest = meter.create_gauge(
            "gpt_image_highest_budget_use_percent", "How much is used of the budget that is used most."
        )

    @asynccontextmanager
    async def kept_current(self) -> AsyncIterator[None]:
        """Reads the ledger every half minute while the block runs. A ledger that is away leaves the gauges as they were."""
        reading = asyncio.create_task(self._read_again_and_again())
        try:
            yield
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def read(self) -> None:
        """Reads the ledger once.

        Raises:
            LedgerUnavailable: it does not answer.
        """
        now = datetime.now(UTC)
        standing = await asyncio.to_thread(read_standing, self._database, now)
        for simulated, money in standing.money.items():
            self._show_money(money, {"simulated": str(simulated).lower()}, now)
        for period, budgets in standing.budgets.items():
            self._show_budgets(budgets, period)
        self._read_at.set(int(now.timestamp()))

    async def _read_again_and_again(self) -> None:
        while True:
            try:
                await self.read()
            except LedgerError as error:
                log.warning("The ledger was not asked where it stands.", error=str(error))
            await asyncio.sleep(_EVERY_SECONDS)

    def _show_money(self, money: MoneyStanding, labels: dict[str, str], now: datetime) -> None:
        self._waiting.set(money.pending, labels | {"state": "pending"})
        self._waiting.set(money.estimated, labels | {"state": "estimated"})
        age = (now - money.oldest_pending).total_seconds() if money.oldest_pending else 0
        self._oldest.set(max(0, int(age)), labels)
        self._estimated.set(money.estimated_micro_usd, labels)
        self._exposed.set(money.exposed, labels)
        self._exposure.set(money.exposed_micro_usd, labels)
        self._unpriced.set(money.unpriced, labels)

    def _show_budgets(self, budgets: BudgetStanding, period: Period) -> None:
        labels = {"period": period}
        self._budgets.set(budgets.budgets, labels | {"use": "any"})
        self._budgets.set(budgets.nearly_used, labels | {"use": "80_percent"})
        self._budgets.set(budgets.used_up, labels | {"use": "100_percent"})
        self._highest.set(budgets.highest_percent, labels)
