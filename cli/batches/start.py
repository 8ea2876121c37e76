"""From a batch's order to its workflow: started, or attached to where it is under way already."""

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
    MAX_WINDOW,
    USUAL_WINDOW,
    BatchOrder,
    BatchProgress,
    describe_conflict,
    describe_other_kind,
)
from gpt_image_runs.contracts.economy import EconomyOrder, EconomyRetry
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.database.errors import LedgerNotReady


@dataclass(frozen=True, slots=True)
class Options:
    """How a batch is to run; None is what it had before, or the usual."""

    window: int | None
    max_cost_usd: str | None
    fail_fast: bool | None

    def apply(self, known: BatchProgress | None) -> dict[str, Any]:
        """The fields of an order. What a batch had before stays, where nothing else is said: above all its limit of cost."""
        given = {"window": self.window, "max_cost_usd": self.max_cost_usd, "fail_fast": self.fail_fast}
        before = (
            {name: getattr(known, name) for name in given if getattr(known, name) is not None}
            if known
            else {}
        )
        return before | {name: value for name, value in given.items() if value is not None}


def read_limit(text: str | None) -> str | None:
    """An amount as a person types it, with 6 places.

    Raises:
        RequestRefused: it is none, or not above zero.
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
    """Where a batch stands, None where nobody knows it, or there is no ledger yet.

    Raises:
        LedgerError: the ledger does not answer.
    """
    try:
        with session.open_ledger() as database:
            return Batches(database).find(batch_id)
    except LedgerNotReady:
        return None


def require_batch(session: Session, batch_id: str) -> BatchProgress:
    """Where a batch stands.

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


def refuse_other_lines(batch_id: str, known: str, given: str) -> None:
    """Raises RequestRefused where a batch's id stands for other lines already."""
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
    """Turns Temporal's "no such workflow" into a sentence that says where the batch stands."""
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


def refuse_other_kind(known: BatchProgress, *, economy: bool) -> None:
    """Raises RequestRefused where a batch's id stands for one of the other price already."""
    if known.economy != economy:
        raise RequestRefused(
            describe_other_kind(known.batch_id, economy=known.economy), batch_id=known.batch_id
        )


def refuse_meaningless(wanted: Options, session: Session) -> None:
    """Raises RequestRefused where an economy batch has no such option, or the provider no such batches."""
    given = {"--window": wanted.window, "--fail-fast": wanted.fail_fast}
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise RequestRefused(
            f"{' and '.join(names)} can do nothing for an economy batch: its lines go to the provider in files, and no run is"
            " started by itself. Leave it out. Nothing was started."
        )
    if session.provider == AZURE:
        raise RequestRefused(
            "Azure's batches have another form and are not supported. Leave --economy out. Nothing was started."
        )


def refuse_pause(known: BatchProgress, verb: str) -> None:
    """Raises RequestRefused for an economy batch."""
    if known.economy:
        raise RequestRefused(
            f"The batch {known.batch_id} is an economy batch, which nobody can {verb}: its lines are at the provider already."
            f" `python starter.py batch cancel {known.batch_id}` stops what is not done yet.",
            batch_id=known.batch_id,
        )


def make_order(known: BatchProgress, wanted: Options, retry: EconomyRetry) -> EconomyOrder:
    """The order that takes a batch up again, for the lines that are named."""
    return EconomyOrder(
        batch_id=known.batch_id,
        digest=known.digest,
        lines=known.lines,
        pages=known.pages,
        max_cost_usd=wanted.max_cost_usd or known.max_cost_usd,
        retry=retry,
    )


BatchId = Annotated[str, Argument(metavar="ID", help="A batch's id.")]
Window = Annotated[
    int | None,
    Option(min=1, max=MAX_WINDOW, help=f"Runs under way at once. Default: {USUAL_WINDOW}, or as before."),
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
    """The id, where it may be one. Raises RequestRefused."""
    if re.fullmatch(BATCH_ID_PATTERN, batch_id):
        return batch_id
    raise RequestRefused(
        f"{batch_id!a} is not a valid batch id: write {BatchOrder.model_fields['batch_id'].description}. --id names another."
    )
