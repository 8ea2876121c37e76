"""`pending` and `exposure`: runs without a final bill, and requests with an unknown outcome."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from typer import Option

from cli import options
from cli.dates import Since, Until, format_moment
from cli.output import Output, make_table
from cli.session import open_session
from gpt_image_runs.billing.attempts.exposure import (
    Exposure,
    ExposureRow,
    Grouping,
    find_exposure,
    sum_exposure,
    total_exposure,
)
from gpt_image_runs.billing.ledger.queries import (
    Unbilled,
    UnbilledAttempt,
    WaitingRun,
    find_unbilled,
    list_waiting,
)


def pending(
    *,
    tenant: options.AnyTenant = None,
    estimates: Annotated[
        bool, Option("--estimates", help="Also list runs that are billed by an estimate.")
    ] = False,
    limit: Annotated[int | None, Option(min=1, help="The maximum number of runs with an entry.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the runs whose bill is not final, oldest first.

    If a run's usage is stored and only its price is missing, `reprice` bills it. All others need `reconcile`.

    Paid requests without an entry are listed too: their runs ended before they were billed. Submit such a run again under its
    id: it is billed, and nothing is bought. Requests of the last five minutes may still be billed and are counted separately.
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
        yield Text("Paid, but without an entry:", style="bold")
        yield _tabulate_unbilled(unbilled.attempts)
    if not waiting and not unbilled.attempts:
        yield Text("No bills are waiting.")
    if unbilled.in_flight:
        count = len(unbilled.in_flight)
        yield Text(
            f"{count} more {'was' if count == 1 else 'were'} just paid and will probably be billed soon."
        )


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
            f"nothing: the run is billed by another request, {attempt.billed_by}"
            if attempt.billed_by
            else "submit the run again: it is billed, and nothing is bought"
        )
        model = f"{attempt.model}, simulated" if attempt.simulated else attempt.model
        most = attempt.reserved_usd or "not known"
        table.add_row(format_moment(attempt.finished_at), Text(attempt.run_id), Text(model), most, what)
    return table


def exposure(
    *,
    by: Annotated[Grouping, Option(help="What to sum up by.")] = "run",
    tenant: options.AnyTenant = None,
    since: Since = None,
    until: Until = None,
    as_json: options.AsJson = False,
) -> None:
    """List requests that may have been charged without returning an image.

    These are requests with an unknown outcome, each with the maximum that it can have cost. Those that may still be answered are
    counted separately. Days are those on which the request was sent (UTC).
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
    Output(as_json=as_json).answer(document, *_exposure_describe(by, rows, totals, found))


def _exposure_describe(
    by: str, rows: tuple[ExposureRow, ...], totals: Mapping[str, ExposureRow], found: Exposure
) -> tuple[RenderableType, ...]:
    view: list[RenderableType] = [
        _build_exposure_table(by, rows, totals) if rows else Text("No requests with an unknown outcome.")
    ]
    if found.in_flight:
        count = len(found.in_flight)
        view.append(
            Text(f"{count} more {'is' if count == 1 else 'are'} in flight and may still be answered.")
        )
    return tuple(view)


def _build_exposure_table(by: str, rows: tuple[ExposureRow, ...], totals: Mapping[str, ExposureRow]) -> Table:
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
