"""What the provider may have charged for a model on a day, by what this ledger knows, beside what it did charge. Pure.

Each attempt has a least and a most: its list cost twice where that is known exactly, else from nothing to its worst case.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from billing.compared_attempts import ComparedAttempt
from contracts.comparison import Doubt
from contracts.money import MICRO_USD_PER_USD


@dataclass(frozen=True, kw_only=True)
class ComparedMoney:
    """All in micro-USD. `most_micro_usd` is None where some attempt has no known worst case.

    Our costs are rounded one by one and the provider's in the end: `rounding_micro_usd` is how much that can make.
    """

    list_cost_micro_usd: int
    provider_micro_usd: int
    least_micro_usd: int
    most_micro_usd: int | None
    rounding_micro_usd: int

    @property
    def is_equal(self) -> bool:
        """Whether the provider charges what our entries say."""
        return abs(self.provider_micro_usd - self.list_cost_micro_usd) <= self.rounding_micro_usd

    @property
    def is_expected(self) -> bool:
        """Whether the provider charges what it may, with every doubt taken into account."""
        if self.provider_micro_usd < self.least_micro_usd - self.rounding_micro_usd:
            return False
        most = self.most_micro_usd
        return most is None or self.provider_micro_usd <= most + self.rounding_micro_usd


def judge_money(
    attempts: Iterable[ComparedAttempt],
    doubts: Mapping[str, Doubt],
    *,
    sent_today: Collection[str],
    provider_usd: Decimal,
) -> ComparedMoney:
    """The money of one model on one day.

    Args:
        attempts: all that may be on the provider's bill of the day.
        doubts: by attempt id, where there is one.
        sent_today: the ids of those that are on ours.
        provider_usd: what the provider charges, exactly.
    """
    listed, least, count = 0, 0, 0
    most: int | None = 0
    for attempt in attempts:
        count += 1
        low, high = _bound(attempt, doubts.get(attempt.attempt_id))
        least += low
        most = None if most is None or high is None else most + high
        if attempt.attempt_id in sent_today:
            listed += attempt.list_cost_micro_usd or 0
    exact = (provider_usd * MICRO_USD_PER_USD).to_integral_value(ROUND_HALF_EVEN)
    return ComparedMoney(
        list_cost_micro_usd=listed,
        provider_micro_usd=int(exact),
        least_micro_usd=least,
        most_micro_usd=most,
        rounding_micro_usd=count // 2 + 1,
    )


def _bound(attempt: ComparedAttempt, doubt: Doubt | None) -> tuple[int, int | None]:
    """The least and the most that an attempt can add to the provider's bill of the day."""
    listed = attempt.list_cost_micro_usd or 0
    if attempt.outcome == "rejected" or doubt == "probably_not_paid":
        return 0, 0
    if doubt is None:
        return listed, listed
    if doubt == "across_midnight":
        return 0, listed
    reserved = attempt.reserved_micro_usd
    return 0, None if reserved is None else max(reserved, listed)
