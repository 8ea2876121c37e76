"""What an operator reads at the top of a batch's page in the Web UI: markdown made from its progress. Pure."""

from contracts.batches import BatchOrder, BatchProgress
from workflows.details import quote

_STATES = {
    "registering": "Registering its lines",
    "running": "Running",
    "paused": "Paused",
    "cancelling": "Being cancelled",
    "done": "Done",
    "stopped": "Stopped by a failure",
    "capped": "Stopped by its limit of cost",
    "cancelled": "Cancelled",
}


def describe_opening(order: BatchOrder) -> str:
    """The batch before its first step, in one line."""
    limit = f", at most {order.max_cost_usd} USD" if order.max_cost_usd else ""
    again = f", round {order.round}" if order.round > 1 else ""
    return f"{order.lines:,} lines, {order.window:,} runs at once{limit}{again}"


def describe_batch(progress: BatchProgress) -> str:
    """The batch in one line (state, lines, cost), the counts that are not zero, and why it ended."""
    limit = f" of {progress.max_cost_usd}" if progress.max_cost_usd else ""
    facts = [
        f"**{_STATES[progress.state]}**",
        f"{progress.done:,} of {progress.lines:,} lines done",
        f"{progress.charged_usd}{limit} USD",
        f"round {progress.round}" if progress.round > 1 else "",
    ]
    counts = {
        "running": progress.running,
        "waiting": progress.waiting,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
        "skipped": progress.skipped,
        "bills pending": progress.pending,
        "requests of unknown outcome": progress.unknown,
    }
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    reason = f"**Reason:** {quote(progress.reason)}" if progress.reason else ""
    runs = f'Its runs: `Batch = "{progress.batch_id}"`'
    return "\n\n".join(filter(None, [" · ".join(filter(None, facts)), told, reason, runs]))
