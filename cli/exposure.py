"""`exposure`: what may have been paid for nothing. Simulated attempts are never added to real ones."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from typer import Option

from billing.exposure import Exposure, find_exposure
from billing.exposure_rows import ExposureRow, Grouping, sum_exposure, total_exposure
from cli import options
from cli.moments import Since, Until
from cli.output import Output, make_table
from cli.session import open_session


def exposure(
    *,
    by: Annotated[Grouping, Option(help="What to sum up by.")] = "run",
    tenant: options.AnyTenant = None,
    since: Since = None,
    until: Until = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what may have been paid for nothing.

    These are requests whose outcome is unknown, each with the most that it can have cost. Those that may still be answered
    are counted apart. A day is that of the sending (UTC).
    """
    now = datetime.now(UTC)
    with open_session().open_ledger() as database:
        found = find_exposure(database, now, tenant=tenant, since=since, until=until)
    rows, totals = sum_exposure(found.attempts, by), total_exposure(found.attempts)
    document = {
        "by": by,
        "rows": [row.model_dump(mode="json") for row in rows],
        "totals": {name: row.model_dump(mode="json") for name, row in totals.items()},
        **found.model_dump(mode="json"),
    }
    Output(as_json=as_json).answer(document, *_describe(by, rows, totals, found))


def _describe(
    by: str, rows: tuple[ExposureRow, ...], totals: Mapping[str, ExposureRow], found: Exposure
) -> tuple[RenderableType, ...]:
    view: list[RenderableType] = [
        _tabulate(by, rows, totals) if rows else Text("Nothing is known to have been paid for nothing.")
    ]
    if found.in_flight:
        count = len(found.in_flight)
        view.append(
            Text(f"{count} more {'is' if count == 1 else 'are'} in flight and may still be answered.")
        )
    return tuple(view)


def _tabulate(by: str, rows: tuple[ExposureRow, ...], totals: Mapping[str, ExposureRow]) -> Table:
    numbers = ("Requests", "At most USD", "Without a price")
    table = make_table(by.capitalize(), *numbers, right=numbers)
    for row in rows:
        table.add_row(*_cells(row))
    table.add_section()
    for row in totals.values():
        if row.attempts:
            table.add_row(*_cells(row), style="bold")
    return table


def _cells(row: ExposureRow) -> tuple[Text | str, ...]:
    name = f"{row.key} (simulated)" if row.simulated else row.key
    # An amount that leaves requests out is a lower bound of the worst case.
    amount = f"{row.reserved_usd}{'+' if row.unpriced else ''}"
    return Text(name), f"{row.attempts:,}", amount, f"{row.unpriced:,}"
