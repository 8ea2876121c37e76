"""Options and orders of batches, how a batch is found, started and refused."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from typer import Argument, Option

from cli.errors import CommandFailed, RequestRefused
from cli.session import Session
from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.client import batches
from gpt_image_runs.client.errors import BatchConflict
from gpt_image_runs.contracts.batches import (
    BATCH_ID_PATTERN,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    BatchOrder,
    BatchProgress,
    Retry,
    describe_conflict,
    describe_other_kind,
)
from gpt_image_runs.contracts.economy import EconomyOrder
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.database.errors import LedgerNotReady


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a batch. None is what it had before, or the default."""

    window: int | None
    max_cost_usd: str | None
    fail_fast: bool | None

    def apply(self, known: BatchProgress | None) -> dict[str, Any]:
        """Return the fields of an order. A known batch keeps options that are not given."""
        given = {"window": self.window, "max_cost_usd": self.max_cost_usd, "fail_fast": self.fail_fast}
        before = (
            {name: getattr(known, name) for name in given if getattr(known, name) is not None}
            if known
            else {}
        )
        return before | {name: value for name, value in given.items() if value is not None}


def parse_limit(text: str | None) -> str | None:
    """Parse an amount that a person typed, and return it with 6 places.

    Raises:
        RequestRefused: it is not a valid amount, or not above zero.
    """
    if text is None:
        return None
    try:
        micro_usd = parse_usd(text)
    except ValueError as error:
        raise RequestRefused(f"--max-cost: {error}.") from None
    if micro_usd <= 0:
        raise RequestRefused(f"--max-cost is {text}: write an amount above zero, such as 25.")
    return format_usd(micro_usd)


def find_batch(session: Session, batch_id: str) -> BatchProgress | None:
    """Find the progress of a batch, None where there is no such batch or no ledger yet.

    Raises:
        LedgerError: the ledger does not answer.
    """
    try:
        with session.open_ledger() as database:
            return Batches(database).find(batch_id)
    except LedgerNotReady:
        return None


def require_batch(session: Session, batch_id: str) -> BatchProgress:
    """Get the progress of a batch.

    Raises:
        CommandFailed: there is no such batch.
    """
    with session.open_ledger() as database:
        progress = Batches(database).find(batch_id)
    if progress is None:
        raise CommandFailed(
            f"There is no batch {batch_id!a}. `python starter.py batch list` lists them.", batch_id=batch_id
        )
    return progress


def check_digest(batch_id: str, known: str, given: str) -> None:
    """Check that a batch's id stands for the same lines. Raises RequestRefused."""
    if known != given:
        raise RequestRefused(describe_conflict(batch_id, known, given), batch_id=batch_id)


async def start_batch(client: Client, order: BatchOrder | EconomyOrder) -> bool:
    """Start the workflow of a batch, or attach to it, and return whether it is attached.

    Raises:
        RequestRefused: a batch of the same id and other lines, or of the other price, is under way.
    """
    try:
        return (await batches.start_batch(client, order)).attached
    except BatchConflict as conflict:
        raise RequestRefused(str(conflict), batch_id=conflict.batch_id) from None


@contextmanager
def refused_where_ended(session: Session, batch_id: str, verb: str) -> Iterator[None]:
    """Translate Temporal's "not found" into a refusal that names the state of the batch."""
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        progress = require_batch(session, batch_id)
        raise RequestRefused(
            f"The batch {batch_id} is not under way (it is {progress.state}), so there is nothing to {verb}.",
            batch_id=batch_id,
            state=progress.state,
        ) from None


AZURE = "azure"
Economy = Annotated[
    bool,
    Option("--economy", help="At half price, within a day: in the provider's own batches."),
]


def check_kind(known: BatchProgress, *, economy: bool) -> None:
    """Check that a batch is of the kind that was asked for. Raises RequestRefused."""
    if known.economy != economy:
        raise RequestRefused(
            describe_other_kind(known.batch_id, economy=known.economy), batch_id=known.batch_id
        )


def check_economy_options(wanted: Options, session: Session) -> None:
    """Check the options and the provider of an economy batch. Raises RequestRefused."""
    given = {"--window": wanted.window, "--fail-fast": wanted.fail_fast}
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise RequestRefused(
            f"{' and '.join(names)} has no effect on an economy batch, whose lines are sent to the provider in files. Leave it"
            " out. Nothing was started."
        )
    if session.provider == AZURE:
        raise RequestRefused(
            "Azure's batches have another format and are not supported. Leave --economy out. Nothing was started."
        )


def check_can_pause(known: BatchProgress, verb: str) -> None:
    """Check that a batch can be paused. Raises RequestRefused for an economy batch."""
    if known.economy:
        raise RequestRefused(
            f"The batch {known.batch_id} is an economy batch, which cannot be {verb}d: its lines are at the provider already."
            f" `python starter.py batch cancel {known.batch_id}` stops what is not done yet.",
            batch_id=known.batch_id,
        )


def build_next_order(
    known: BatchProgress, wanted: Options, retry: Retry | None = None
) -> BatchOrder | EconomyOrder:
    """Build the order that continues a batch with its waiting lines.

    With `retry` it starts a new round, which has the ended lines that `retry` names too.
    """
    lines: dict[str, Any] = {
        "batch_id": known.batch_id,
        "digest": known.digest,
        "lines": known.lines,
        "pages": known.pages,
    }
    if known.economy:
        limit = wanted.max_cost_usd or known.max_cost_usd
        return EconomyOrder(**lines, max_cost_usd=limit, retry=retry or "waiting")
    number = known.round + 1 if retry else known.round
    return BatchOrder(**lines, round=number, retry=retry, **wanted.apply(known))


BatchId = Annotated[str, Argument(metavar="ID", help="A batch's id.")]
Window = Annotated[
    int | None,
    Option(min=1, max=MAX_WINDOW, help=f"Runs under way at once. Default: {DEFAULT_WINDOW}, or as before."),
]
MaxCost = Annotated[
    str | None,
    Option(metavar="USD", help="Start no run that could take charges and reservations beyond this."),
]
FailFast = Annotated[
    bool | None,
    Option(
        "--fail-fast/--no-fail-fast", help="Start nothing more once a line has failed.", show_default=False
    ),
]
Detach = Annotated[bool, Option("--detach", help="Do not watch it.")]


def check_batch_id(batch_id: str) -> str:
    """Return a batch's id if it is valid. Raises RequestRefused."""
    if re.fullmatch(BATCH_ID_PATTERN, batch_id):
        return batch_id
    raise RequestRefused(
        f"{batch_id!a} is not a valid batch id: write {BatchOrder.model_fields['batch_id'].description}. Use --id to give another."
    )
