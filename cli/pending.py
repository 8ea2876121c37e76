"""`pending`: the runs whose bill waits for somebody."""

from typing import Annotated

from rich.table import Table
from rich.text import Text
from typer import Option

from billing.waiting import WaitingRun, list_waiting
from cli import options
from cli.moments import format_moment
from cli.output import Output, make_table
from cli.session import open_session


def pending(
    *,
    tenant: options.AnyTenant = None,
    estimates: Annotated[
        bool, Option("--estimates", help="Also runs that are billed by an estimate.")
    ] = False,
    limit: Annotated[int | None, Option(min=1, help="At most so many.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the runs whose bill waits, the oldest first.

    A run whose usage is kept may only lack a price: `reprice` bills it. Any other waits for `reconcile`.
    """
    with open_session().open_ledger() as database:
        waiting = list_waiting(database, tenant=tenant, estimates=estimates, limit=limit)
    document = {"runs": [run.model_dump(mode="json") for run in waiting]}
    Output(as_json=as_json).answer(document, _tabulate(waiting) if waiting else Text("Nothing waits."))


def _tabulate(waiting: tuple[WaitingRun, ...]) -> Table:
    table = make_table(
        "Waiting since (UTC)", "Run", "Model", "State", "Amount USD", "Usage", right=("Amount USD",)
    )
    for run in waiting:
        state = f"{run.state}, simulated" if run.simulated else run.state
        usage = "kept" if run.usage_is_kept else "none"
        since, amount = format_moment(run.waiting_since), run.amount_usd or "not known yet"
        table.add_row(since, Text(run.run_id), Text(run.model), state, amount, usage)
        if run.reason:
            table.add_row("", Text(run.reason, style="dim"))
    return table
