"""The page of a monthly report: the cost of real runs and, apart from it, that of simulated runs.

This module selects and sums; `templates/page.html.j2` holds the page, which has no script.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment

from cli.dates import Month, format_moment
from cli.html import load_templates
from cli.report.plots import Group, Mark, Plot, draw_bars, draw_columns
from gpt_image_runs.billing.attempts.exposure import ExposedAttempt, sum_exposure
from gpt_image_runs.billing.ledger.queries import UnbilledAttempt
from gpt_image_runs.billing.reports.month import Cell, MonthReport, Sums, add_up
from gpt_image_runs.contracts.money import format_usd, parse_usd

_CENTS = 2
_EXPOSURE_HEIGHT = 170
_MAX_BARS, _MAX_ROWS = 10, 100

NamedSums = list[tuple[str, Sums]]


class Exposure(NamedTuple):
    """Requests of unknown outcome: how many, their worst case in micro-USD, and how many have no price."""

    requests: int
    priced_micro_usd: int
    unpriced: int

    @classmethod
    def of(cls, exposed: Sequence[ExposedAttempt]) -> "Exposure":
        """Sum the worst cases of these requests."""
        priced = [parse_usd(attempt.reserved_usd) for attempt in exposed if attempt.reserved_usd is not None]
        return cls(len(exposed), sum(priced), len(exposed) - len(priced))


class Ranking(NamedTuple):
    """Spend by tenant or by model: the plot of the largest, and the rows of the table below it."""

    plot: Plot
    rows: NamedSums


@dataclass(frozen=True, slots=True)
class Facts:
    """The part of a report that is about real runs, or the part about simulated ones, as the template reads it."""

    month: Month
    cells: tuple[Cell, ...]
    exposed: tuple[ExposedAttempt, ...]
    unbilled: tuple[UnbilledAttempt, ...]

    @classmethod
    def select(cls, month: Month, report: MonthReport, *, simulated: bool) -> "Facts":
        """Select the part about real runs or the part about simulated ones."""
        return cls(
            month,
            tuple(cell for cell in report.cells if cell.simulated == simulated),
            tuple(attempt for attempt in report.exposed if attempt.simulated == simulated),
            tuple(attempt for attempt in report.unbilled if attempt.simulated == simulated),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.cells or self.exposed or self.unbilled)

    @property
    def total(self) -> Sums:
        """The sum of all cells."""
        return add_up(cell.sums for cell in self.cells)

    @property
    def exposure(self) -> Exposure:
        """All requests of unknown outcome."""
        return Exposure.of(self.exposed)

    @property
    def days(self) -> NamedSums:
        """Sums by the day on which an entry was written."""
        return self._sum_by(lambda cell: cell.day)

    @property
    def days_plot(self) -> Plot:
        """A column for each day of the month."""
        by_day = dict(self.days)
        groups = [
            _group(str(day.day), by_day.get(day.isoformat(), Sums()), name=day.isoformat())
            for day in self.month.days
        ]
        return draw_columns(
            groups, f"Columns of the spend of each day of {self.month.name}; the table below has them."
        )

    @property
    def tenants(self) -> Ranking:
        """Spend by tenant, the largest first."""
        return self._rank(self._sum_by(lambda cell: cell.tenant), "tenant")

    @property
    def models(self) -> Ranking:
        """Spend by model, the largest first."""
        return self._rank(self._sum_by(lambda cell: cell.model), "model")

    @property
    def exposed_days(self) -> list[tuple[str, Exposure]]:
        """Requests of unknown outcome by the day on which they were sent."""
        days = [row.key for row in sum_exposure(self.exposed, "day")]
        return [(day, Exposure.of([each for each in self.exposed if _get_day(each) == day])) for day in days]

    @property
    def exposure_plot(self) -> Plot:
        """A column of the worst case for each day of the month."""
        by_day = {day: exposure.priced_micro_usd for day, exposure in self.exposed_days}
        groups = [
            Group(str(day.day), (Mark("exposed", f"{day}, at most", by_day.get(day.isoformat(), 0)),))
            for day in self.month.days
        ]
        return draw_columns(
            groups, "Columns of the exposure of each day; the table below has them.", height=_EXPOSURE_HEIGHT
        )

    def _sum_by(self, key: Callable[[Cell], str]) -> NamedSums:
        groups: dict[str, list[Sums]] = defaultdict(list)
        for cell in self.cells:
            groups[key(cell)].append(cell.sums)
        return [(name, add_up(sums)) for name, sums in groups.items()]

    def _rank(self, by_name: NamedSums, noun: str) -> Ranking:
        ranked = sorted(by_name, key=lambda named: (-named[1].total_micro_usd, named[0]))
        groups = [_group(name, sums) for name, sums in _fold(ranked, _MAX_BARS, noun)]
        plot = draw_bars(groups, f"Bars of the spend by {noun}; the table below has them.")
        return Ranking(plot, _fold(ranked, _MAX_ROWS, noun))


def render_report(
    month: Month, report: MonthReport, now: datetime, *, tenant: str | None, table_name: str
) -> str:
    """Render the page. `table_name` is the file of the CSV beside it."""
    of = f" of {tenant}" if tenant else ""
    return (
        _load_templates()
        .get_template("page.html.j2")
        .render(
            title=f"Spend{of} in {month.name}",
            month=month,
            written=format_moment(now),
            is_over=now >= month.until,
            real=Facts.select(month, report, simulated=False),
            simulated=Facts.select(month, report, simulated=True),
            table_name=table_name,
        )
    )


@cache
def _load_templates() -> Environment:
    return load_templates(Path(__file__).parent / "templates", split_usd=_split_usd)


def _split_usd(micro_usd: int) -> tuple[str, str]:
    """Split an amount into "1,234.56" and the four digits that follow, which the page shows smaller."""
    whole, _, rest = format_usd(micro_usd).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}.{rest[:_CENTS]}", rest[_CENTS:]


def _group(label: str, sums: Sums, name: str | None = None) -> Group:
    name = name or label
    return Group(
        label,
        (
            Mark("charged", f"{name}, charged", sums.charged_micro_usd),
            Mark("estimated", f"{name}, estimated", sums.estimated_micro_usd),
        ),
        Mark("listed", f"{name}, provider's list cost", sums.list_cost_micro_usd),
    )


def _fold(ranked: NamedSums, most: int, noun: str) -> NamedSums:
    """Return the first of them, and all others as one: nothing is left out of a sum."""
    if len(ranked) <= most:
        return ranked
    others = ranked[most - 1 :]
    return [*ranked[: most - 1], (f"{len(others):,} other {noun}s", add_up(sums for _, sums in others))]


def _get_day(attempt: ExposedAttempt) -> str:
    return attempt.sent_at.astimezone(UTC).date().isoformat()
