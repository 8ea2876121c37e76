"""`pending`: the runs whose bill waits for somebody."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from typer import Option

from billing.unbilled import Unbilled, UnbilledAttempt, find_unbilled
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
    limit: Annotated[int | None, Option(min=1, help="At most so many runs with an entry.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the runs whose bill waits, the oldest first.

    A run whose usage is kept may only lack a price: `reprice` bills it. Any other waits for `reconcile`.

    Requests that were paid and are on no entry are listed too: their runs were ended before the bill. Submit such a run again
    under its id: it is billed, and nothing is bought. Those of the last five minutes may just be billed and are counted apart.
    """
    now = datetime.now(UTC)
    with open_session().open_ledger() as database:
        waiting = list_waiting(database, tenant=tenant, estimates=estimates, limit=limit)
        unbilled = find_unbilled(database, now, tenant=tenant)
    document = {
        "runs": [run.model_dump(mode="json") for run in waiting],
        "unbilled": [attempt.model_dump(mode="json") for attempt in unbilled.attempts],
        "in_flight": [attempt.model_dump(mode="json") for attempt in unbilled.in_flight],
    }
    Output(as_json=as_json).answer(document, *_describe(waiting, unbilled))


def _describe(waiting: tuple[WaitingRun, ...], unbilled: Unbilled) -> Iterator[RenderableType]:
    if waiting:
        yield _tabulate(waiting)
    if unbilled.attempts:
        yield Text("Paid, and on no entry:", style="bold")
        yield _tabulate_unbilled(unbilled.attempts)
    if not waiting and not unbilled.attempts:
        yield Text("Nothing waits.")
    if unbilled.in_flight:
        count = len(unbilled.in_flight)
        yield Text(f"{count} more {'was' if count == 1 else 'were'} just paid and may be billed in a moment.")


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


def _tabulate_unbilled(attempts: tuple[UnbilledAttempt, ...]) -> Table:
    table = make_table("Paid (UTC)", "Run", "Model", "At most USD", "What to do", right=("At most USD",))
    for attempt in attempts:
        what = (
            f"nothing bills it: {attempt.billed_by} bills the run by another request"
            if attempt.billed_by
            else "submit the run again: it is billed, not bought"
        )
        model = f"{attempt.model}, simulated" if attempt.simulated else attempt.model
        most = attempt.reserved_usd or "not known"
        table.add_row(format_moment(attempt.finished_at), Text(attempt.run_id), Text(model), most, what)
    return table
