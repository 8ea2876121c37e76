"""What a report tells of real runs, or of simulated ones: the totals, a plot and a table for each question."""

from collections.abc import Iterator, Sequence

from billing.month_report import Sums, add_up
from cli.report_card import render_card
from cli.report_exposure import count_exposed, render_exposure, show_exposed
from cli.report_facts import Facts
from cli.report_plots import Group, Mark, draw_bars, draw_columns
from cli.report_tables import MORE, render_table, show_count, show_usd

_MOST_BARS, _MOST_ROWS = 10, 100
_SPEND_COLUMNS = ("Charged", "Estimated", "Total", "List cost", "Pending bills")
_LIST_COLUMNS = ("Runs", "Pictures", "Tokens in", "Tokens out", "Total", "List cost", "Difference")


def render_facts(facts: Facts) -> str:
    """All sections, as markup."""
    models = facts.sum_by(lambda cell: cell.model)
    return (
        f'<dl class="totals">\n{"".join(_list_totals(facts))}</dl>\n'
        f"{_render_days(facts)}"
        f'<div class="pair">\n{_render_names("Spend by tenant", "Tenant", facts.sum_by(lambda cell: cell.tenant), facts.total)}'
        f"{_render_names('Spend by model', 'Model', models, facts.total)}</div>\n"
        f"{_render_comparison(models, facts.total)}"
        f"{render_exposure(facts)}"
    )


def _list_totals(facts: Facts) -> Iterator[str]:
    total = facts.total
    yield _render_tile("Total", show_usd(total.total_micro_usd), "charged and estimated", kind="sum")
    yield _render_tile("Charged", show_usd(total.charged_micro_usd), "settled")
    yield _render_tile("Estimated", show_usd(total.estimated_micro_usd), "part of the total, not settled yet")
    yield _render_tile(
        "Provider's list cost", _show_list_cost(total), f"difference {_show_difference(total)}"
    )
    yield _render_tile("Runs", show_count(total.runs), f"{total.images:,} pictures")
    tokens = show_count(total.input_tokens + total.output_tokens)
    yield _render_tile(
        "Tokens", tokens, f"{total.input_tokens:,} in, {total.output_tokens:,} out, as the provider reported"
    )
    waiting = f"{_count(total.pending, 'bill')}"
    unbilled = f"; {len(facts.unbilled):,} more paid, on no entry" if facts.unbilled else ""
    kind = "wait" if total.pending or facts.unbilled else ""
    yield _render_tile("Pending", waiting, f"amounts not known yet, in no total{unbilled}", kind=kind)
    _, unpriced = count_exposed(facts.exposed)
    more = f"{_count(len(facts.exposed), 'request')} whose answer was lost, in no total"
    more += f"; {unpriced:,} without a price" if unpriced else ""
    kind = "bad" if facts.exposed else ""
    yield _render_tile("Exposure, at most", show_exposed(facts.exposed), more, kind=kind)


def _render_tile(name: str, value: str, more: str, *, kind: str = "") -> str:
    return f'<div class="{kind}"><dt>{name}</dt><dd>{value}<small>{more}</small></dd></div>\n'


def _render_days(facts: Facts) -> str:
    by_day = facts.sum_by(lambda cell: cell.day)
    groups = [
        _group(str(day.day), by_day.get(day.isoformat(), Sums()), told=day.isoformat())
        for day in facts.month.days
    ]
    rows = [(day, _list_spend(sums)) for day, sums in by_day.items()]
    table = render_table("Spend by day", ("Day", *_SPEND_COLUMNS), rows, _list_spend(facts.total))
    plot = draw_columns(
        groups, f"Columns of the spend of each day of {facts.month.name}; the table below has them."
    )
    return render_card(
        "Spend by day", "By the day on which an entry was written.", f"{plot}{table}", kind=" days"
    )


def _render_names(title: str, noun: str, by_name: dict[str, Sums], total: Sums) -> str:
    ranked = _rank(by_name)
    groups = [_group(name, sums) for name, sums in _fold(ranked, _MOST_BARS, noun.lower())]
    plot = draw_bars(groups, f"Bars of the {title.lower()}; the table below has them.")
    rows = [(name, _list_spend(sums)) for name, sums in _fold(ranked, _MOST_ROWS, noun.lower())]
    table = render_table(title, (noun, *_SPEND_COLUMNS), rows, _list_spend(total))
    return render_card(title, "The largest first.", f"{plot}{table}")


def _render_comparison(models: dict[str, Sums], total: Sums) -> str:
    """What we bill beside what the provider's price list says, so that both bills can be explained."""
    rows = [(name, _list_comparison(sums)) for name, sums in _fold(_rank(models), _MOST_ROWS, "model")]
    table = render_table(
        "Charge and list cost by model", ("Model", *_LIST_COLUMNS), rows, _list_comparison(total)
    )
    about = "The total (charged and estimated) less the provider's list cost of the same runs."
    return render_card("Charge against the provider's list cost", about, table, with_legend=False)


def _group(label: str, sums: Sums, told: str | None = None) -> Group:
    name = told or label
    return Group(
        label,
        (
            Mark("charged", f"{name}, charged", sums.charged_micro_usd),
            Mark("estimated", f"{name}, estimated", sums.estimated_micro_usd),
        ),
        Mark("listed", f"{name}, provider's list cost", sums.list_cost_micro_usd),
    )


def _rank(by_name: dict[str, Sums]) -> list[tuple[str, Sums]]:
    return sorted(by_name.items(), key=lambda named: (-named[1].total_micro_usd, named[0]))


def _fold(ranked: list[tuple[str, Sums]], most: int, noun: str) -> list[tuple[str, Sums]]:
    """The first of them, and all others as one: nothing is left out of a sum."""
    if len(ranked) <= most:
        return ranked
    others = ranked[most - 1 :]
    return [*ranked[: most - 1], (f"{len(others):,} other {noun}s", add_up(sums for _, sums in others))]


def _list_spend(sums: Sums) -> Sequence[str]:
    amounts = (sums.charged_micro_usd, sums.estimated_micro_usd, sums.total_micro_usd)
    return (*map(show_usd, amounts), _show_list_cost(sums), show_count(sums.pending))


def _list_comparison(sums: Sums) -> Sequence[str]:
    counts = (sums.runs, sums.images, sums.input_tokens, sums.output_tokens)
    return (
        *map(show_count, counts),
        show_usd(sums.total_micro_usd),
        _show_list_cost(sums),
        _show_difference(sums),
    )


def _show_list_cost(sums: Sums) -> str:
    return f"{show_usd(sums.list_cost_micro_usd)}{MORE if sums.list_cost_unknown else ''}"


def _show_difference(sums: Sums) -> str:
    at_most = "at most " if sums.list_cost_unknown else ""
    return at_most + show_usd(sums.total_micro_usd - sums.list_cost_micro_usd)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
