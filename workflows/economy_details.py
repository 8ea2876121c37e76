"""The page of an economy batch in Temporal's Web UI, as Markdown. Pure."""

from contracts.economy import EconomyOrder, EconomyProgress

_MOST_PARTS = 50


def describe_economy_opening(order: EconomyOrder) -> str:
    """The batch before its first step, in one line."""
    limit = f", at most {order.max_cost_usd} USD" if order.max_cost_usd else ""
    return f"{order.lines:,} lines in the provider's own batches{limit}"


def describe_economy(progress: EconomyProgress) -> str:
    """Where the batch stands, and each of its parts with the provider's batch."""
    head = f"**{progress.stage}**, round {progress.round}, {progress.refused} lines refused"
    if progress.cancelled:
        head += ", cancelled"
    rows = [
        f"| {each.part.number} | {each.part.model} | {each.part.lines} | {each.status} | {each.completed}"
        f" | {each.failed} | {each.provider_batch_id or ''} |"
        for each in progress.parts[:_MOST_PARTS]
    ]
    if not rows:
        return head
    more = len(progress.parts) - len(rows)
    table = [
        "| part | model | lines | status | completed | failed | provider's batch |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join([head, "", *table, *([f"\nand {more} more"] if more else [])])
