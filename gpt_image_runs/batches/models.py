"""Values of batch lines that are written to the database, and read from it to start and follow runs."""

from dataclasses import dataclass
from typing import Literal, Self

from gpt_image_runs.contracts.fingerprints import strip_marks
from gpt_image_runs.contracts.money import Usd, parse_usd

EndState = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLine:
    """A line to register. `run_id` is None where it is skipped, and `problem` says why."""

    line: int
    run_id: str | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingLine:
    """A line whose run is to be started; `page` holds its request."""

    line: int
    page: int
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedLine:
    """A line about to be started, with its worst case, None where no price is known."""

    line: int
    fingerprint: str
    ceiling_micro_usd: int | None

    @classmethod
    def from_check(cls, line: int, fingerprint: str, ceiling_usd: Usd | None) -> Self:
        """Build the line from the results of its check."""
        ceiling = None if ceiling_usd is None else parse_usd(ceiling_usd)
        return cls(line=line, fingerprint=strip_marks(fingerprint), ceiling_micro_usd=ceiling)


@dataclass(frozen=True, kw_only=True, slots=True)
class StartedLine:
    """A line whose run exists. `attached`: somebody else has started it."""

    line: int
    workflow_run_id: str
    attached: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedLine:
    """A line whose run is under way, or about to be started while `workflow_run_id` is None."""

    line: int
    run_id: str
    workflow_run_id: str | None
    attached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class UnbilledEnd:
    """The end of a line whose run has no bill."""

    line: int
    state: Literal["failed", "cancelled"]
    error_type: str
    error_message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LineEnd:
    """How a line ended, and what it adds to its batch's counters.

    `exposed_micro_usd` is the worst case of `unknown` requests and of a pending bill.
    """

    line: int
    state: EndState
    images: int = 0
    charged_micro_usd: int = 0
    pending: bool = False
    unknown: int = 0
    exposed_micro_usd: int = 0
    error_type: str | None = None
    error_message: str | None = None
