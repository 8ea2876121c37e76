"""Compare a day of this ledger with the same day in the provider's books: differences, and what can explain them. Pure.

Requests are compared in windows of time (`gpt_image_runs.billing.reconciliation.matching`), money by day and model: the
provider's line items beside our entries at its list price, of attempts sent that day. A model and its dated snapshots count
as one.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from gpt_image_runs.billing.reconciliation.matching import (
    ComparedAttempt,
    find_stretch,
    find_windows,
    stretch_of,
    stretch_to_ask,
)
from gpt_image_runs.billing.records import Outcome
from gpt_image_runs.contracts.money import MICRO_USD_PER_USD, format_usd, parse_usd
from gpt_image_runs.contracts.provider_reconciliation import (
    Comparison,
    ComparisonOrder,
    ComparisonSummary,
    CostLine,
    Doubt,
    DoubtfulAttempt,
    HourComparison,
    ModelComparison,
    ProviderDay,
    RecordedComparison,
    RequestCount,
    Verdict,
    WindowDifference,
)


@dataclass(frozen=True, kw_only=True)
class ComparedMoney:
    """The money of one model on one day, in micro-USD. `most_micro_usd` is None where an attempt has no known worst case.

    Our costs are rounded one by one and the provider's at the end: `rounding_micro_usd` is the largest difference that makes.
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
        """Whether the provider charges an amount that the doubts allow."""
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
    """Compute the money of one model on one day.

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
    """Return the least and the most that an attempt can add to the provider's bill."""
    listed = attempt.list_cost_micro_usd or 0
    if attempt.outcome == "rejected" or doubt == "probably_not_paid":
        return 0, 0
    if doubt is None:
        return listed, listed
    if doubt == "across_midnight":
        return 0, listed
    reserved = attempt.reserved_micro_usd
    return 0, None if reserved is None else max(reserved, listed)


class ModelDay:
    """One model's day, in our ledger and in the provider's books."""

    def __init__(
        self,
        day: date,
        model: str,
        *,
        attempts: Sequence[ComparedAttempt],
        counts: Sequence[RequestCount],
        lines: Sequence[CostLine],
    ) -> None:
        self._day = stretch_of(day)
        self._model = model
        windows = find_windows(attempts, counts, stretch_to_ask(day))
        self._windows = [window for window in windows if window.stretch.overlaps(self._day)]
        # An attempt of the day before that was answered on this day may be on this day's bill.
        self._attempts = [each for each in attempts if find_stretch(each).overlaps(self._day)]
        self._sent = [each for each in attempts if self._day.holds(each.sent_at)]
        self._counts = [count for count in counts if self._day.holds(count.start)]
        self._doubts = self._find_doubts()
        self._money = judge_money(
            self._attempts,
            self._doubts,
            sent_today={each.attempt_id for each in self._sent},
            provider_usd=sum((Decimal(line.amount_usd) for line in lines), Decimal()),
        )

    @property
    def is_empty(self) -> bool:
        """Whether neither side knows anything of this model on this day."""
        return not (self._sent or self._counts or self._money.provider_micro_usd)

    @property
    def verdict(self) -> Verdict:
        """Whether the two sides differ, and whether that is understood."""
        if self.is_empty:
            return "equal"
        if any(window.surplus for window in self._windows) or not self._money.is_expected:
            return "unexplained"
        same_count = self._count_ours("succeeded") == sum(count.requests for count in self._counts)
        return "equal" if same_count and self._money.is_equal else "explained"

    def compare(self) -> ModelComparison:
        """Build the day's totals."""
        money = self._money
        return ModelComparison(
            model=self._model,
            requests=self._count_ours("succeeded"),
            unknown=self._count_ours("unknown"),
            provider_requests=sum(count.requests for count in self._counts),
            images=sum(each.images for each in self._sent),
            provider_images=sum(count.images for count in self._counts),
            list_cost_usd=format_usd(money.list_cost_micro_usd),
            provider_cost_usd=format_usd(money.provider_micro_usd),
            difference_usd=format_usd(money.provider_micro_usd - money.list_cost_micro_usd),
            expected_from_usd=format_usd(money.least_micro_usd),
            expected_to_usd=None if money.most_micro_usd is None else format_usd(money.most_micro_usd),
            verdict=self.verdict,
        )

    def compare_hours(self) -> Iterable[HourComparison]:
        """Yield the hours in which either side knows of a request."""
        ours = Counter((_hour_of(each.sent_at), each.outcome) for each in self._sent)
        theirs: Counter[datetime] = Counter()
        for count in self._counts:
            theirs[_hour_of(count.start)] += count.requests
        for hour in sorted({hour for hour, _ in ours} | theirs.keys()):
            yield HourComparison(
                hour=hour,
                model=self._model,
                requests=ours[hour, "succeeded"],
                unknown=ours[hour, "unknown"],
                provider_requests=theirs[hour],
            )

    def list_differences(self) -> Iterable[WindowDifference]:
        """Yield the windows in which the two counts cannot both be right."""
        for window in self._windows:
            if window.surplus:
                yield WindowDifference(
                    model=self._model,
                    since=window.stretch.since,
                    until=window.stretch.until,
                    requests=len(window.succeeded) + len(window.at_edge),
                    unknown=len(window.unknown),
                    rejected=len(window.rejected),
                    provider_requests=window.counted,
                    surplus=window.surplus,
                )

    def list_doubts(self) -> Iterable[DoubtfulAttempt]:
        """Yield the attempts that can explain a difference."""
        for each in self._attempts:
            if each.attempt_id in self._doubts:
                reserved = each.reserved_micro_usd
                yield DoubtfulAttempt(
                    attempt_id=each.attempt_id,
                    run_id=each.run_id,
                    model=each.model,
                    sent_at=each.sent_at,
                    doubt=self._doubts[each.attempt_id],
                    reserved_usd=None if reserved is None else format_usd(reserved),
                )

    def _find_doubts(self) -> dict[str, Doubt]:
        doubts: dict[str, Doubt] = {}
        for window in self._windows:
            doubts |= {each.attempt_id: window.doubt for each in window.unknown}
            for each in (*window.succeeded, *window.at_edge):
                doubt = self._doubt_success(each)
                if doubt:
                    doubts[each.attempt_id] = doubt
        ours = {each.attempt_id for each in self._attempts}
        return {attempt_id: doubt for attempt_id, doubt in doubts.items() if attempt_id in ours}

    def _doubt_success(self, attempt: ComparedAttempt) -> Doubt | None:
        if not attempt.billed:
            return "no_entry"
        if attempt.list_cost_micro_usd is None:
            return "no_list_cost"
        if not attempt.exact:
            return "inexact_list_cost"
        return None if self._day.contains(find_stretch(attempt)) else "across_midnight"

    def _count_ours(self, outcome: Outcome) -> int:
        return sum(each.outcome == outcome for each in self._sent)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$", re.ASCII)
_WORST_LAST: tuple[Verdict, ...] = ("equal", "explained", "unexplained")


def compare_day(
    order: ComparisonOrder,
    day: date,
    provider: str,
    attempts: Sequence[ComparedAttempt],
    books: ProviderDay,
) -> Comparison:
    """Build the comparison of a day.

    `attempts` and the counts of `books` cover `gpt_image_runs.billing.reconciliation.matching.stretch_to_ask`.
    """
    attempts_of: dict[str, list[ComparedAttempt]] = defaultdict(list)
    counts_of: dict[str, list[RequestCount]] = defaultdict(list)
    for attempt in attempts:
        attempts_of[_family(attempt.model)].append(attempt)
    for count in books.counts:
        counts_of[_family(count.model)].append(count)
    models = sorted(attempts_of.keys() | counts_of.keys())
    days = [
        ModelDay(
            day,
            model,
            attempts=attempts_of[model],
            counts=counts_of[model],
            lines=[line for line in books.lines if _model_of(line) == model],
        )
        for model in models
    ]
    return Comparison(
        day=day,
        provider=provider,
        project_id=order.project_id,
        api_key_id=order.api_key_id,
        verdict=max((each.verdict for each in days), key=_WORST_LAST.index, default="equal"),
        models=tuple(each.compare() for each in days if not each.is_empty),
        hours=tuple(hour for each in days for hour in each.compare_hours()),
        windows=tuple(window for each in days for window in each.list_differences()),
        doubts=tuple(doubtful for each in days for doubtful in each.list_doubts()),
        other_lines=tuple(line for line in books.lines if _model_of(line) not in models),
    )


def _family(model: str) -> str:
    return _SNAPSHOT.sub("", model)


def _model_of(line: CostLine) -> str:
    """Return the model named in a line, such as "gpt-image-1, image_output_tokens"."""
    return _family(line.line_item.partition(",")[0].strip())


def summarize(recorded: RecordedComparison) -> ComparisonSummary:
    """Build the totals of a recorded comparison."""
    comparison = recorded.comparison
    listed = sum(parse_usd(each.list_cost_usd) for each in comparison.models)
    charged = sum(parse_usd(each.provider_cost_usd) for each in comparison.models)
    return ComparisonSummary(
        comparison_id=recorded.comparison_id,
        day=comparison.day,
        verdict=comparison.verdict,
        requests=sum(each.requests for each in comparison.models),
        unknown=sum(each.unknown for each in comparison.models),
        provider_requests=sum(each.provider_requests for each in comparison.models),
        list_cost_usd=format_usd(listed),
        provider_cost_usd=format_usd(charged),
        difference_usd=format_usd(charged - listed),
    )
