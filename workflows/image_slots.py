"""How a run of several pictures counts as several against the provider's limit, which the server holds per dispatched task.

A run of n pictures takes n - 1 dispatches first, by empty activities, and its call is the n-th. It waits for the first
one in line with everybody; once that has come the rest go ahead of the line, so that no run holds a part of its share
while others begin, and the call follows closely on the dispatches that it has taken.
"""

from temporalio import workflow
from temporalio.common import Priority

with workflow.unsafe.imports_passed_through():
    from contracts import names, priorities
    from workflows import policies


async def take_image_slots(count: int | None) -> Priority:
    """Takes so many dispatches beyond the call's own; returns the call's priority. Without any, nothing happens."""
    if not count:
        return Priority.default
    given = workflow.info().priority
    line = max(given.priority_key or priorities.UNSAID, priorities.INTERACTIVE)
    # The server takes turns between tenants by tasks: this one stands for the whole run, and weighs as much.
    whole_run = (given.fairness_weight or 1.0) / (count + 1)
    ahead = Priority(priority_key=line - 1)
    await _take(1, Priority(priority_key=line, fairness_weight=whole_run), f"1 of {count + 1} images")
    if count > 1:
        await _take(count - 1, ahead, f"{count - 1} more, then the call")
    return ahead


async def _take(count: int, priority: Priority, share: str) -> None:
    await workflow.execute_activity(
        names.TAKE_IMAGE_SLOTS,
        count,
        task_queue=names.PROVIDER_QUEUE,
        start_to_close_timeout=policies.SLOT_ATTEMPT,
        retry_policy=policies.SLOT_RETRY,
        priority=priority,
        summary=f"the provider's limit: {share}",
    )
