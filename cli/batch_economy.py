"""What is different about an economy batch for whoever types: its options, its order, and what cannot be done to it."""

from typing import Annotated

from typer import Option

from billing.batches import describe_other_kind
from cli.batch_starting import Options
from cli.failures import RequestRefused
from cli.session import Session
from contracts.batches import BatchProgress
from contracts.economy import EconomyOrder, EconomyRetry

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
