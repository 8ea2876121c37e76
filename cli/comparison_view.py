"""A comparison with the provider's books, for people: what differs, and what can explain it."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cli.moments import format_moment
from cli.output import make_table
from contracts.comparison import (
    Comparison,
    Doubt,
    DoubtfulAttempt,
    ModelComparison,
    RecordedComparison,
    Verdict,
    WindowDifference,
)
from contracts.money import parse_usd

_MOST_SHOWN = 20
_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "equal": ("✓ the provider's books say the same", "bold green"),
    "explained": ("! they differ, and what is listed below can explain it", "bold yellow"),
    "unexplained": ("✗ they differ, and nothing here explains all of it", "bold red"),
}
_DOUBTS: dict[Doubt, str] = {
    "paid_for_nothing": "counted by the provider: paid for nothing",
    "perhaps_paid": "the provider counts some like it: perhaps paid for nothing",
    "probably_not_paid": "not counted by the provider: probably not paid",
    "no_entry": "succeeded, and has no entry in the ledger yet",
    "no_list_cost": "its entry has no list cost: it waits for its usage or its price",
    "inexact_list_cost": "its usage was missing or incomplete: the list cost is an estimate",
    "across_midnight": "sent or answered close to midnight: may be on the bill of the other day",
}


def describe_comparison(recorded: RecordedComparison) -> Iterable[RenderableType]:
    """The verdict, the models, and whatever needs a look."""
    comparison = recorded.comparison
    sentence, style = _VERDICTS[comparison.verdict]
    yield Text(f"{sentence} ({_describe_scope(comparison)})", style=style)
    if comparison.models:
        yield _tabulate_models(comparison.models)
    else:
        yield Text("No requests on either side.")
    for window in comparison.windows[:_MOST_SHOWN]:
        yield Text(f"- {_describe_window(window)}")
    for model in comparison.models:
        if not _is_expected(model):
            yield Text(f"- {_describe_money(model)}")
    if comparison.doubts:
        yield _tabulate_doubts(comparison.doubts[:_MOST_SHOWN])
    cut = max(0, len(comparison.windows) - _MOST_SHOWN) + max(0, len(comparison.doubts) - _MOST_SHOWN)
    if cut:
        yield Text(f"{cut:,} more; --json shows all.")
    if comparison.other_lines:
        yield Text(
            f"{len(comparison.other_lines):,} lines of the provider's costs are of other models and not compared.",
            style="dim",
        )
    yield Text(f"Kept in the ledger as {recorded.comparison_id}.", style="dim")


def _describe_scope(comparison: Comparison) -> str:
    narrowed = [part for part in (comparison.project_id, comparison.api_key_id) if part]
    return ", ".join([comparison.day.isoformat(), comparison.provider, *narrowed])


def _tabulate_models(models: Sequence[ModelComparison]) -> Table:
    numbers = ("Ours", "Provider", "Difference")
    table = make_table("", "Model", "", *numbers, right=numbers, whole=("Model",))
    for each in models:
        sentence, style = _VERDICTS[each.verdict]
        ours = f"{each.requests:,}" + (f" + {each.unknown:,} unknown" if each.unknown else "")
        difference = f"{each.provider_requests - each.requests:,}"
        sign = Text(sentence[0], style=style)
        table.add_row(sign, Text(each.model), "requests", ours, f"{each.provider_requests:,}", difference)
        table.add_row("", "", "USD", each.list_cost_usd, each.provider_cost_usd, each.difference_usd)
    return table


def _describe_window(window: WindowDifference) -> str:
    when = f"{window.model}, {format_moment(window.since)} to {format_moment(window.until)} (UTC)"
    if window.surplus < 0:
        return (
            f"{when}: {window.requests:,} answered, {window.provider_requests:,} counted by the provider."
            " It may count late: compare again later."
        )
    refused = f" It refused {window.rejected:,} then." if window.rejected else ""
    return (
        f"{when}: the provider counts {window.surplus:,} more than were sent from here.{refused}"
        " Does somebody else use the project or the key? Narrow it down with --project or --api-key."
    )


def _is_expected(model: ModelComparison) -> bool:
    charged, most = parse_usd(model.provider_cost_usd), model.expected_to_usd
    return parse_usd(model.expected_from_usd) <= charged and (most is None or charged <= parse_usd(most))


def _describe_money(model: ModelComparison) -> str:
    most = model.expected_to_usd or "an amount that is not known"
    return (
        f"{model.model}: by what is known here the provider may charge {model.expected_from_usd} to {most} USD;"
        f" it charges {model.provider_cost_usd}."
    )


def _tabulate_doubts(doubts: Sequence[DoubtfulAttempt]) -> Table:
    table = make_table("Sent (UTC)", "What is known", "At most USD", right=("At most USD",))
    for each in doubts:
        known = Text(_DOUBTS[each.doubt])
        known.append(f"\n{each.run_id}\n{each.attempt_id}", style="dim")
        table.add_row(format_moment(each.sent_at), known, each.reserved_usd or "not known")
    return table
