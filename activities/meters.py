"""What the ledger writes, counted for graphs: attempts by outcome, the provider's latency, pictures, tokens, money.

Whoever is asked what something costs reads the ledger, not these numbers: they begin at zero with each worker, and are lost
with it. Amounts are whole micro-USD, as everywhere inside.

Every label has few values, as each combination is a series that Prometheus keeps: never a tenant, a run, a prompt or a
message. A model is as the caller wrote it, so one that the catalogue does not know is "other".
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.common import MetricCounter, MetricMeter

from activities.under_way import STILL_UNDER_WAY
from billing.attempt_records import EndedAttempt
from imaging.catalogue import Catalogue
from imaging.errors import ProviderFailure
from imaging.store_errors import StoreFailure

_LATENCY = "gpt_image_provider_latency"
LATENCY_BUCKETS = {_LATENCY: (1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600)}
"""In seconds: a small picture takes some, a large one minutes, and after 600 the client gives up."""

OTHER = "other"
NO_ERROR = "none"


def list_error_types() -> Iterator[tuple[str, str]]:
    """Every kind of failure that an attempt can end by, and its outcome."""
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
    """The names of models as labels: those of one provider's catalogue, and "other"."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __getitem__(self, model: str) -> str:
        return model if self._catalogue.find(model) else OTHER


class AttemptMeter:
    """Counts attempts as they end."""

    def __init__(self, meter: MetricMeter, models: ModelLabels, *, simulated: bool) -> None:
        self._models = models
        self._attempts = meter.create_counter(
            "gpt_image_attempts", "Requests to the provider, by what became of them."
        )
        self._latency = meter.create_histogram_timedelta(
            _LATENCY, "How long the provider took for a request that was sent."
        )
        self._outcomes = {NO_ERROR: "succeeded", **dict(list_error_types())}
        # A series that begins with its first failure has not risen, for Prometheus: an alert would miss that one.
        for error_type, outcome in self._outcomes.items():
            self._attempts.add(0, _label_attempt(outcome, error_type, simulated=simulated))

    def count_outcome(self, ended: EndedAttempt) -> None:
        """Counts one outcome. An attempt of unknown outcome that is settled later counts as both.

        This alone is for lines of the provider's batches: a day in its queue is no latency.
        """
        error_type = ended.outcome.error_type or NO_ERROR
        known = error_type if error_type in self._outcomes else OTHER
        self._attempts.add(1, _label_attempt(ended.outcome.outcome, known, simulated=ended.simulated))

    def count_attempt(self, ended: EndedAttempt) -> None:
        """Counts one outcome, and how long the provider took for it."""
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
        # A clock that was set back in between must not fail a request that is paid.
        self._latency.record(max(took, timedelta()), labels | _label_money(simulated=ended.simulated))


class PauseMeter:
    """Shows until when calls wait because the provider has asked for it."""

    def __init__(self, meter: MetricMeter, models: ModelLabels, *, simulated: bool) -> None:
        self._models = models
        self._simulated = simulated
        self._until = meter.create_gauge_float(
            "gpt_image_provider_paused_until_timestamp_seconds",
            "Until when calls for a model wait, in seconds since the epoch; no pause is on once that is past.",
        )
        self.note_pause(OTHER, datetime.fromtimestamp(0, UTC))  # shown before the first pause

    def note_pause(self, model: str, until: datetime) -> None:
        """Notes a pause that has begun or become longer."""
        labels = {"model": self._models[model]} | _label_money(simulated=self._simulated)
        self._until.set(until.timestamp(), labels)


class EntryMeter:
    """Counts entries of the ledger as they are written."""

    def __init__(self, meter: MetricMeter, models: ModelLabels, *, simulated: bool) -> None:
        self._models = models
        self._entries = meter.create_counter("gpt_image_entries", "Entries of the ledger, by their kind.")
        self._images = meter.create_counter("gpt_image_images", "Pictures on bills.")
        self._tokens = meter.create_counter("gpt_image_tokens", "Tokens on bills, by class.")
        self._charges = meter.create_counter(
            "gpt_image_charge_micro_usd", "What bills come to, estimates included, corrections not."
        )
        self._list_costs = meter.create_counter(
            "gpt_image_list_cost_micro_usd", "The same at the provider's list price, where it has one."
        )
        for kind in ("charge", "estimate", "hold", "adjustment", "reversal"):
            self._entries.add(0, {"kind": kind} | _label_money(simulated=simulated))

    def count_entry(self, entry: Mapping[str, Any]) -> None:
        """Counts a run's bill, by its columns."""
        labels = {"model": self._models[entry["model"]]} | _label_money(simulated=entry["simulated"])
        self.count_correction(entry)
        self._images.add(entry["image_count"], labels)
        for item in entry["line_items"]:
            self._tokens.add(item["tokens"], labels | {"token_class": item["token_class"]})
        _add_amount(self._charges, entry["amount_micro_usd"], labels)
        _add_amount(self._list_costs, entry["list_cost_micro_usd"], labels)

    def count_correction(self, entry: Mapping[str, Any]) -> None:
        """Counts that there is one: its amount may be negative, which a counter cannot be."""
        self._entries.add(1, {"kind": entry["kind"]} | _label_money(simulated=entry["simulated"]))


def _add_amount(counter: MetricCounter, micro_usd: int | None, labels: Mapping[str, str]) -> None:
    if micro_usd is not None:
        counter.add(micro_usd, labels)


def _label_attempt(outcome: str, error_type: str, *, simulated: bool) -> dict[str, str]:
    return {"outcome": outcome, "error_type": error_type} | _label_money(simulated=simulated)


def _label_money(*, simulated: bool) -> dict[str, str]:
    """Real and simulated money must never be added, not in a graph either."""
    return {"simulated": str(simulated).lower()}
