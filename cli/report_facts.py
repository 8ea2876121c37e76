"""The part of a report that is about real runs, or that about simulated ones: never both, and what each adds up to."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from billing.exposure_rows import ExposedAttempt
from billing.month_report import Cell, MonthReport, Sums, add_up
from billing.unbilled import UnbilledAttempt
from cli.months import Month


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
