"""Formats batches for a person: one in lines, many in a table, the parts of an economy batch."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from rich.table import Table
from rich.text import Text
from temporalio.client import Client

from cli.dates import format_moment
from cli.output import Output, make_table
from cli.runs.view import describe_lines
from cli.session import Session
from gpt_image_runs.client.batches import query_economy
from gpt_image_runs.client.errors import ClientError, TemporalUnavailable
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.economy import PartProgress

_SIGNS = {"done": "✓", "stopped": "✗", "capped": "!", "cancelled": "✗", "paused": "!"}
_STYLES = {"✓": "bold green", "✗": "bold red", "!": "bold yellow"}


def describe_progress(progress: BatchProgress, link: str | None = None) -> Text:
    """Format a batch: its state, lines, cost, and the next command."""
    sign = _SIGNS.get(progress.state, "")
    if progress.state == "done" and progress.failed + progress.cancelled + (progress.without_picture or 0):
        sign = "!"
    limit = f" of at most {progress.max_cost_usd}" if progress.max_cost_usd else ""
    rows = [
        ("lines", format_counts(progress)),
        ("price", "half, in the provider's own batches" if progress.economy else ""),
        ("pictures", f"{progress.images:,}"),
        ("no picture", _describe_without_picture(progress)),
        ("charged", f"{progress.charged_usd}{limit} USD"),
        ("reserved", f"{progress.reserved_usd} USD" if progress.running else ""),
        ("pending", f"{progress.pending:,} bills have no amount yet" if progress.pending else ""),
        ("unknown", _describe_unknown(progress)),
        ("round", f"{progress.round}" if progress.round > 1 else ""),
        ("reason", progress.reason or ""),
        ("next", suggest_next(progress)),
        ("Web UI", link or ""),
    ]
    return describe_lines(
        f"{sign} {progress.batch_id} {progress.state}".strip(), rows, style=_STYLES.get(sign, "bold")
    )


def format_counts(progress: BatchProgress) -> str:
    """Format the number of lines in total and in each state that has any."""
    counts = ("done", "running", "failed", "cancelled", "waiting", "skipped")
    counted = ", ".join(f"{getattr(progress, name):,} {name}" for name in counts if getattr(progress, name))
    return f"{progress.lines:,}: {counted}" if counted else f"{progress.lines:,}"


def suggest_next(progress: BatchProgress) -> str:
    """Return the command that the user most likely wants next."""
    command = f"python starter.py batch {{}} {progress.batch_id}"
    if progress.state == "paused":
        return command.format("resume")
    if not progress.has_ended:
        return command.format("watch")
    if progress.state == "capped":
        return command.format("retry") + " --max-cost USD"
    if progress.waiting or progress.failed or progress.cancelled:
        return command.format("retry")
    return command.format("results")


def tabulate_batches(batches: Sequence[BatchProgress]) -> Table:
    """Build a table of batches, one per row."""
    numbers = ("Lines", "Done", "Failed", "Left", "Charged USD")
    table = make_table("Batch", "State", *numbers, "Since (UTC)", right=numbers)
    for batch in batches:
        counts = (batch.lines, batch.done, batch.failed, batch.waiting + batch.running)
        amounts = (*(f"{count:,}" for count in counts), batch.charged_usd)
        table.add_row(Text(batch.batch_id), batch.state, *amounts, format_moment(batch.created_at))
    return table


def get_exit_status(progress: BatchProgress) -> int:
    """Return the exit status of a batch that has ended: 0 if all its lines are done, else 1."""
    all_done = progress.state == "done" and not progress.failed and not progress.cancelled
    return 0 if all_done else 1


def _describe_without_picture(progress: BatchProgress) -> str:
    if not progress.without_picture:
        return ""
    lines = (
        "1 done line was"
        if progress.without_picture == 1
        else f"{progress.without_picture:,} done lines were"
    )
    return f"{lines} billed without a picture; `python starter.py batch results {progress.batch_id}` says why"


def _describe_unknown(progress: BatchProgress) -> str:
    if not progress.unknown:
        return ""
    requests = "1 request was" if progress.unknown == 1 else f"{progress.unknown:,} requests were"
    return f"{requests} sent whose answer was lost, and may have been charged (`python starter.py exposure`)"


_QUERY_PATIENCE = timedelta(seconds=3)
_LOOK_SECONDS = 5.0
_MAX_SHOWN = 50


async def find_parts(client: Client, batch_id: str) -> tuple[PartProgress, ...]:
    """Find the parts of the current round, none if the workflow does not answer."""
    with suppress(ClientError):
        return (await query_economy(client, batch_id, _QUERY_PATIENCE)).parts
    return ()


async def find_parts_of(progress: BatchProgress, session: Session) -> tuple[PartProgress, ...]:
    """Find the parts of a batch, none if it has ended or runs at the standard price."""
    if not progress.economy or progress.has_ended:
        return ()
    with suppress(TemporalUnavailable):
        return await find_parts(await session.connect(), progress.batch_id)
    return ()


def format_parts(parts: Sequence[PartProgress]) -> list[Text]:
    """Format the parts, one per line."""
    more = [Text(f"and {len(parts) - _MAX_SHOWN:,} more parts")] if len(parts) > _MAX_SHOWN else []
    return [*(Text(_format_part(each)) for each in parts[:_MAX_SHOWN]), *more]


class PartsReporter:
    """Reports changes of the parts of one batch, every few seconds."""

    def __init__(self, client: Client, batch_id: str, output: Output) -> None:
        self._client = client
        self._batch_id = batch_id
        self._output = output
        self._reported: dict[int, str] = {}
        self._next_at = 0.0

    async def report_changes(self) -> None:
        """Ask the workflow if it is time, and report the parts that have changed."""
        if time.monotonic() < self._next_at:
            return
        for each in await find_parts(self._client, self._batch_id):
            text = _format_part(each)
            if each.part.number < _MAX_SHOWN and self._reported.get(each.part.number) != text:
                self._reported[each.part.number] = text
                self._output.say(text)
        self._next_at = time.monotonic() + _LOOK_SECONDS


def _format_part(each: PartProgress) -> str:
    there = f", {each.completed:,} done and {each.failed:,} failed there" if each.provider_batch_id else ""
    name = f" ({each.provider_batch_id})" if each.provider_batch_id else ""
    return f"part {each.part.number}: {each.part.lines:,} lines for {each.part.model}, {each.status}{there}{name}"
