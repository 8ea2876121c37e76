"""A day of this ledger beside the same day in the provider's books: where they differ, and what can explain it. Pure.

Requests are compared in windows of time (`billing.count_windows`), money by day and model (`billing.compared_money`): the
provider's line items beside our entries at its list price, of attempts sent that day. A model and its dated snapshots are one.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import date

from billing.compared_attempts import ComparedAttempt
from billing.compared_model import ModelDay
from contracts.comparison import (
    Comparison,
    ComparisonOrder,
    ComparisonSummary,
    CostLine,
    ProviderDay,
    RecordedComparison,
    RequestCount,
    Verdict,
)
from contracts.money import format_usd, parse_usd

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$", re.ASCII)
_WORST_LAST: tuple[Verdict, ...] = ("equal", "explained", "unexplained")


def compare_day(
    order: ComparisonOrder,
    day: date,
    provider: str,
    attempts: Sequence[ComparedAttempt],
    books: ProviderDay,
) -> Comparison:
    """The comparison of a day. `attempts` and the counts of `books` are those of `billing.stretches.stretch_to_ask`."""
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
    """The model in the name of a line, such as "gpt-image-1, image_output_tokens"."""
    return _family(line.line_item.partition(",")[0].strip())


def summarise(recorded: RecordedComparison) -> ComparisonSummary:
    """The totals of a comparison that is kept."""
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
