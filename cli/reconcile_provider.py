"""`reconcile-provider`: a day of the ledger beside the provider's own books, compared by a workflow and kept in the ledger."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from rich.text import Text
from typer import BadParameter, Option

from billing.comparison_log import ComparisonLog
from cli import options
from cli.comparing import await_comparison, schedule_comparisons, start_comparison
from cli.comparison_view import describe_comparison
from cli.failures import RequestRefused
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.session import Session, open_session
from contracts.comparison import ComparisonOrder, ComparisonSummary

_UNEXPLAINED = 1


def parse_day(text: str) -> date:
    """A day. Raises BadParameter where it is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadParameter(f"{text!a} is no day: write 2026-11-22.") from None


def reconcile_provider(
    *,
    day: Annotated[
        date | None, Option(parser=parse_day, metavar="DAY", help="Which day (UTC). Default: yesterday.")
    ] = None,
    project: Annotated[
        str | None, Option(metavar="ID", help="This project only. Default: the worker's OPENAI_PROJECT_ID.")
    ] = None,
    api_key: Annotated[
        str | None, Option(metavar="ID", help="This API key only, by its id (key_...), not the key itself.")
    ] = None,
    schedule: Annotated[
        bool, Option("--schedule", help="Compare each day from now on, at noon (UTC) of the next.")
    ] = False,
    as_json: options.AsJson = False,
) -> int:
    """Compare a day with the provider's own books, once or each day.

    Requests are compared by the minute, money by model and day. Attempts that can explain a difference are listed.

    Every comparison is kept in the ledger. Exit status 1 where a difference stays unexplained.
    """
    session, output = open_session(), Output(as_json=as_json)
    order = ComparisonOrder(day=day, project_id=project, api_key_id=_refuse_secret(api_key))
    if schedule:
        asyncio.run(_schedule(order, session, output))
        return 0
    summary = asyncio.run(_compare(_choose_day(day, output), order, session, output))
    with session.open_ledger() as database:
        recorded = ComparisonLog(database).read(summary.comparison_id)
    output.answer(recorded.model_dump(mode="json"), *describe_comparison(recorded))
    return _UNEXPLAINED if summary.verdict == "unexplained" else 0


def _choose_day(day: date | None, output: Output) -> date:
    today = datetime.now(UTC).date()
    if day and day > today:
        raise RequestRefused(f"{day} has not begun yet: there is nothing to compare.")
    if day == today:
        output.warn(
            "The day is not over: what is under way now may differ. The provider may count late, too."
        )
    return day or today - timedelta(days=1)


async def _compare(day: date, order: ComparisonOrder, session: Session, output: Output) -> ComparisonSummary:
    client = await connect_to_own_workers(session, output)
    return await await_comparison(client, await start_comparison(client, day, order), output)


async def _schedule(order: ComparisonOrder, session: Session, output: Output) -> None:
    if order.day:
        raise RequestRefused("--schedule compares the day before, each day: leave --day out.")
    scheduled = await schedule_comparisons(await connect_to_own_workers(session, output), order)
    first = scheduled.next_at.isoformat() if scheduled.next_at else None
    document = {"status": "scheduled", "schedule_id": scheduled.schedule_id, "next_at": first}
    changed = "exists already and was updated" if scheduled.existed else "is made"
    output.answer(
        document,
        Text(f"The schedule {scheduled.schedule_id} {changed}: each day at noon (UTC) the day before."),
    )


def _refuse_secret(api_key: str | None) -> str | None:
    """An id, but never a key: it would be kept in Temporal's history and in the ledger."""
    if api_key and api_key.startswith("sk-"):
        raise RequestRefused(
            "--api-key takes the id of a key (key_..., on the page of the project's keys), never the key itself."
        )
    return api_key
