"""What is written down of a batch's lines, and what is read of them to start and follow their runs. No database here."""

from dataclasses import dataclass
from typing import Literal

EndState = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLine:
    """A line to register. `run_id` is None where it is skipped, and `problem` says why then."""

    line: int
    run_id: str | None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingLine:
    """A line whose run is to be started; `page` is where its request lies."""

    line: int
    page: int
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedLine:
    """A line about to be started, with its worst case; None where no price is known."""

    line: int
    fingerprint: str
    ceiling_micro_usd: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StartedLine:
    """A line whose run exists; `attached` where somebody else has started it."""

    line: int
    workflow_run_id: str
    attached: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedLine:
    """A line whose run is under way, or is about to be while `workflow_run_id` is None."""

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
    """How a line ended, and what it adds to its batch. `exposed_micro_usd` is the worst case of `unknown` requests, and
    of a bill that is pending.
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
