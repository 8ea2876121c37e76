"""How batches look to a person: one in lines, many in a table."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from cli.moments import format_moment
from cli.output import make_table
from cli.run_view import describe_lines
from contracts.batches import BatchProgress

_SIGNS = {"done": "✓", "stopped": "✗", "capped": "!", "cancelled": "✗", "paused": "!"}
_STYLES = {"✓": "bold green", "✗": "bold red", "!": "bold yellow"}


def describe_progress(progress: BatchProgress, link: str | None = None) -> Text:
    """A batch: its state, its lines, its cost, and what to do next."""
    sign = _SIGNS.get(progress.state, "")
    if progress.state == "done" and progress.failed + progress.cancelled:
        sign = "!"
    limit = f" of at most {progress.max_cost_usd}" if progress.max_cost_usd else ""
    rows = [
        ("lines", describe_counts(progress)),
        ("price", "half, in the provider's own batches" if progress.economy else ""),
        ("pictures", f"{progress.images:,}"),
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


def describe_counts(progress: BatchProgress) -> str:
    """The lines by their state, those states alone that have any."""
    counts = ("done", "running", "failed", "cancelled", "waiting", "skipped")
    told = ", ".join(f"{getattr(progress, name):,} {name}" for name in counts if getattr(progress, name))
    return f"{progress.lines:,}: {told}" if told else f"{progress.lines:,}"


def suggest_next(progress: BatchProgress) -> str:
    """The command that most people want next."""
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
    """Batches, a row each."""
    numbers = ("Lines", "Done", "Failed", "Left", "Charged USD")
    table = make_table("Batch", "State", *numbers, "Since (UTC)", right=numbers)
    for batch in batches:
        counts = (batch.lines, batch.done, batch.failed, batch.waiting + batch.running)
        amounts = (*(f"{count:,}" for count in counts), batch.charged_usd)
        table.add_row(Text(batch.batch_id), batch.state, *amounts, format_moment(batch.created_at))
    return table


def find_status(progress: BatchProgress) -> int:
    """The exit status of a batch that has ended: 0 where all its lines are done, else 1."""
    all_done = progress.state == "done" and not progress.failed and not progress.cancelled
    return 0 if all_done else 1


def _describe_unknown(progress: BatchProgress) -> str:
    if not progress.unknown:
        return ""
    requests = "1 request was" if progress.unknown == 1 else f"{progress.unknown:,} requests were"
    return f"{requests} sent whose answer was lost: perhaps paid for nothing (`python starter.py exposure`)"
