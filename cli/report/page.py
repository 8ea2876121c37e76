"""The page of a month's report: what real runs cost and, apart from it, what simulated ones would have.

It has no script. What a section looks like is in `cli.report.page`, the page around them in `cli/month_report_page/`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cli.dates import Month, format_moment
from cli.html import PageFiles, escape
from cli.report.plots import Group, Mark, draw_bars, draw_columns
from gpt_image_runs.billing.attempts.exposure import ExposedAttempt, sum_exposure
from gpt_image_runs.billing.ledger.queries import UnbilledAttempt
from gpt_image_runs.billing.reports.month import Cell, MonthReport, Sums, add_up
from gpt_image_runs.contracts.money import format_usd, parse_usd


@dataclass(frozen=True, slots=True)
class Facts:
    """The part of a report that is about real runs, or that about simulated ones."""

    month: Month
    cells: tuple[Cell, ...]
    exposed: tuple[ExposedAttempt, ...]
    unbilled: tuple[UnbilledAttempt, ...]

    @classmethod
    def select(cls, month: Month, report: MonthReport, *, simulated: bool) -> "Facts":
        """One of the two parts."""
        return cls(
            month,
            tuple(cell for cell in report.cells if cell.simulated == simulated),
            tuple(attempt for attempt in report.exposed if attempt.simulated == simulated),
            tuple(attempt for attempt in report.unbilled if attempt.simulated == simulated),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.cells or self.exposed or self.unbilled)

    @property
    def total(self) -> Sums:
        """The sum of all cells."""
        return add_up(cell.sums for cell in self.cells)

    def sum_by(self, key: Callable[[Cell], str]) -> dict[str, Sums]:
        """Sums by a key, in the order of the cells."""
        groups: dict[str, list[Sums]] = defaultdict(list)
        for cell in self.cells:
            groups[key(cell)].append(cell.sums)
        return {name: add_up(sums) for name, sums in groups.items()}


_LEGEND = {"charged": "charged", "estimated": "estimated", "listed": "provider's list cost"}
_SWATCHES = {
    "listed": '<path class="listed" d="M0 7H14"/>',
    **{
        kind: f'<rect class="{kind}" x="1" y="1" width="12" height="12"/>'
        for kind in ("charged", "estimated")
    },
}


def render_card(title: str, about: str, markup: str, *, kind: str = "", with_legend: bool = True) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true">{_SWATCHES[name]}</svg>{text}</li>'
        for name, text in _LEGEND.items()
    )
    legend = f'<ul class="legend">{items}</ul>\n' if with_legend else ""
    return (
        f'<section class="card{kind}">\n<h2>{title}</h2>\n<p class="about">{about}</p>\n'
        f"{legend}{markup}</section>\n"
    )


_CENTS = 2
MORE = '<span class="more">+</span>'
"""Behind a sum that leaves something out, and is a lower bound."""


def show_usd(micro_usd: int) -> str:
    """An amount as markup: "1,234.56" and, more quietly, the four digits that follow."""
    whole, _, rest = format_usd(micro_usd).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f'{sign}{int(digits):,}.{rest[:_CENTS]}<span class="fine">{rest[_CENTS:]}</span>'


def show_count(count: int) -> str:
    """A number with its thousands told apart; a zero is quiet."""
    return f"{count:,}" if count else '<span class="none">0</span>'


def render_table(
    caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], total: Sequence[str]
) -> str:
    """A table. A row is its name, a stranger's text, and cells that are markup; `total` is the cells of the last row."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row" dir="auto">{escape(name)}</th>{_render_cells(cells)}</tr>\n'
        for name, cells in rows
    )
    foot = f'<tfoot><tr><th scope="row">Total</th>{_render_cells(total)}</tr></tfoot>\n' if total else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n{foot}"
        "</table></div>\n"
    )


def _render_cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


_HEIGHT = 170


def render_exposure(facts: Facts) -> str:
    if not facts.exposed:
        return ""
    by_day = {row.key: parse_usd(row.reserved_usd) for row in sum_exposure(facts.exposed, "day")}
    columns = ("Requests", "At most", "Without a price")
    groups = [
        Group(str(day.day), (Mark("exposed", f"{day}, at most", by_day.get(day.isoformat(), 0)),))
        for day in facts.month.days
    ]
    rows = [
        (day, _list_exposed([attempt for attempt in facts.exposed if _day_of(attempt) == day]))
        for day in by_day
    ]
    total = _list_exposed(facts.exposed)
    plot = draw_columns(
        groups, "Columns of the exposure of each day; the table below has them.", height=_HEIGHT
    )
    table = render_table("Exposure by day", ("Day of sending", *columns), rows, total)
    about = "Requests whose answer was lost: the most that they can have cost. They are in no total above."
    return render_card("Perhaps paid for nothing", about, f"{plot}{table}", with_legend=False)


def _list_exposed(exposed: Sequence[ExposedAttempt]) -> Sequence[str]:
    _, unpriced = count_exposed(exposed)
    return show_count(len(exposed)), show_exposed(exposed), show_count(unpriced)


def show_exposed(exposed: Sequence[ExposedAttempt]) -> str:
    """The worst case; where no price is known at all that is no zero."""
    priced, unpriced = count_exposed(exposed)
    if unpriced and unpriced == len(exposed):
        return "not known"
    return f"{show_usd(priced)}{MORE if unpriced else ''}"


def _day_of(attempt: ExposedAttempt) -> str:
    return attempt.sent_at.astimezone(UTC).date().isoformat()


def count_exposed(exposed: Sequence[ExposedAttempt]) -> tuple[int, int]:
    """The worst case of all that have a price, in micro-USD, and how many have none."""
    priced = [parse_usd(attempt.reserved_usd) for attempt in exposed if attempt.reserved_usd is not None]
    return sum(priced), len(exposed) - len(priced)


_MAX_BARS, _MAX_ROWS = 10, 100
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
    groups = [_group(name, sums) for name, sums in _fold(ranked, _MAX_BARS, noun.lower())]
    plot = draw_bars(groups, f"Bars of the {title.lower()}; the table below has them.")
    rows = [(name, _list_spend(sums)) for name, sums in _fold(ranked, _MAX_ROWS, noun.lower())]
    table = render_table(title, (noun, *_SPEND_COLUMNS), rows, _list_spend(total))
    return render_card(title, "The largest first.", f"{plot}{table}")


def _render_comparison(models: dict[str, Sums], total: Sums) -> str:
    """What we bill beside what the provider's price list says, so that both bills can be explained."""
    rows = [(name, _list_comparison(sums)) for name, sums in _fold(_rank(models), _MAX_ROWS, "model")]
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


_FOLDER = Path(__file__).parent / "templates"


def render_report(
    month: Month, report: MonthReport, now: datetime, *, tenant: str | None, table_name: str
) -> str:
    """The whole page. `table_name` is the file of the CSV beside it."""
    of = f" of {tenant}" if tenant else ""
    values = {
        "title": escape(f"Spend{of} in {month.name}"),
        "about": f"Image runs, all amounts in USD, days in UTC. As of <time>{format_moment(now)}</time> UTC"
        f"{'; the month is not over yet' if now < month.until else ''}.",
        "sections": "".join(_list_sections(month, report)),
        "remarks": "".join(f"<li>{remark}</li>\n" for remark in _list_remarks(table_name)),
    }
    return "".join(PageFiles(_FOLDER).render(values))


def _list_sections(month: Month, report: MonthReport) -> Iterator[str]:
    real = Facts.select(month, report, simulated=False)
    if real.is_empty:
        yield f'<p class="empty">No entry of a real run was written in {month.name}.</p>\n'
    else:
        yield render_facts(real)
    simulated = Facts.select(month, report, simulated=True)
    if not simulated.is_empty:
        yield (
            '<section class="reality">\n<h2>Simulated runs: nobody pays these</h2>\n'
            '<p class="about">They were carried out by the simulator of the provider. No amount above includes them.</p>\n'
            f"{render_facts(simulated)}</section>\n"
        )


def _list_remarks(table_name: str) -> Iterator[str]:
    yield (
        "<b>The date that counts</b> is the day on which an entry was written to the ledger, in UTC. A correction (adjustment or"
        " reversal) stands on its own day, in the month in which it was written, with the difference to what was billed before."
        " So the total of a month that is over stays as it is."
    )
    yield (
        "<b>Charged</b> is settled. <b>Estimated</b> is billed by size and quality, as the provider reported no usage, and is"
        " not corrected yet. <b>Total</b> is the two together."
    )
    yield (
        "<b>Pending</b> bills have no amount yet and are in no total. <b>Exposure</b> is the most that requests can have cost"
        " whose answer was lost; it is in no total either, and belongs to the day on which they were sent."
    )
    yield (
        "<b>List cost</b> is what the provider's price list says for the same runs. A + means that for some bills no list price"
        " is known, so that the true cost is higher and the difference lower."
    )
    yield (
        f"<b>{escape(table_name)}</b> beside this page has a row for each day, tenant and model. The same sums on a terminal:"
        " <code>python starter.py costs --by day --since DAY --until DAY</code>."
    )
