"""Find a run in Temporal, or in the ledger, which remembers runs that Temporal has deleted."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from cli.errors import CommandFailed, RequestRefused, RunFailed
from cli.output import Output
from cli.runs.follow import follow_run
from cli.session import Session
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.billing.reports.entries import EntryView, list_entries
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.client.runs import RunHandle
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.contracts.result import ResultBilling, ResultCost, ResultProvider, RunResult
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.backend import StoreUnavailable
from gpt_image_runs.images.ownership import describe_deleted

_BILLS = ("charge", "estimate", "hold")


@dataclass(frozen=True, slots=True)
class RememberedRun:
    """What the ledger knows of a run: its bill, if any, and the requests that were sent for it."""

    result: RunResult | None
    attempts: tuple[Attempt, ...]


def find_in_ledger(run_id: str, session: Session) -> RememberedRun | None:
    """Find a run in the ledger; None if it is not there.

    Raises:
        LedgerError: the ledger is not available.
    """
    with session.open_ledger() as database:
        entries = list_entries(database, run_id=run_id)
        attempts = AttemptLog(database).list_attempts(run_id)
        record = Ledger(database).state_of(run_id)
    bill = next((entry for entry in entries if entry.kind in _BILLS), None)
    if bill is None or record is None:
        return RememberedRun(None, attempts) if attempts else None
    billing = ResultBilling(state=record.state, entry_id=record.entry_id, reason=record.reason)
    return RememberedRun(_rebuild_result(bill, entries, billing, attempts), attempts)


def with_corrections(result: RunResult, session: Session) -> RunResult:
    """Update a result with the ledger's current bill: corrections come after a run's end."""
    try:
        remembered = find_in_ledger(result.run_id, session)
    except LedgerError:
        return result  # as the run ended; who has no ledger at hand still gets the pictures
    today = remembered.result if remembered else None
    if today is None or today.billing.state != "reconciled":
        return result
    return result.model_copy(update={"usage": today.usage, "cost": today.cost, "billing": today.billing})


def _rebuild_result(
    bill: EntryView, entries: tuple[EntryView, ...], billing: ResultBilling, attempts: tuple[Attempt, ...]
) -> RunResult:
    """Rebuild a run's result from its entries, newest first. Corrections are differences, so the cost is the sum."""
    latest = entries[0]
    return RunResult(
        run_id=bill.run_id,
        operation="edit" if bill.operation == "edit" else "generate",
        model=bill.model,
        requested_model=bill.requested_model,
        images=bill.images,
        usage=bill.usage if latest.usage is None else latest.usage,
        cost=ResultCost(
            amount_usd=_sum_up(entry.amount_usd for entry in entries),
            basis=latest.basis,
            flags=latest.flags,
            rate_card=latest.rate_card,
            list_cost_usd=_sum_up(entry.list_cost_usd for entry in entries),
            line_items=latest.line_items,
        ),
        billing=billing,
        provider=ResultProvider(
            name=bill.provider,
            request_id=bill.provider_request_id,
            attempts=len(attempts),
            simulated=bill.simulated,
        ),
        warnings=tuple(
            attempt.error_message
            for attempt in attempts
            if attempt.attempt_id == bill.attempt_id and attempt.error_message
        ),
    )


def _sum_up(amounts: Iterable[str | None]) -> str | None:
    known = [parse_usd(amount) for amount in amounts if amount is not None]
    return format_usd(sum(known)) if known else None


@dataclass(frozen=True, slots=True)
class KnownRun:
    """What Temporal knows of a run."""

    client: Client
    handle: RunHandle
    status: WorkflowExecutionStatus | None


async def find_in_temporal(run_id: str, session: Session) -> KnownRun | None:
    """Find a run in Temporal; None if it does not know it.

    Raises:
        TemporalUnavailable: no server answers.
    """
    client = await session.connect()
    handle = client.get_workflow_handle(run_id, result_type=RunResult)
    try:
        described = await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return KnownRun(client, handle, described.status)


async def await_result(run_id: str, session: Session, output: Output) -> tuple[RunResult, str | None]:
    """Return the result of a run and its page in the Web UI; wait for its end if it is running.

    Raises:
        CommandFailed: the run is not found, it failed, or waiting was interrupted.
    """
    try:
        known = await find_in_temporal(run_id, session)
    except TemporalUnavailable as error:
        return recall_result(run_id, session, output, instead_of=error), None
    if known is None:
        return recall_result(run_id, session, output), None
    result = await follow_to_result(run_id, known, session, output)
    return result, session.link_to_run(run_id, known.client)


async def follow_to_result(run_id: str, known: KnownRun, session: Session, output: Output) -> RunResult:
    """Wait for a run's result. If its latest execution has none and the ledger has a bill, return that.

    A later submission of other content under the same id ends without a result and must not hide what was paid before.

    Raises:
        CommandFailed: it failed and has no bill, or waiting was interrupted.
    """
    try:
        return with_corrections(await follow_run(known.client, known.handle, output), session)
    except (RequestRefused, RunFailed) as failure:
        with suppress(LedgerError):
            billed = find_in_ledger(run_id, session)
            if billed and billed.result:
                output.warn(
                    f"The latest execution of {run_id} ended without a result ({failure}); the run was billed before,"
                    " and this is from the ledger."
                )
                return billed.result
        raise


def recall_result(
    run_id: str, session: Session, output: Output, instead_of: TemporalUnavailable | None = None
) -> RunResult:
    """Return the result of a run that only the ledger knows.

    Raises:
        TemporalUnavailable: `instead_of`, if the ledger cannot help either.
        CommandFailed: the run is not found, or it has no bill.
    """
    try:
        remembered = find_in_ledger(run_id, session)
    except LedgerError as error:
        if instead_of:
            raise instead_of from None
        raise CommandFailed(
            f"Temporal does not know the run {run_id}, and the ledger is not available: {error}"
        ) from error
    if remembered is None and instead_of:
        raise instead_of
    if remembered is None:
        raise CommandFailed(
            f"There is no run {run_id}. Check the request id and --tenant; `python starter.py runs` lists runs.",
            run_id=run_id,
        )
    if remembered.result is None:
        raise CommandFailed(
            f"The run {run_id} has no bill and is not in Temporal any more. Requests sent for it:"
            f" {describe_attempts(remembered.attempts)}.",
            run_id=run_id,
        )
    where = "Temporal is not available" if instead_of else "Temporal no longer knows this run"
    output.say(f"{where}; this is from the ledger.")
    return remembered.result


def describe_attempts(attempts: tuple[Attempt, ...]) -> str:
    """Describe the outcome of each request to the provider, in one line."""
    return "; ".join(
        f"{attempt.number} {attempt.outcome}{f' ({attempt.error_type})' if attempt.error_type else ''}"
        for attempt in attempts
    )


async def warn_of_deleted(result: RunResult, session: Session, output: Output) -> RunResult:
    """Print the result's warnings and those about images deleted since; return the result with all of them."""
    store = session.find_store()
    deleted: tuple[str, ...] = ()
    if store is not None:
        try:
            deleted = await describe_deleted(store, result.images)
        except StoreUnavailable as error:
            output.warn(f"It is not known whether the images still exist. {error}")
    warnings = tuple(dict.fromkeys((*result.warnings, *deleted)))
    for warning in warnings:
        output.warn(warning)
    return result.model_copy(update={"warnings": warnings})
