"""Start corrections, wait for them, and report the outcome of each."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError

from cli.errors import FAILED, INTERRUPTED, REFUSED, CommandFailed, RequestRefused
from cli.output import Output, make_table
from cli.runs.follow import await_result
from cli.runs.view import describe_lines
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.corrections import Correction, Settlement
from workflows.reconciliation import describe_correction

SettlementHandle = WorkflowHandle[Any, Settlement]

# Corrections in progress from one command: enough to keep a worker busy, few enough to leave room for others.
_AT_ONCE = 20
_REFUSED_TYPES = (names.REQUEST_REFUSED, names.CORRECTION_REFUSED)


@dataclass(frozen=True, slots=True)
class Ending:
    """The outcome of a correction: its settlement, or a sentence that says why there is none."""

    correction: Correction
    outcome: str
    settlement: Settlement | None = None
    problem: str | None = None


class SettlingInterrupted(CommandFailed):
    """Ctrl-C while waiting for corrections. Those that were started continue."""

    status = "running"

    def __init__(self) -> None:
        super().__init__(
            "Corrections that were started continue. Repeat the command to see their outcome: nothing is entered twice.",
            exit_status=INTERRUPTED,
        )


async def start_correction(client: Client, correction: Correction) -> SettlementHandle:
    """Start a correction, or attach to it if it is already running.

    A correction that has ended is started again. The ledger finds its entry, so the answer is up to date.
    """
    return await client.start_workflow(
        names.RECONCILIATION,
        correction,
        id=correction.workflow_id,
        task_queue=names.RUNS_QUEUE,
        result_type=Settlement,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        search_attributes=TypedSearchAttributes([SearchAttributePair(names.TENANT, correction.tenant)]),
        static_summary=describe_correction(correction),
        priority=Priority(fairness_key=correction.tenant),
    )


async def settle_all(client: Client, corrections: Sequence[Correction], output: Output) -> tuple[Ending, ...]:
    """Run corrections, several at a time, and wait for all of them.

    Raises:
        SettlingInterrupted: Ctrl-C.
        RPCError: the connection to Temporal was lost; corrections that were started continue.
    """
    places = asyncio.Semaphore(_AT_ONCE)
    told: set[str] = set()

    async def settle(correction: Correction) -> Ending:
        async with places:
            return await _settle(client, correction, output, told)

    try:
        return tuple(await asyncio.gather(*map(settle, corrections)))
    except asyncio.CancelledError:
        raise SettlingInterrupted from None


async def _settle(client: Client, correction: Correction, output: Output, told: set[str]) -> Ending:
    handle = await start_correction(client, correction)
    try:
        settlement = await await_result(client, handle, output, told)
    except WorkflowFailureError as error:
        return _describe_failure(correction, error.cause)
    if settlement.superseded_by:
        return Ending(correction, "refused", settlement, _describe_superseded(settlement))
    return Ending(correction, settlement.outcome, settlement)


def _describe_failure(correction: Correction, cause: BaseException) -> Ending:
    if isinstance(cause, ApplicationError) and cause.type in _REFUSED_TYPES:
        return Ending(correction, "refused", problem=cause.message)
    return Ending(correction, "failed", problem=f"The correction ended without a result: {cause}.")


def _describe_superseded(settlement: Settlement) -> str:
    return (
        f"The run {settlement.run_id} already has this correction (entry {settlement.entry_id}), and a later one: entry"
        f" {settlement.superseded_by} counts, and {settlement.total_usd} USD are owed. Nothing was written."
    )


_TITLES = {"settled": "✓ {} is settled", "already_settled": "✓ {} was already settled"}
_COUNTED = ("settled", "already_settled", "pending", "refused", "failed")


def refuse_unsettled(ending: Ending) -> Settlement:
    """Return the settlement of a single correction.

    Raises:
        CommandFailed: it was refused, is still pending, or failed.
    """
    settlement, run_id = ending.settlement, ending.correction.run_id
    if ending.problem or settlement is None:
        end = CommandFailed if ending.outcome == "failed" else RequestRefused
        raise end(ending.problem or "", run_id=run_id)
    if settlement.outcome == "pending":
        raise RequestRefused(
            f"The run {run_id} is still pending; nothing was written: {settlement.reason}", run_id=run_id
        )
    return settlement


def describe_settlement(settlement: Settlement, link: str | None) -> Text:
    """Format a settled run: what is owed now, and the entry."""
    rows = [
        ("owed", f"{settlement.total_usd} USD"),
        ("difference", f"{settlement.difference_usd} USD"),
        ("entry", f"{settlement.entry_id}, corrects {settlement.corrects}"),
        ("rates", settlement.rate_card or ""),
        ("reason", settlement.reason or ""),
        ("Web UI", link or ""),
    ]
    return describe_lines(_TITLES[settlement.outcome].format(settlement.run_id), rows, style="bold green")


def document_endings(endings: Sequence[Ending]) -> dict[str, Any]:
    """Build the JSON document: the number of each outcome, and every run with its settlement or problem."""
    counts = _count(endings)
    runs = [
        {
            "run_id": ending.correction.run_id,
            "outcome": ending.outcome,
            "problem": ending.problem,
            "settlement": ending.settlement and ending.settlement.model_dump(mode="json"),
        }
        for ending in endings
    ]
    return {**counts, "runs": runs}


def tabulate_endings(endings: Sequence[Ending]) -> tuple[RenderableType, ...]:
    """Format the same for people: a row for each run, and a line with the counts."""
    if not endings:
        return (Text("There is nothing to settle.", style="bold"),)
    numbers = ("Difference USD", "Owed USD")
    table = make_table("Run", "Outcome", *numbers, right=numbers)
    for ending in endings:
        settlement = ending.settlement
        amounts = (settlement.difference_usd, settlement.total_usd) if settlement else (None, None)
        outcome = ending.outcome.replace("_", " ")
        table.add_row(Text(ending.correction.run_id), outcome, *(amount or "" for amount in amounts))
        why = ending.problem or (settlement.reason if settlement and ending.outcome == "pending" else None)
        if why:
            table.add_row(Text(why, style="dim"), "", "", "")
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in _count(endings).items() if count)
    return table, Text(f"{told}.", style="bold")


def find_status(endings: Sequence[Ending]) -> int:
    """Return the exit status: 1 if a correction failed, 2 if one was refused, otherwise 0."""
    counts = _count(endings)
    return FAILED if counts["failed"] else REFUSED if counts["refused"] else 0


def _count(endings: Sequence[Ending]) -> dict[str, int]:
    counts = Counter(ending.outcome for ending in endings)
    return {name: counts[name] for name in _COUNTED}
