"""Finding a run that exists: in Temporal, and in the ledger, which still knows it when Temporal has forgotten."""

from contextlib import suppress
from dataclasses import dataclass

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from billing.attempt_records import Attempt
from billing.errors import LedgerError
from cli.failures import CommandFailed, RequestRefused, RunFailed
from cli.following import follow_run
from cli.output import Output
from cli.remembered import find_in_ledger, with_corrections
from cli.session import Session
from cli.starting import RunHandle
from contracts.result import RunResult
from runtime.temporal import TemporalUnavailable


@dataclass(frozen=True, slots=True)
class KnownRun:
    """What Temporal knows of a run."""

    client: Client
    handle: RunHandle
    status: WorkflowExecutionStatus | None


async def find_in_temporal(run_id: str, session: Session) -> KnownRun | None:
    """The run as Temporal knows it, None where it does not.

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
    """The result of a run and its page in the Web UI, waiting for its end where it still runs.

    Raises:
        CommandFailed: nobody knows the run, it failed, or the waiting was interrupted.
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
    """The result of a run, waiting for its end. Where its latest execution has none, and the ledger has a bill, that counts.

    A later submission of other content under the same id ends without a result, and must not hide what was paid before.

    Raises:
        CommandFailed: it failed and has no bill, or the waiting was interrupted.
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
    """The result of a run that only the ledger can tell.

    Raises:
        TemporalUnavailable: `instead_of`, where the ledger cannot help either.
        CommandFailed: nobody knows the run, or it has no bill.
    """
    try:
        remembered = find_in_ledger(run_id, session)
    except LedgerError as error:
        if instead_of:
            raise instead_of from None
        raise CommandFailed(
            f"Temporal knows no run {run_id}, and the ledger cannot be asked: {error}"
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
    where = "Temporal cannot be asked" if instead_of else "Temporal does not know this run any more"
    output.say(f"{where}; this is from the ledger.")
    return remembered.result


def describe_attempts(attempts: tuple[Attempt, ...]) -> str:
    """What became of each request to the provider, in one line."""
    return "; ".join(
        f"{attempt.number} {attempt.outcome}{f' ({attempt.error_type})' if attempt.error_type else ''}"
        for attempt in attempts
    )
