"""The common part of `reconcile`, `reprice` and `reverse`: start the corrections, wait, and tell what became of each."""

import asyncio
import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError

from cli.awaiting import await_result
from cli.failures import INTERRUPTED, CommandFailed, RequestRefused
from cli.output import Output
from contracts import names
from contracts.corrections import Correction, Settlement
from workflows.correction_details import describe_correction

SettlementHandle = WorkflowHandle[Any, Settlement]

_AT_ONCE = 20
"""Corrections under way from one command: enough to keep a worker busy, few enough to leave it to others too."""
_REFUSED_TYPES = (names.REQUEST_REFUSED, names.CORRECTION_REFUSED)


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a correction: its settlement, or the sentence that says why there is none that counts."""

    correction: Correction
    outcome: str
    settlement: Settlement | None = None
    problem: str | None = None


class SettlingInterrupted(CommandFailed):
    """Ctrl-C while corrections were awaited: those that were started go on."""

    status = "running"

    def __init__(self) -> None:
        super().__init__(
            "What was started goes on. Repeat the command to see its end: nothing is entered twice.",
            exit_status=INTERRUPTED,
        )


def find_actor(given: str | None) -> str:
    """Who decides: as given, else the user of this machine.

    Raises:
        RequestRefused: the machine does not know its user.
    """
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise RequestRefused("This machine does not know its user: give --actor NAME.") from None


async def start_correction(client: Client, correction: Correction) -> SettlementHandle:
    """Starts a correction, or attaches to the same one where it is under way.

    One that has ended is started again: the ledger finds its entry, so that the answer is of today.
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
    """Carries out corrections, some at a time, and waits for all of them.

    Raises:
        SettlingInterrupted: Ctrl-C.
        RPCError: Temporal is lost; what was started goes on.
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
        f"The run {settlement.run_id} was corrected by this before (entry {settlement.entry_id}), and again since: entry"
        f" {settlement.superseded_by} counts, and {settlement.total_usd} USD are owed. Nothing was written."
    )
