"""Orders and progress of batches, the step of one, and the pages of its lines. Amounts are decimal strings in USD."""

from abc import abstractmethod
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.money import Usd

BatchState = Literal[
    "registering", "running", "paused", "cancelling", "done", "stopped", "capped", "cancelled"
]
LineState = Literal["waiting", "starting", "running", "done", "failed", "cancelled", "skipped"]
# What a step does with waiting lines: start them, leave them, or leave them and cancel what runs.
Wish = Literal["start", "hold", "cancel"]
# Which failed lines a new round starts again: those that were never paid, or also those of unknown outcome.
Retry = Literal["unpaid", "unknown"]

ENDED: tuple[BatchState, ...] = ("done", "stopped", "capped", "cancelled")
BATCH_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_LINES = 100_000
# Runs under way at once. A provider that makes 250 images a minute in 60 s each works on 250 at a time; twice that keeps it
# busy while runs begin and end.
DEFAULT_WINDOW, MAX_WINDOW = 500, 2_000
# Seconds of one step of the workflow: an hour of steps has 1,100 events.
DEFAULT_STEP = 20
# Events after which the workflow continues as new: an hour of steps. Temporal's own limit is 51,200.
DEFAULT_HISTORY, MAX_HISTORY = 1_000, 10_000

BatchId = Annotated[str, StringConstraints(pattern=BATCH_ID_PATTERN)]


class Order(SparseContract):
    """What the orders of both kinds of batches have: the lines, and the limit of cost.

    The lines are in the image store as pages; with `template_batch_id` under that id, from which they are copied with
    request ids of this batch's own. `max_cost_usd` limits charges and reservations together, None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    batch_id: BatchId = Field(
        description="1 to 64 characters of A-Z, a-z, 0-9, dot, hyphen and underscore, the first a letter or digit"
    )
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="the SHA-256 of the batch's lines, 64 characters of 0-9 and a-f"
    )
    lines: Annotated[int, Field(ge=1, le=MAX_LINES)] = Field(
        description=f"how many lines the batch has, 1 to {MAX_LINES:,}"
    )
    pages: Annotated[int, Field(ge=1, le=MAX_LINES)] = Field(
        description="how many pages these lines are kept in, 1 or more"
    )
    template_batch_id: BatchId | None = Field(
        default=None,
        description="the id of the batch whose pages are taken over, with what batch_id has beyond it appended to each request id",
    )
    max_cost_usd: Usd | None = Field(
        default=None, description="an amount in USD with 6 places, such as 25.000000"
    )

    @property
    @abstractmethod
    def workflow_id(self) -> str:
        """The id of the batch's workflow."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """The order in one line, for Temporal's Web UI."""

    @property
    def _limit(self) -> str:
        return f", at most {self.max_cost_usd} USD" if self.max_cost_usd else ""


class BatchOrder(Order):
    """An order of a batch whose lines are runs of their own, at the standard price.

    `max_cost_usd` is None for no limit. `round` counts from 1; a later one starts those lines again that `retry` names. `opened`,
    `paused` and `cancelled` are passed from one run of the workflow to the next, which begins after `longest_history` events.
    A step of the workflow takes `step_seconds`.
    """

    window: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = Field(
        default=DEFAULT_WINDOW, description=f"runs under way at once, 1 to {MAX_WINDOW:,}"
    )
    fail_fast: bool = Field(default=False, description="true or false")
    round: Annotated[int, Field(ge=1)] = Field(default=1, description="the number of the round, 1 or more")
    retry: Retry | None = Field(default=None, description="unpaid or unknown, from the second round on")
    opened: bool = Field(default=False, description="true or false")
    paused: bool = Field(default=False, description="true or false")
    cancelled: bool = Field(default=False, description="true or false")
    step_seconds: Annotated[int, Field(ge=1, le=60)] = Field(
        default=DEFAULT_STEP, description="a number of seconds from 1 to 60"
    )
    longest_history: Annotated[int, Field(ge=20, le=MAX_HISTORY)] = Field(
        default=DEFAULT_HISTORY, description=f"a number of events from 20 to {MAX_HISTORY:,}"
    )

    @property
    def workflow_id(self) -> str:
        """The id of the batch's workflow."""
        return names.batch_workflow_id(self.batch_id)

    @property
    def summary(self) -> str:
        """The order in one line, for Temporal's Web UI."""
        again = f", round {self.round}" if self.round > 1 else ""
        return f"{self.lines:,} lines, {self.window:,} runs at once{self._limit}{again}"


class BatchStep(Contract):
    """Some seconds of work on a batch, whose options are in the database since it was opened."""

    batch_id: str
    wish: Wish
    seconds: int


class BatchProgress(SparseContract):
    """The state of a batch of either kind, as the database has it.

    The counts of lines add up to `lines` once all of them are registered; `running` includes lines that are about to be started.
    `charged_usd` is the sum of all bills, of which `pending` have no amount yet. `reserved_usd` is the worst case of what runs,
    `exposed_usd` that of `unknown` requests whose answer was lost and of pending bills. `without_picture` of the `done` lines
    were billed and have no image: counted once the batch has ended. `reason` says why a batch ended before its last line.
    An `economy` batch runs in the provider's own batches at half price; its `window` is 0.
    """

    batch_id: str = Field(description="The batch.")
    digest: str = Field(description="The SHA-256 of its lines.")
    state: BatchState = Field(
        description="registering, running, paused or cancelling; at the end done, stopped (by fail_fast), capped (by max_cost_usd) or cancelled."
    )
    round: int = Field(description="The number of the round.")
    lines: int = Field(
        description="How many lines there are: waiting, running, done, failed, cancelled and skipped add up to it."
    )
    pages: int = Field(description="How many pages they are kept in.")
    waiting: int = Field(description="Lines that are to be started.")
    running: int = Field(description="Lines whose runs are under way, or about to be.")
    done: int = Field(description="Lines that are billed.")
    failed: int = Field(description="Lines whose runs failed.")
    cancelled: int = Field(description="Lines that were cancelled.")
    skipped: int = Field(description="Lines that may not run, as they are wrong.")
    images: int = Field(description="Pictures.")
    without_picture: int | None = Field(
        default=None,
        description="How many of the done lines were billed and have no picture; absent before the batch has ended.",
    )
    pending: int = Field(description="Bills without an amount yet.")
    unknown: int = Field(description="Requests whose answers were lost.")
    charged_usd: Usd = Field(description="The sum of the bills, a decimal string with 6 places.")
    reserved_usd: Usd = Field(description="The worst case of what runs.")
    exposed_usd: Usd = Field(description="The worst case of unknown requests and pending bills.")
    window: int = Field(description="Runs under way at once.")
    max_cost_usd: Usd | None = Field(
        default=None, description="The most that charges and reservations may come to; absent for no limit."
    )
    fail_fast: bool = Field(description="Whether the first failure stops the batch.")
    economy: bool = Field(
        default=False, description="Whether it runs in the provider's own batches, at half price."
    )
    reason: str | None = Field(default=None, description="Why it ended before its last line; else absent.")
    created_at: datetime = Field(description="When it was opened.")
    updated_at: datetime = Field(description="When it last changed.")
    ended_at: datetime | None = Field(default=None, description="When it ended; absent before.")

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs and nothing will be started without a new order."""
        return self.state in ENDED


def describe_conflict(batch_id: str, known: str, given: str) -> str:
    """Describe why a batch's id cannot be used for lines with another digest."""
    return (
        f"The batch {batch_id} stands for other lines already (digest {known[:12]}, now {given[:12]}), and nothing was"
        " started. Give changed lines an id of their own with --id, or run the first file again to go on with it."
    )


def describe_other_kind(batch_id: str, *, economy: bool) -> str:
    """Describe why the id of a batch cannot be used for one of the other kind."""
    kind, way = (
        ("an economy batch", "with --economy")
        if economy
        else ("a batch at the standard price", "without --economy")
    )
    return (
        f"The batch {batch_id} is {kind} already, and nothing was started. Go on with it {way}, or give the other one an id of"
        " its own with --id."
    )


LINES_A_PAGE = 500
# Bytes after which a page ends early: requests may bring images along.
MAX_PAGE = 1024 * 1024


class BatchLine(SparseContract):
    """One line of a batch's file: a request with its id, or the `problem` because of which it is skipped.

    `line` is its number in the file, from 1.
    """

    line: int
    request: dict[str, Any] | None = None
    problem: str | None = None


def page_key(batch_id: str, digest: str, page: int) -> str:
    """Return the key of the document that holds a page, counted from 0."""
    return f"batches/{batch_id}/{digest}/page-{page:05d}.jsonl"


def write_line(line: BatchLine) -> bytes:
    """Format a line as its page holds it, including the newline."""
    return line.model_dump_json().encode() + b"\n"


def read_page(data: bytes) -> tuple[BatchLine, ...]:
    """Parse the lines of a page, in order."""
    return tuple(BatchLine.model_validate_json(line) for line in data.splitlines())
