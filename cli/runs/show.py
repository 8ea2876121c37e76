"""`show` and `wait`: a run's current state or result, from Temporal or from the ledger."""

import asyncio
from contextlib import suppress

from temporalio.client import WorkflowExecutionStatus

from cli import options
from cli.errors import RunFailed
from cli.output import Output
from cli.runs.follow import ask_status, word_decision
from cli.runs.lookup import (
    KnownRun,
    await_result,
    describe_attempts,
    find_in_ledger,
    find_in_temporal,
    follow_to_result,
    recall_result,
    warn_of_deleted,
)
from cli.runs.view import describe_lines, describe_result
from cli.session import Session, open_session
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.contracts.result import RunResult, RunStatus
from gpt_image_runs.database.errors import LedgerError
from workflows.run_status import describe_error, describe_trying


def show(*, run: options.Run, tenant: options.Tenant = "default", as_json: options.AsJson = False) -> None:
    """Show the current state of a run.

    A run that has ended is shown with its result, a running one with its stage. If Temporal has deleted the run, the ledger
    is used.
    """
    run_id = options.find_run_id(run, tenant)
    asyncio.run(_show(run_id, open_session(), Output(as_json=as_json)))


async def _show(run_id: str, session: Session, output: Output) -> None:
    try:
        known = await find_in_temporal(run_id, session)
    except TemporalUnavailable as error:
        await _show_result(recall_result(run_id, session, output, instead_of=error), session, output, None)
        return
    if known is None:
        await _show_result(recall_result(run_id, session, output), session, output, None)
        return
    link = session.link_to_run(run_id, known.client)
    if known.status is WorkflowExecutionStatus.RUNNING:
        await _show_running(run_id, known, output, link)
        return
    try:
        result = await follow_to_result(run_id, known, session, output)
    except RunFailed:
        _tell_attempts(run_id, session, output)
        raise
    await _show_result(result, session, output, link)


async def _show_result(result: RunResult, session: Session, output: Output, link: str | None) -> None:
    result = await warn_of_deleted(result, session, output)
    view = describe_result(result, session.find_store(), link)
    output.answer(result.model_dump(mode="json"), view)


async def _show_running(run_id: str, known: KnownRun, output: Output, link: str | None) -> None:
    status = await ask_status(known.handle)
    if status is None:
        output.warn("No worker answers, so the run's stage is not known. Start one with `make up`.")
    details = status.model_dump(mode="json") if status else {}
    document = {**details, "run_id": run_id, "status": "running", "web_ui": link}
    rows = [
        *(_describe_status(status) if status else []),
        ("wait", f"python starter.py wait {run_id}"),
        ("Web UI", link or ""),
    ]
    output.answer(document, describe_lines(f"{run_id} running", rows))


def _describe_status(status: RunStatus) -> list[tuple[str, str]]:
    return [
        ("stage", status.stage),
        ("attempt", describe_trying(status) or ""),
        ("error", describe_error(status.last_error) if status.last_error else ""),
        ("model", status.model or ""),
        ("cost", f"{status.cost_usd} USD" if status.cost_usd else ""),
        ("reason", status.reason or ""),
        ("decide", word_decision(status.run_id) if status.open_decision else ""),
    ]


def _tell_attempts(run_id: str, session: Session, output: Output) -> None:
    """Print what was sent for a failed run, because some of it may have been charged."""
    with suppress(LedgerError):
        remembered = find_in_ledger(run_id, session)
        if remembered and remembered.attempts:
            output.say(f"Requests sent to the provider: {describe_attempts(remembered.attempts)}.")


def wait(*, run: options.Run, tenant: options.Tenant = "default", as_json: options.AsJson = False) -> None:
    """Wait for a run and show its result.

    Also works for runs that ended long ago and are only in the ledger.
    """
    session, output = open_session(), Output(as_json=as_json)
    result, link = asyncio.run(_wait(options.find_run_id(run, tenant), session, output))
    view = describe_result(result, session.find_store(), link)
    output.answer(result.model_dump(mode="json"), view)


async def _wait(run_id: str, session: Session, output: Output) -> tuple[RunResult, str | None]:
    result, link = await await_result(run_id, session, output)
    return await warn_of_deleted(result, session, output), link
