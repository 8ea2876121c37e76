"""One model's day on both sides: totals, hours, and the windows and attempts in which they may differ. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal

from billing.attempt_records import Outcome
from billing.compared_attempts import ComparedAttempt
from billing.compared_money import judge_money
from billing.count_windows import find_stretch, find_windows
from billing.stretches import stretch_of, stretch_to_ask
from contracts.comparison import (
    CostLine,
    Doubt,
    DoubtfulAttempt,
    HourComparison,
    ModelComparison,
    RequestCount,
    Verdict,
    WindowDifference,
)
from contracts.money import format_usd


class ModelDay:
    """One model's day on both sides."""

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
        """The day's totals."""
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
        """The hours in which either side knows of a request."""
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
        """The windows in which the counts cannot both be right."""
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
        """The attempts that can explain a difference."""
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
