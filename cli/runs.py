"""`runs`: the runs that Temporal knows, as its Web UI lists them, with their bills."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from rich.table import Table
from rich.text import Text
from temporalio.client import WorkflowExecution
from typer import Option

from billing.errors import LedgerError
from billing.run_bills import RunBill, find_bills
from cli import options
from cli.moments import Since, format_moment
from cli.output import Output, make_table
from cli.run_listing import ListedRun, State, describe_runs, list_runs, make_query
from cli.session import Session, open_session

_STYLES = {"completed": "green", "failed": "red", "held": "yellow"}


def runs(
    *,
    tenant: options.AnyTenant = None,
    model: Annotated[str | None, Option(help="This model only.")] = None,
    state: Annotated[
        State | None, Option(help="In this state only; what is held waits for a decision, and runs.")
    ] = None,
    batch: Annotated[str | None, Option(help="Runs of this batch only.")] = None,
    since: Since = None,
    limit: Annotated[int, Option(min=1, help="At most so many.")] = 20,
    as_json: options.AsJson = False,
) -> None:
    """List the runs that Temporal knows, the newest first.

    Where there are more than the limit, those that run come before those that have ended. Older runs are in the ledger.
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
        output.warn(f"Charges are not shown, as the ledger cannot be asked: {error}")
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
