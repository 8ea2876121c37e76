"""`reconcile-provider`: compare a day of the ledger with the provider's own books, by a workflow."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from typer import BadParameter, Option

from cli import options
from cli.dates import format_moment
from cli.errors import INTERRUPTED, CommandFailed, RequestRefused
from cli.output import Output, make_table
from cli.own_workers import connect_to_own_workers
from cli.session import Session, open_session
from gpt_image_runs.billing.reconciliation.history import ComparisonLog
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.contracts.provider_reconciliation import (
    Comparison,
    ComparisonOrder,
    ComparisonSummary,
    Doubt,
    DoubtfulAttempt,
    ModelComparison,
    RecordedComparison,
    Verdict,
    WindowDifference,
)
from gpt_image_runs.temporal.connection import has_pollers

SCHEDULE_ID = "provider-reconciliation"
_NOON = 12
_LOOK_SECONDS = 2.0

ComparisonHandle = WorkflowHandle[Any, ComparisonSummary]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The state of the schedule."""

    schedule_id: str
    existed: bool
    next_at: datetime | None


async def start_comparison(client: Client, day: date, order: ComparisonOrder) -> ComparisonHandle:
    """Start the comparison of a day, or attach to the one that is running. `order` has the filters."""
    return await client.start_workflow(
        names.PROVIDER_RECONCILIATION,
        order.model_copy(update={"day": day}),
        id=names.provider_reconciliation_id(day),
        task_queue=names.RUNS_QUEUE,
        result_type=ComparisonSummary,
        # The provider may count late: a day may be compared again, and each comparison is kept.
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        static_summary=f"{day} beside the provider's books",
    )


async def await_comparison(client: Client, handle: ComparisonHandle, output: Output) -> ComparisonSummary:
    """Wait for a comparison, and warn of what delays it.

    Raises:
        CommandFailed: it failed, or waiting was interrupted and it continues.
    """
    result = asyncio.ensure_future(handle.result())
    told: set[str] = set()
    try:
        while not (await asyncio.wait({result}, timeout=_LOOK_SECONDS))[0]:
            for sentence in await _find_obstacles(client, handle):
                if sentence not in told:
                    told.add(sentence)
                    output.warn(sentence)
        return await result
    except WorkflowFailureError as error:
        cause = error.cause
        message = cause.message if isinstance(cause, ApplicationError) else str(cause)
        raise CommandFailed(message, workflow_id=handle.id) from error
    except asyncio.CancelledError:
        raise CommandFailed(
            "The comparison continues. Run the same command to attach to it again.", exit_status=INTERRUPTED
        ) from None
    finally:
        result.cancel()


async def schedule_comparisons(client: Client, order: ComparisonOrder) -> Scheduled:
    """Schedule the comparison of each day for noon (UTC) of the next day. Missed days are made up for."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.PROVIDER_RECONCILIATION,
            order,
            id=SCHEDULE_ID,
            task_queue=names.RUNS_QUEUE,
            static_summary="the day before beside the provider's books",
        ),
        spec=ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(_NOON)])]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ALL),
    )
    existed = False
    try:
        handle = await client.create_schedule(SCHEDULE_ID, schedule)
    except ScheduleAlreadyRunningError:
        existed = True
        handle = client.get_schedule_handle(SCHEDULE_ID)
        await handle.update(lambda _: ScheduleUpdate(schedule=schedule))
    described = await handle.describe()
    return Scheduled(SCHEDULE_ID, existed, next(iter(described.info.next_action_times), None))


async def _find_obstacles(client: Client, handle: ComparisonHandle) -> list[str]:
    if not await has_pollers(client, (names.RUNS_QUEUE,)):
        return ["No worker is polling. Start one with `make up` or `python worker.py`."]
    pending = (await handle.describe()).raw_description.pending_activities
    return [
        f"{activity.last_failure.message} It is retried."
        for activity in pending
        if activity.HasField("last_failure")
    ]


_MAX_SHOWN = 20
_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "equal": ("✓ The ledger and the provider's books agree", "bold green"),
    "explained": (
        "! The ledger and the provider's books differ; the requests below explain the difference",
        "bold yellow",
    ),
    "unexplained": (
        "✗ The ledger and the provider's books differ, and not all of the difference is explained",
        "bold red",
    ),
}
_DOUBTS: dict[Doubt, str] = {
    "paid_for_nothing": "counted by the provider: charged without an image",
    "perhaps_paid": "the provider counts some like it: may be charged without an image",
    "probably_not_paid": "not counted by the provider: probably not charged",
    "no_entry": "succeeded, but has no ledger entry yet",
    "no_list_cost": "its entry has no list cost: its usage or its price is not known yet",
    "inexact_list_cost": "its usage was missing or incomplete: the list cost is an estimate",
    "across_midnight": "sent or answered close to midnight: may be billed on the other day",
}


def describe_comparison(recorded: RecordedComparison) -> Iterable[RenderableType]:
    """Format the verdict, the models, and everything that needs attention."""
    comparison = recorded.comparison
    sentence, style = _VERDICTS[comparison.verdict]
    yield Text(f"{sentence} ({_describe_scope(comparison)})", style=style)
    if comparison.models:
        yield _tabulate_models(comparison.models)
    else:
        yield Text("No requests on either side.")
    for window in comparison.windows[:_MAX_SHOWN]:
        yield Text(f"- {_describe_window(window)}")
    for model in comparison.models:
        if not _is_expected(model):
            yield Text(f"- {_describe_money(model)}")
    if comparison.doubts:
        yield _tabulate_doubts(comparison.doubts[:_MAX_SHOWN])
    cut = max(0, len(comparison.windows) - _MAX_SHOWN) + max(0, len(comparison.doubts) - _MAX_SHOWN)
    if cut:
        yield Text(f"{cut:,} more; --json shows all.")
    if comparison.other_lines:
        yield Text(
            f"{len(comparison.other_lines):,} lines of the provider's costs are for other models and are not compared.",
            style="dim",
        )
    yield Text(f"Recorded in the ledger as {recorded.comparison_id}.", style="dim")


def _describe_scope(comparison: Comparison) -> str:
    narrowed = [part for part in (comparison.project_id, comparison.api_key_id) if part]
    return ", ".join([comparison.day.isoformat(), comparison.provider, *narrowed])


def _tabulate_models(models: Sequence[ModelComparison]) -> Table:
    numbers = ("Ours", "Provider", "Difference")
    table = make_table("", "Model", "", *numbers, right=numbers, whole=("Model",))
    for each in models:
        sentence, style = _VERDICTS[each.verdict]
        ours = f"{each.requests:,}" + (f" + {each.unknown:,} unknown" if each.unknown else "")
        difference = f"{each.provider_requests - each.requests:,}"
        sign = Text(sentence[0], style=style)
        table.add_row(sign, Text(each.model), "requests", ours, f"{each.provider_requests:,}", difference)
        table.add_row("", "", "USD", each.list_cost_usd, each.provider_cost_usd, each.difference_usd)
    return table


def _describe_window(window: WindowDifference) -> str:
    when = f"{window.model}, {format_moment(window.since)} to {format_moment(window.until)} (UTC)"
    if window.surplus < 0:
        return (
            f"{when}: {window.requests:,} answered, {window.provider_requests:,} counted by the provider."
            " It may count late: compare again later."
        )
    refused = f" It rejected {window.rejected:,} in that time." if window.rejected else ""
    return (
        f"{when}: the provider counts {window.surplus:,} more requests than were sent from here.{refused}"
        " Somebody else may use the project or the key. Narrow it down with --project or --api-key."
    )


def _is_expected(model: ModelComparison) -> bool:
    charged, most = parse_usd(model.provider_cost_usd), model.expected_to_usd
    return parse_usd(model.expected_from_usd) <= charged and (most is None or charged <= parse_usd(most))


def _describe_money(model: ModelComparison) -> str:
    most = model.expected_to_usd or "an amount that is not known"
    return (
        f"{model.model}: the provider is expected to charge {model.expected_from_usd} to {most} USD;"
        f" it charged {model.provider_cost_usd}."
    )


def _tabulate_doubts(doubts: Sequence[DoubtfulAttempt]) -> Table:
    table = make_table("Sent (UTC)", "What is known", "At most USD", right=("At most USD",))
    for each in doubts:
        known = Text(_DOUBTS[each.doubt])
        known.append(f"\n{each.run_id}\n{each.attempt_id}", style="dim")
        table.add_row(format_moment(each.sent_at), known, each.reserved_usd or "not known")
    return table


_UNEXPLAINED = 1


def parse_day(text: str) -> date:
    """Parse a day. Raises BadParameter if it is not one."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadParameter(f"{text!a} is not a valid day. Use YYYY-MM-DD, for example 2026-11-22.") from None


def reconcile_provider(
    *,
    day: Annotated[
        date | None, Option(parser=parse_day, metavar="DAY", help="The day (UTC). Default: yesterday.")
    ] = None,
    project: Annotated[
        str | None, Option(metavar="ID", help="This project only. Default: the worker's OPENAI_PROJECT_ID.")
    ] = None,
    api_key: Annotated[
        str | None, Option(metavar="ID", help="This API key only, by its id (key_...), not the key itself.")
    ] = None,
    schedule: Annotated[
        bool, Option("--schedule", help="Compare every day from now on, at noon (UTC) of the next day.")
    ] = False,
    as_json: options.AsJson = False,
) -> int:
    """Compare a day with the provider's own books, once or every day.

    Requests are compared by the minute, money by model and day. Requests that may explain a difference are listed.

    Every comparison is recorded in the ledger. Exit status 1 if a difference is not explained.
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
        raise RequestRefused(f"{day} is in the future, so there is nothing to compare.")
    if day == today:
        output.warn(
            "The day is not over, so requests in progress may differ. The provider may also count late."
        )
    return day or today - timedelta(days=1)


async def _compare(day: date, order: ComparisonOrder, session: Session, output: Output) -> ComparisonSummary:
    client = await connect_to_own_workers(session, output)
    return await await_comparison(client, await start_comparison(client, day, order), output)


async def _schedule(order: ComparisonOrder, session: Session, output: Output) -> None:
    if order.day:
        raise RequestRefused("--schedule compares the previous day, every day: leave out --day.")
    scheduled = await schedule_comparisons(await connect_to_own_workers(session, output), order)
    first = scheduled.next_at.isoformat() if scheduled.next_at else None
    document = {"status": "scheduled", "schedule_id": scheduled.schedule_id, "next_at": first}
    changed = "was updated" if scheduled.existed else "was created"
    output.answer(
        document,
        Text(
            f"The schedule {scheduled.schedule_id} {changed}: it compares the previous day, every day at noon (UTC)."
        ),
    )


def _refuse_secret(api_key: str | None) -> str | None:
    """Return a key's id, but refuse the key itself: it would be stored in Temporal's history and in the ledger."""
    if api_key and api_key.startswith("sk-"):
        raise RequestRefused(
            "--api-key takes the id of a key (key_..., on the page of the project's keys), never the key itself."
        )
    return api_key
