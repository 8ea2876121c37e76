"""One day compared with the provider's usage and cost records: the order, the provider's figures, and the comparison.

The provider counts requests by the minute and money by the day and line item; it knows neither runs nor attempts.
"""

import datetime as dt
from typing import Literal

from pydantic import ConfigDict

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.money import Usd

# Of a difference: there is none; the doubts listed can explain it; something is not known here.
Verdict = Literal["equal", "explained", "unexplained"]

# Why an attempt may make the two books differ. The first three are attempts of unknown outcome that the provider has
# counted, may have counted, and has not counted.
Doubt = Literal[
    "paid_for_nothing",
    "perhaps_paid",
    "probably_not_paid",
    "no_entry",
    "no_list_cost",
    "inexact_list_cost",
    "across_midnight",
]


class ComparisonOrder(SparseContract):
    """Which day to compare (UTC; the day before the workflow's, where absent), and what of the organization's books.

    `project_id` and `api_key_id` narrow the provider's side down to what this deployment uses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: dt.date | None = None
    project_id: str | None = None
    api_key_id: str | None = None


class RequestCount(Contract):
    """What the provider counts for one model in the minute that starts at `start`."""

    start: dt.datetime
    model: str
    requests: int
    images: int


class CostLine(Contract):
    """What a line of the provider's costs says for a day."""

    line_item: str
    amount_usd: Usd


class ProviderDay(Contract):
    """A day in the provider's books; the counts reach a little into the days before and after."""

    counts: tuple[RequestCount, ...]
    lines: tuple[CostLine, ...]


class ModelComparison(Contract):
    """One model's day. `requests` succeeded and `unknown` may have, both as sent that day.

    `list_cost_usd` is the sum of our entries at the provider's list price. With every doubt taken into account, the provider
    may have charged from `expected_from_usd` to `expected_to_usd`, None where a doubt has no known worst case.
    """

    model: str
    requests: int
    unknown: int
    provider_requests: int
    images: int
    provider_images: int
    list_cost_usd: Usd
    provider_cost_usd: Usd
    difference_usd: Usd
    expected_from_usd: Usd
    expected_to_usd: Usd | None
    verdict: Verdict


class HourComparison(Contract):
    """One model's hour: requests of ours by when they were sent, and the provider's count."""

    hour: dt.datetime
    model: str
    requests: int
    unknown: int
    provider_requests: int


class WindowDifference(Contract):
    """A stretch of time in which the counts cannot both be right.

    `requests` succeeded, `unknown` may have. `surplus` is how many requests the provider counts beyond both (not sent from
    here, or not in this ledger), negative where it counts fewer than were answered. `rejected` were refused by it then.
    """

    model: str
    since: dt.datetime
    until: dt.datetime
    requests: int
    unknown: int
    rejected: int
    provider_requests: int
    surplus: int


class DoubtfulAttempt(Contract):
    """An attempt that can explain a difference. `reserved_usd` is its worst case, None where no price is known."""

    attempt_id: str
    run_id: str
    model: str
    sent_at: dt.datetime
    doubt: Doubt
    reserved_usd: Usd | None


class Comparison(Contract):
    """A day of both books. `other_lines` are the provider's costs of other models, which are not compared."""

    day: dt.date
    provider: str
    project_id: str | None
    api_key_id: str | None
    verdict: Verdict
    models: tuple[ModelComparison, ...]
    hours: tuple[HourComparison, ...]
    windows: tuple[WindowDifference, ...]
    doubts: tuple[DoubtfulAttempt, ...]
    other_lines: tuple[CostLine, ...]


class RecordedComparison(Contract):
    """A comparison as it is kept, for good."""

    comparison_id: str
    recorded_at: dt.datetime
    comparison: Comparison


class ComparisonSummary(Contract):
    """What the workflow answers: the totals. The whole comparison is in the ledger under its id."""

    comparison_id: str
    day: dt.date
    verdict: Verdict
    requests: int
    unknown: int
    provider_requests: int
    list_cost_usd: Usd
    provider_cost_usd: Usd
    difference_usd: Usd
