"""The commands `batch watch`, `status` and `list`. Progress is read from the database.

It is shown as a bar on a terminal, else as a line every few seconds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from temporalio.client import Client
from temporalio.service import RPCError
from typer import Option

from cli import options
from cli.batches.start import BatchId, find_batch, require_batch
from cli.batches.view import (
    PartsReporter,
    describe_progress,
    find_parts_of,
    format_counts,
    format_parts,
    get_exit_status,
    tabulate_batches,
)
from cli.errors import INTERRUPTED, CommandFailed
from cli.output import Output
from cli.runs.follow import warn_without_worker
from cli.session import Session, open_session
from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.client.batches import find_workflow_id, is_under_way
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.money import format_usd, parse_usd

_LATELY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a batch. `forecast_usd` is its total cost if each open line costs the average so far."""

    images_per_minute: float | None
    seconds_left: float | None
    forecast_usd: str | None


class PaceMeter:
    """Measures the speed of one batch over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, progress: BatchProgress, now: float) -> Pace:
        """Add the progress at `now`, in seconds of a monotonic clock, and return the speed."""
        ended = progress.done + progress.failed + progress.cancelled
        self._seen.append((now, progress.images, ended))
        while now - self._seen[0][0] > _LATELY_SECONDS:
            self._seen.popleft()
        since, images, lines = self._seen[0]
        left = progress.waiting + progress.running
        seconds = now - since
        pace = (ended - lines) / seconds if seconds else 0
        return Pace(
            images_per_minute=(progress.images - images) / seconds * 60 if seconds else None,
            seconds_left=left / pace if pace > 0 else None,
            forecast_usd=_forecast(progress, left),
        )


def _forecast(progress: BatchProgress, left: int) -> str | None:
    if not progress.done:
        return None
    charged = parse_usd(progress.charged_usd)
    return format_usd(charged + charged * left // progress.done)


_LOOK_SECONDS = 1.0
_SAY_SECONDS = 5.0
_DOUBT_SECONDS = 10.0


class ProgressReporter(Protocol):
    """Shows the progress of a batch to a person."""

    def __call__(self, progress: BatchProgress, pace: Pace) -> None:
        """Show the progress."""


class WatchInterrupted(CommandFailed):
    """Ctrl-C while a batch was watched. The batch goes on."""

    status = "running"

    def __init__(self, batch_id: str) -> None:
        command = f"python starter.py batch {{}} {batch_id}"
        super().__init__(
            f"The batch goes on. Attach to it again: {command.format('watch')}\n"
            f"To end it: {command.format('cancel')}",
            exit_status=INTERRUPTED,
            batch_id=batch_id,
        )


async def watch_batch(
    batch_id: str, session: Session, client: Client, output: Output, *, economy: bool = False
) -> BatchProgress:
    """Wait for a batch to end, and show its progress and its parts meanwhile.

    Raises:
        WatchInterrupted: Ctrl-C. The batch goes on.
        CommandFailed: its workflow has ended early.
    """
    try:
        with _open_reporter(output, batch_id) as report:
            parts = PartsReporter(client, batch_id, output) if economy else None
            return await _watch(batch_id, session, client, output, report, parts=parts)
    except asyncio.CancelledError:
        raise WatchInterrupted(batch_id) from None


async def _watch(
    batch_id: str,
    session: Session,
    client: Client,
    output: Output,
    report: ProgressReporter,
    *,
    parts: PartsReporter | None,
) -> BatchProgress:
    workflow_id = find_workflow_id(batch_id, economy=parts is not None)
    meter, warned = PaceMeter(), set[str]()
    doubt_at = time.monotonic() + _LOOK_SECONDS
    while True:
        progress = await asyncio.to_thread(find_batch, session, batch_id)
        now = time.monotonic()
        if progress:
            report(progress, meter.add(progress, now))
            # A workflow that continues a batch changes its state with the first step only.
            if progress.has_ended and not await _is_workflow_running(client, workflow_id):
                return await asyncio.to_thread(_read_again, session, batch_id, progress)
        if now >= doubt_at:
            doubt_at = now + _DOUBT_SECONDS
            with suppress(RPCError):
                await warn_without_worker(client, output, warned)
                await _warn_of_held_runs(batch_id, client, output, warned)
            await _check_workflow(batch_id, workflow_id, session, client)
        if parts:
            await parts.report_changes()
        await asyncio.sleep(_LOOK_SECONDS)


def _read_again(session: Session, batch_id: str, progress: BatchProgress) -> BatchProgress:
    return find_batch(session, batch_id) or progress


async def _is_workflow_running(client: Client, workflow_id: str) -> bool:
    try:
        return await is_under_way(client, workflow_id)
    except RPCError:
        return False  # the database says that it has ended


async def _warn_of_held_runs(batch_id: str, client: Client, output: Output, warned: set[str]) -> None:
    """Warn of runs that wait for a decision, again when their number changes."""
    query = f'{names.BATCH_ID.name} = "{batch_id}" AND {names.WAITS_FOR.name} = "{names.DECISION}"'
    held = (await client.count_workflows(query)).count
    warning = f"Runs that are held: {held:,}. The batch waits for `python starter.py decide`; in the Web UI: {query}"
    if held and warning not in warned:
        warned.add(warning)
        output.warn(warning)


async def _check_workflow(batch_id: str, workflow_id: str, session: Session, client: Client) -> None:
    """Check that the batch's workflow runs: one that was terminated leaves its batch as it was."""
    try:
        if await is_under_way(client, workflow_id):
            return
    except RPCError:
        return
    progress = await asyncio.to_thread(find_batch, session, batch_id)
    if progress is None or not progress.has_ended:
        raise CommandFailed(
            f"The batch {batch_id} is not running: its workflow has ended early, and the Web UI says why."
            " Runs that were started go on. Run the same file again to go on with the rest.",
            batch_id=batch_id,
        )


@contextmanager
def _open_reporter(output: Output, batch_id: str) -> Iterator[ProgressReporter]:
    if not output.talk.is_terminal:
        yield _report_in_lines(output)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=output.talk, transient=True) as bar:
        task = bar.add_task(batch_id, total=None, figures="")

        def report(progress: BatchProgress, pace: Pace) -> None:
            ended = progress.done + progress.failed + progress.cancelled + progress.skipped
            bar.update(
                task,
                completed=ended,
                total=progress.lines,
                description=f"{batch_id} {progress.state}",
                figures=_format_figures(progress, pace),
            )

        yield report


def _report_in_lines(output: Output) -> ProgressReporter:
    said, at = "", 0.0

    def report(progress: BatchProgress, pace: Pace) -> None:
        nonlocal said, at
        state = f"{progress.state}: {format_counts(progress)}"
        if state != said and (time.monotonic() - at >= _SAY_SECONDS or progress.has_ended):
            said, at = state, time.monotonic()
            output.say(f"{progress.batch_id} {progress.state}, {_format_figures(progress, pace)}")

    return report


def _format_figures(progress: BatchProgress, pace: Pace) -> str:
    """Format the current figures on one line."""
    limit = f" of {_round_usd(progress.max_cost_usd)}" if progress.max_cost_usd else ""
    parts = [
        f"{progress.done:,} done",
        f"{progress.running:,} running",
        f"{progress.failed:,} failed" if progress.failed else "",
        f"{progress.waiting:,} left",
        f"{pace.images_per_minute:,.0f} images/min" if pace.images_per_minute is not None else "",
        f"{_round_usd(progress.charged_usd)}{limit} USD",
        f"forecast {_round_usd(pace.forecast_usd)}" if pace.forecast_usd else "",
        f"ETA {timedelta(seconds=round(pace.seconds_left))}" if pace.seconds_left is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _round_usd(usd: str) -> str:
    """Shorten an amount to cents for display, unless it is below one cent."""
    return usd[:-4] if usd[:-4] != "0.00" else usd


def status(*, batch_id: BatchId, as_json: options.AsJson = False) -> None:
    """Show a batch as it is now."""
    session = open_session()
    progress = require_batch(session, batch_id)
    parts = asyncio.run(find_parts_of(progress, session))
    document = progress.model_dump(mode="json")
    if parts:
        document |= {"parts": [each.model_dump(mode="json") for each in parts]}
    Output(as_json=as_json).answer(document, describe_progress(progress), *format_parts(parts))


def watch(*, batch_id: BatchId, as_json: options.AsJson = False) -> int:
    """Watch a batch until it ends.

    Exit status 0 where all its lines are done. Ctrl-C leaves it running.
    """
    session, output = open_session(), Output(as_json=as_json)
    known = require_batch(session, batch_id)
    return asyncio.run(_watch_known(known, session, output))


def list_batches(
    *,
    limit: Annotated[int | None, Option(min=1, help="At most so many.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List all batches, the newest first."""
    with open_session().open_ledger() as database:
        batches = Batches(database).list(limit=limit)
    document = {"batches": [batch.model_dump(mode="json") for batch in batches]}
    Output(as_json=as_json).answer(
        document, tabulate_batches(batches) if batches else Text("There is no batch.")
    )


async def _watch_known(known: BatchProgress, session: Session, output: Output) -> int:
    client = await session.connect()
    progress = await watch_batch(known.batch_id, session, client, output, economy=known.economy)
    output.answer(progress.model_dump(mode="json"), describe_progress(progress))
    return get_exit_status(progress)
