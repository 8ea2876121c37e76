"""What a contact sheet is made of: a row for each line of a batch, and what the rows add up to."""

from collections import Counter
from dataclasses import dataclass, field

from contracts.images import ImageRef
from contracts.money import format_usd, parse_usd

NO_BILL = "no bill"
"""Where a row names no billing state: nothing was charged yet, or ever."""


@dataclass(frozen=True)
class SheetRow:
    """One line of a batch and what became of it.

    `line` is its number in the batch, `state` is done, failed, waiting or any other word, `charge_usd` a decimal
    string with at most 6 places; None is an amount that is not known, never zero. `error` is a sentence.
    """

    line: int
    run_id: str
    prompt: str
    model: str
    size: str | None
    quality: str | None
    state: str
    billing_state: str | None
    charge_usd: str | None
    error: str | None
    pictures: tuple[ImageRef, ...]

    @property
    def charge_micro_usd(self) -> int | None:
        """The charge in micro-USD.

        Raises:
            ValueError: the charge is no amount in USD.
        """
        return None if self.charge_usd is None else parse_usd(self.charge_usd)

    @property
    def bill(self) -> str:
        """The billing state as the sheet names it."""
        return self.billing_state or NO_BILL


@dataclass
class SheetTotals:
    """What was added up so far. Bills that are pending are counted apart: their amounts are not known."""

    lines: int = 0
    pictures: int = 0
    pictures_lost: int = 0
    charged_lines: int = 0
    charged_micro_usd: int = 0
    estimated_micro_usd: int = 0
    states: Counter[str] = field(default_factory=Counter)
    bills: Counter[str] = field(default_factory=Counter)

    def add(self, row: SheetRow, *, pictures_lost: int) -> None:
        """Counts a row; `pictures_lost` of its pictures could not be shown."""
        self.lines += 1
        self.pictures += len(row.pictures)
        self.pictures_lost += pictures_lost
        self.states[row.state] += 1
        self.bills[row.bill] += 1
        charge = row.charge_micro_usd
        if charge is not None:
            self.charged_lines += 1
            self.charged_micro_usd += charge
            self.estimated_micro_usd += charge if row.billing_state == "estimated" else 0

    @property
    def pending_lines(self) -> int:
        """Lines whose bill waits; what they cost is not in the total."""
        return self.bills["pending"]

    @property
    def charged_usd(self) -> str:
        """The sum of all charges that are known."""
        return format_usd(self.charged_micro_usd)
