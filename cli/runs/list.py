"""`runs`: list the runs that Temporal knows, with their bills."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from rich.table import Table
from rich.text import Text
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from typer import Option

from cli import options
from cli.dates import Since, format_moment
from cli.output import Output, make_table
from cli.runs.follow import ask_status
from cli.session import Session, open_session
from gpt_image_runs.billing.ledger.queries import RunBill, find_bills
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.database.errors import LedgerError

State = Literal["running", "held", "completed", "failed", "cancelled"]
_RUNNING = "ExecutionStatus = 'Running'"
_NO_SCHEDULE = "(TemporalScheduledById IS NULL OR ExecutionStatus = 'Failed')"
# `running` includes held runs: they continue as soon as somebody has decided.
_STATES: dict[State, str] = {
    "running": _RUNNING,
    "held": f"{_RUNNING} AND {names.WAITS_FOR.name} = '{names.DECISION}'",
    "completed": "ExecutionStatus = 'Completed'",
    "failed": "ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut')",
    "cancelled": "ExecutionStatus = 'Canceled'",
}
_ENDED: dict[WorkflowExecutionStatus | None, State] = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
}
_AT_ONCE = 10


class ListedRun(Contract):
    """A run in a list. `stage` is set while it runs, `failure_type` if it failed; null if not known.

    `amount_usd` and `billing_state` are the ledger's, as of today.
    """

    run_id: str
    state: State
    stage: str | None
    failure_type: str | None
    tenant: str | None
    model: str | None
    batch_id: str | None
    started_at: datetime
    ended_at: datetime | None
    amount_usd: str | None
    billing_state: str | None


def make_query(
    *,
    state: State | None = None,
    tenant: str | None = None,
    model: str | None = None,
    batch_id: str | None = None,
    since: datetime | None = None,
) -> str:
    """Build the list filter, in the Web UI's syntax."""
    wanted = {names.TENANT: tenant, names.MODEL: model, names.BATCH_ID: batch_id}
    terms = [f"WorkflowType = '{names.WORKFLOW}'"]
    terms += [f"{key.name} = {_quote(value)}" for key, value in wanted.items() if value is not None]
    # What a schedule starts is carried out by a child, which is the run; itself it has none of these attributes.
    terms += [] if any(wanted.values()) else [_NO_SCHEDULE]
    terms += [_STATES[state]] if state else []
    terms += [f"StartTime >= '{since.isoformat()}'"] if since else []
    return " AND ".join(terms)


async def list_runs(client: Client, query: str, limit: int) -> list[WorkflowExecution]:
    """List at most `limit` runs: first those that are running, then those that ended last. Sorted newest first."""
    found = [found async for found in client.list_workflows(query, limit=limit)]
    return sorted(found, key=lambda run: run.start_time, reverse=True)


async def describe_runs(
    client: Client, executions: Iterable[WorkflowExecution], bills: dict[str, RunBill]
) -> list[ListedRun]:
    """Collect what is shown of each run, several at a time."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def describe(execution: WorkflowExecution) -> ListedRun:
        async with places:
            return await _describe(client, execution, bills.get(execution.id))

    return list(await asyncio.gather(*map(describe, executions)))


async def _describe(client: Client, execution: WorkflowExecution, bill: RunBill | None) -> ListedRun:
    state, stage, failure_type = await _find_state(client, execution)
    known = execution.typed_search_attributes
    return ListedRun(
        run_id=execution.id,
        state=state,
        stage=stage,
        failure_type=failure_type,
        tenant=known.get(names.TENANT),
        model=known.get(names.MODEL),
        batch_id=known.get(names.BATCH_ID),
        started_at=execution.start_time,
        ended_at=execution.close_time,
        amount_usd=bill.amount_usd if bill else None,
        billing_state=bill.state if bill else None,
    )


async def _find_state(client: Client, execution: WorkflowExecution) -> tuple[State, str | None, str | None]:
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id, result_type=RunResult)
    if execution.status is WorkflowExecutionStatus.RUNNING:
        status = await ask_status(handle)
        held = execution.typed_search_attributes.get(names.WAITS_FOR) == names.DECISION
        return "held" if held else "running", status.stage if status else None, None
    state = _ENDED.get(execution.status, "failed")
    return state, None, await _find_failure(handle) if state == "failed" else None


async def _find_failure(handle: Any) -> str | None:
    """Return the type of the failure that ended a run. Visibility does not store it."""
    try:
        await handle.result(follow_runs=False)
    except WorkflowFailureError as error:
        if isinstance(error.cause, ApplicationError):
            return error.cause.type or "ApplicationError"
        return type(error.cause).__name__.removesuffix("Error")
    except RPCError:
        return None
    return None


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_STYLES = {"completed": "green", "failed": "red", "held": "yellow"}


def runs(
    *,
    tenant: options.AnyTenant = None,
    model: Annotated[str | None, Option(help="This model only.")] = None,
    state: Annotated[
        State | None, Option(help="In this state only; held runs wait for a decision, and are also running.")
    ] = None,
    batch: Annotated[str | None, Option(help="Runs of this batch only.")] = None,
    since: Since = None,
    limit: Annotated[int, Option(min=1, help="The maximum number.")] = 20,
    as_json: options.AsJson = False,
) -> None:
    """List the runs that Temporal knows, newest first.

    If there are more than the limit, running ones are listed before those that have ended. Older runs are in the ledger.
    """
    query = make_query(state=state, tenant=tenant, model=model, batch_id=batch, since=since)
    asyncio.run(_list(query, limit, open_session(), Output(as_json=as_json)))


async def _list(query: str, limit: int, session: Session, output: Output) -> None:
    client = await session.connect()
    # One more than is shown tells that there are more.
    found = await list_runs(client, query, limit + 1)
    shown = found[:limit]
    bills = await asyncio.to_thread(_find_bills, shown, session, output)
    listed = await describe_runs(client, shown, bills)
    document = {"query": query, "runs": [run.model_dump(mode="json") for run in listed]}
    output.answer(document, _tabulate(listed) if listed else Text("No runs."))
    if len(found) > limit:
        output.say(f"There are more than {limit}; --limit shows more. The filter for the Web UI: {query}")


def _find_bills(found: Sequence[WorkflowExecution], session: Session, output: Output) -> dict[str, RunBill]:
    try:
        with session.open_ledger() as database:
            return find_bills(database, [run.id for run in found])
    except LedgerError as error:
        output.warn(f"Charges are not shown because the ledger is not available: {error}")
        return {}


def _tabulate(listed: Sequence[ListedRun]) -> Table:
    table = make_table(
        "Started (UTC)",
        "Run",
        "State",
        "Model",
        "Charge USD",
        "Billing",
        right=("Charge USD",),
        whole=("Run",),
    )
    for run in listed:
        more = run.failure_type or (run.stage if run.state == "running" else None)
        state = Text(f"{run.state} ({more})" if more else run.state, style=_STYLES.get(run.state, ""))
        charge = run.amount_usd or ("not known yet" if run.billing_state == "pending" else "")
        moment = format_moment(run.started_at)
        table.add_row(moment, Text(run.run_id), state, Text(run.model or ""), charge, run.billing_state or "")
    return table
