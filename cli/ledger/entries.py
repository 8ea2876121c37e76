"""`ledger` and `costs`: list and sum up ledger entries."""

from typing import Annotated

from rich.table import Table
from rich.text import Text
from typer import Option

from cli import options
from cli.dates import Since, Until, format_moment
from cli.output import Output, make_table
from cli.session import open_session
from gpt_image_runs.billing.reports.entries import (
    CostRow,
    CostTotals,
    EntryView,
    Grouping,
    costs_by,
    list_entries,
    total,
)

# Entries in a table if no limit is given; JSON is for programs, and complete.
_SHOWN_UNASKED = 50


def ledger(
    *,
    tenant: options.AnyTenant = None,
    run: Annotated[
        str | None, Option(metavar="RUN", help="This run only: its id, or its request id.")
    ] = None,
    model: Annotated[str | None, Option(help="This model only.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int | None, Option(min=1, help="The maximum number. Default: 50 in a table, all with --json.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the ledger's entries, newest first."""
    output = Output(as_json=as_json)
    run_id = options.find_run_id(run, tenant or "default") if run else None
    most = limit if limit or as_json else _SHOWN_UNASKED
    with open_session().open_ledger() as database:
        entries = list_entries(
            database, tenant=tenant, run_id=run_id, model=model, since=since, until=until, limit=most
        )
    document = {"entries": [entry.model_dump(mode="json") for entry in entries]}
    output.answer(document, _tabulate(entries) if entries else Text("No entries."))
    if not as_json and limit is None and len(entries) == _SHOWN_UNASKED:
        output.say(f"The newest {_SHOWN_UNASKED} entries; --limit shows more, --json all.")


def _tabulate(entries: tuple[EntryView, ...]) -> Table:
    table = make_table("Written (UTC)", "Run", "Model", "Kind", "Amount USD", "Basis", right=("Amount USD",))
    for entry in entries:
        amount = entry.amount_usd or "not known yet"
        basis = f"{entry.basis}, simulated" if entry.simulated else entry.basis
        written = format_moment(entry.created_at)
        table.add_row(written, Text(entry.run_id), Text(entry.model), entry.kind, amount, basis)
        if entry.reason:
            table.add_row("", Text(entry.reason, style="dim"))
    return table


def costs(
    *,
    by: Annotated[Grouping, Option(help="What to sum up by.")] = "tenant",
    tenant: options.AnyTenant = None,
    since: Since = None,
    until: Until = None,
    as_json: options.AsJson = False,
) -> None:
    """Sum up the ledger by tenant, model or day.

    An amount counts for the day on which its entry was written (UTC). Pending runs have no amount yet and are counted separately.
    """
    with open_session().open_ledger() as database:
        rows = costs_by(database, by, tenant=tenant, since=since, until=until)
        totals = total(database, tenant=tenant, since=since, until=until)
    document = {
        "by": by,
        "rows": [row.model_dump(mode="json") for row in rows],
        "totals": totals.model_dump(mode="json"),
    }
    view = _costs_tabulate(by, rows, totals) if rows else Text("No entries.")
    Output(as_json=as_json).answer(document, view)


def _costs_tabulate(by: str, rows: tuple[CostRow, ...], totals: CostTotals) -> Table:
    amounts = ("Charged USD", "Estimated USD", "List USD")
    numbers = ("Runs", "Pictures", *amounts, "Pending")
    table = make_table(by.capitalize(), *numbers, right=numbers)
    for row in rows:
        table.add_row(*_cells(row.key, row))
    table.add_section()
    for row in (totals.real, totals.simulated):
        if row.runs:
            table.add_row(*_cells("total", row), style="bold")
    return table


def _cells(name: str, row: CostRow) -> tuple[Text | str, ...]:
    name = f"{name} (simulated)" if row.simulated else name
    # A list cost that leaves bills out is a lower bound.
    listed = f"{row.list_cost_usd}{'+' if row.list_cost_unknown else ''}"
    counts = f"{row.runs:,}", f"{row.images:,}"
    return Text(name), *counts, row.charged_usd, row.estimated_usd, listed, f"{row.pending:,}"
