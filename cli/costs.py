"""`costs`: sums of the ledger. Simulated runs are never added to real ones."""

from typing import Annotated

from rich.table import Table
from rich.text import Text
from typer import Option

from billing.report_rows import CostRow, CostTotals
from billing.reports import Grouping, costs_by, total
from cli import options
from cli.moments import Since, Until
from cli.output import Output, make_table
from cli.session import open_session


def costs(
    *,
    by: Annotated[Grouping, Option(help="What to sum up by.")] = "tenant",
    tenant: options.AnyTenant = None,
    since: Since = None,
    until: Until = None,
    as_json: options.AsJson = False,
) -> None:
    """Sum up the ledger by tenant, model or day.

    An amount belongs to the day on which its entry was written (UTC). What is pending has no amount yet and is counted.
    """
    with open_session().open_ledger() as database:
        rows = costs_by(database, by, tenant=tenant, since=since, until=until)
        totals = total(database, tenant=tenant, since=since, until=until)
    document = {
        "by": by,
        "rows": [row.model_dump(mode="json") for row in rows],
        "totals": totals.model_dump(mode="json"),
    }
    view = _tabulate(by, rows, totals) if rows else Text("No entries.")
    Output(as_json=as_json).answer(document, view)


def _tabulate(by: str, rows: tuple[CostRow, ...], totals: CostTotals) -> Table:
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
