"""Prometheus metrics of what is written to the ledger: attempts, latency, images, tokens and money.

They are for graphs and alerts, not for accounting: counters begin at zero with each worker. Amounts are micro-USD.

Every label has few values, as each combination is a series in Prometheus: never a tenant, a run, a prompt or a message.
A model is whatever the caller wrote, so one that the catalog does not have is "other".
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from temporalio.common import MetricCounter, MetricMeter

from activities.provider_call.earlier_attempts import STILL_UNDER_WAY
from gpt_image_runs.billing.records import EndedAttempt
from gpt_image_runs.billing.reports.health import BudgetStanding, MoneyStanding, read_standing
from gpt_image_runs.contracts.budgets import Period
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.errors import ProviderFailure

log = structlog.get_logger("ledger_gauges")


_LATENCY = "gpt_image_provider_latency"
# Seconds. A small image takes some seconds, a large one minutes, and after 600 the client gives up.
LATENCY_BUCKETS = {_LATENCY: (1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600)}

OTHER = "other"
NO_ERROR = "none"


def list_error_types() -> Iterator[tuple[str, str]]:
    """Yield every failure type that an attempt can end with, and its outcome."""
    for kind in _list_leaves(ProviderFailure):
        yield kind.__name__, kind.outcome
    for kind in _list_leaves(StoreFailure):
        yield kind.__name__, "unknown"
    yield STILL_UNDER_WAY, "not_sent"


def _list_leaves(kind: type[Any]) -> Iterator[type[Any]]:
    below = kind.__subclasses__()
    for each in below:
        yield from _list_leaves(each)
    if not below:
        yield kind


class ModelLabels:
    """Model names as label values: those in one provider's catalog, and "other"."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getitem__(self, model: str) -> str:
        return model if self._catalog.find(model) else OTHER


class AttemptMeter:
    """Counts attempts as they end."""

    def __init__(self, meter: MetricMeter, models: ModelLabels, *, simulated: bool) -> None:
        self._models = models
        self._attempts = meter.create_counter(
            "gpt_image_attempts", "Requests to the provider by outcome and error type."
        )
        self._latency = meter.create_histogram_timedelta(
            _LATENCY, "Duration of requests that were sent to the provider."
        )
        self._outcomes = {NO_ERROR: "succeeded", **dict(list_error_types())}
        # For Prometheus a series that starts at 1 has not increased: an alert would miss the first failure.
        for error_type, outcome in self._outcomes.items():
            self._attempts.add(0, _label_attempt(outcome, error_type, simulated=simulated))

    def count_outcome(self, ended: EndedAttempt) -> None:
        """Count an outcome. An attempt of unknown outcome that gets another one later counts twice.

        Lines of the provider's batches are only counted here: their day in a queue is not a latency.
        """
        error_type = ended.outcome.error_type or NO_ERROR
        known = error_type if error_type in self._outcomes else OTHER
        self._attempts.add(1, _label_attempt(ended.outcome.outcome, known, simulated=ended.simulated))

    def count_attempt(self, ended: EndedAttempt) -> None:
        """Count an outcome and record how long the provider took for it."""
        self.count_outcome(ended)
        outcome = ended.outcome
        if outcome.outcome == "not_sent":
            return
        took = (
            outcome.finished_at - ended.sent_at
            if outcome.latency_ms is None
            else timedelta(milliseconds=outcome.latency_ms)
        )
        labels = {"model": self._models[ended.model], "outcome": outcome.outcome}
        # A clock that was set back since must not fail a request that is paid.
        self._latency.record(max(took, timedelta()), labels | _label_money(simulated=ended.simulated))


class PauseMeter:
    """Shows until when calls wait because the provider asked for it."""

    def __init__(self, meter: MetricMeter, models: ModelLabels, *, simulated: bool) -> None:
        self._models = models
        self._simulated = simulated
        self._until = meter.create_gauge_float(
            "gpt_image_provider_paused_until_timestamp_seconds",
            "When the pause of calls for a model ends, in seconds since the epoch; in the past without a pause.",
        )
        self.record_pause(OTHER, datetime.fromtimestamp(0, UTC))  # shown before the first pause

    def record_pause(self, model: str, until: datetime) -> None:
        """Record a pause that has begun or was extended."""
        labels = {"model": self._models[model]} | _label_money(simulated=self._simulated)
        self._until.set(until.timestamp(), labels)


class EntryMeter:
    """Counts ledger entries as they are written."""

    def __init__(self, meter: MetricMeter, models: ModelLabels, *, simulated: bool) -> None:
        self._models = models
        self._entries = meter.create_counter("gpt_image_entries", "Ledger entries by kind.")
        self._images = meter.create_counter("gpt_image_images", "Images on bills.")
        self._tokens = meter.create_counter("gpt_image_tokens", "Tokens on bills by token class.")
        self._charges = meter.create_counter(
            "gpt_image_charge_micro_usd",
            "Amounts of bills in micro-USD, with estimates and without corrections.",
        )
        self._list_costs = meter.create_counter(
            "gpt_image_list_cost_micro_usd",
            "Amounts of bills at the provider's list price in micro-USD, where it has one.",
        )
        for kind in ("charge", "estimate", "hold", "adjustment", "reversal"):
            self._entries.add(0, {"kind": kind} | _label_money(simulated=simulated))

    def count_entry(self, entry: Mapping[str, Any]) -> None:
        """Count a run's bill, given as its columns."""
        labels = {"model": self._models[entry["model"]]} | _label_money(simulated=entry["simulated"])
        self.count_correction(entry)
        self._images.add(entry["image_count"], labels)
        for item in entry["line_items"]:
            self._tokens.add(item["tokens"], labels | {"token_class": item["token_class"]})
        _add_amount(self._charges, entry["amount_micro_usd"], labels)
        _add_amount(self._list_costs, entry["list_cost_micro_usd"], labels)

    def count_correction(self, entry: Mapping[str, Any]) -> None:
        """Count a correction without its amount, which may be negative: a counter cannot decrease."""
        self._entries.add(1, {"kind": entry["kind"]} | _label_money(simulated=entry["simulated"]))


def _add_amount(counter: MetricCounter, micro_usd: int | None, labels: Mapping[str, str]) -> None:
    if micro_usd is not None:
        counter.add(micro_usd, labels)


def _label_attempt(outcome: str, error_type: str, *, simulated: bool) -> dict[str, str]:
    return {"outcome": outcome, "error_type": error_type} | _label_money(simulated=simulated)


def _label_money(*, simulated: bool) -> dict[str, str]:
    """Label real and simulated money, which must never be added up."""
    return {"simulated": str(simulated).lower()}


_EVERY_SECONDS = 30


class StandingGauges:
    """Gauges of what is pending, estimated and exposed in one ledger."""

    def __init__(self, database: Database, meter: MetricMeter) -> None:
        self._database = database
        self._read_at = meter.create_gauge(
            "gpt_image_standing_read_timestamp_seconds", "When these gauges were last read from the ledger."
        )
        self._waiting = meter.create_gauge("gpt_image_waiting_bills", "Bills that are not final.")
        self._oldest = meter.create_gauge(
            "gpt_image_oldest_pending_bill_age_seconds",
            "Age of the oldest pending bill; 0 without one.",
        )
        self._estimated = meter.create_gauge("gpt_image_estimated_micro_usd", "Amount billed by estimate.")
        self._exposed = meter.create_gauge(
            "gpt_image_exposed_attempts",
            "Requests with an unknown outcome, which may have been charged without an image.",
        )
        self._exposure = meter.create_gauge(
            "gpt_image_exposure_micro_usd",
            "The most that requests with an unknown outcome can have cost, without unpriced ones.",
        )
        self._unpriced = meter.create_gauge(
            "gpt_image_exposed_unpriced_attempts",
            "Requests with an unknown outcome for which no price was known.",
        )
        self._budgets = meter.create_gauge(
            "gpt_image_budgets", "Tenants with a budget, by how much of it is used."
        )
        self._highest = meter.create_gauge(
            "gpt_image_highest_budget_use_percent", "Use of the budget that is used most, in percent."
        )

    @asynccontextmanager
    async def update_periodically(self) -> AsyncIterator[None]:
        """Read the ledger every 30 seconds while the block runs. If it is unavailable, the gauges do not change."""
        reading = asyncio.create_task(self._read_periodically())
        try:
            yield
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def read(self) -> None:
        """Read the ledger once and set the gauges.

        Raises:
            LedgerUnavailable: the database does not answer.
        """
        now = datetime.now(UTC)
        standing = await asyncio.to_thread(read_standing, self._database, now)
        for simulated, money in standing.money.items():
            self._set_money(money, {"simulated": str(simulated).lower()}, now)
        for period, budgets in standing.budgets.items():
            self._set_budgets(budgets, period)
        self._read_at.set(int(now.timestamp()))

    async def _read_periodically(self) -> None:
        while True:
            try:
                await self.read()
            except LedgerError as error:
                log.warning("ledger_gauges_not_read", error=str(error))
            await asyncio.sleep(_EVERY_SECONDS)

    def _set_money(self, money: MoneyStanding, labels: dict[str, str], now: datetime) -> None:
        self._waiting.set(money.pending, labels | {"state": "pending"})
        self._waiting.set(money.estimated, labels | {"state": "estimated"})
        age = (now - money.oldest_pending).total_seconds() if money.oldest_pending else 0
        self._oldest.set(max(0, int(age)), labels)
        self._estimated.set(money.estimated_micro_usd, labels)
        self._exposed.set(money.exposed, labels)
        self._exposure.set(money.exposed_micro_usd, labels)
        self._unpriced.set(money.unpriced, labels)

    def _set_budgets(self, budgets: BudgetStanding, period: Period) -> None:
        labels = {"period": period}
        self._budgets.set(budgets.budgets, labels | {"use": "any"})
        self._budgets.set(budgets.nearly_used, labels | {"use": "80_percent"})
        self._budgets.set(budgets.used_up, labels | {"use": "100_percent"})
        self._highest.set(budgets.highest_percent, labels)
