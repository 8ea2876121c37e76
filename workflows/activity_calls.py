"""Call activities from workflows: local first for billing steps, and shielded from cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts import names as priorities
    from gpt_image_runs.contracts.base import Contract
    from gpt_image_runs.contracts.calls import Admission, CheckInput
    from workflows import retry_policies as policies

ContractT = TypeVar("ContractT", bound=Contract)


async def run_billing_activity(
    name: str,
    argument: Contract,
    result_type: type[ContractT],
    *,
    summary: str,
    on_retry: Callable[[FailureError], None] | None = None,
) -> ContractT:
    """Return the result of the activity `name`, however long it takes.

    It is tried once as a local activity, within the current workflow task. If that fails, for example because the ledger
    is unavailable, it is scheduled as a regular activity, whose last failure everyone sees. `on_retry` is called with
    the first failure.
    """
    result: ContractT
    try:
        result = await workflow.execute_local_activity(
            name,
            argument,
            result_type=result_type,
            start_to_close_timeout=policies.LOCAL_MONEY_ATTEMPT,
            retry_policy=policies.LOCAL_MONEY_RETRY,
            summary=summary,
        )
    except FailureError as error:
        # Not only ActivityError, which a timeout is: an error raised by a local activity arrives unwrapped.
        workflow.logger.info(
            "local_activity_failed", extra={"activity": name, "error": str(error.cause or error)}
        )
        if on_retry is not None:
            on_retry(error)
    else:
        return result
    result = await workflow.execute_activity(
        name,
        argument,
        result_type=result_type,
        start_to_close_timeout=policies.MONEY_ATTEMPT,
        retry_policy=policies.MONEY_RETRY,
        summary=summary,
    )
    return result


async def check_payload(payload: Any, workflow_id: str) -> Admission:
    """Check a payload of unknown origin. Return all its problems, or what the run needs to go on."""
    admission: Admission = await workflow.execute_local_activity(
        names.CHECK_REQUEST,
        CheckInput(payload=payload, workflow_id=workflow_id),
        result_type=Admission,
        start_to_close_timeout=policies.CHECK_ATTEMPT,
        retry_policy=policies.CHECK_RETRY,
    )
    return admission


async def take_image_slots(count: int | None) -> Priority:
    """Take `count` dispatches of the rate limit beyond the call's own. Return the call's priority."""
    if not count:
        return Priority.default
    given = workflow.info().priority
    line = max(given.priority_key or priorities.PRIORITY_UNSAID, priorities.PRIORITY_INTERACTIVE)
    # The server distributes tasks fairly between tenants: this task counts as much as the whole run.
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


T = TypeVar("T")


async def run_shielded(work: Coroutine[Any, Any, T], on_cancel: Callable[[], None] | None = None) -> T:
    """Run `work` to completion even if the workflow is cancelled, which then completes with its result.

    `on_cancel` is called for each cancellation.
    """
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():  # cancelled at the same moment: the result counts
                return task.result()
            if on_cancel is not None:
                on_cancel()
                continue
            workflow.logger.info("cancellation_too_late")


async def wait_for_activity(activity: workflow.ActivityHandle[T]) -> T:
    """Wait for an activity that may have paid for something, and pass on a cancellation of the run to it.

    Whatever the activity returns counts, also if it completes at the moment of the cancellation, which the SDK would let win.
    """
    while True:
        try:
            return await asyncio.shield(activity)
        except asyncio.CancelledError:
            await asyncio.sleep(
                0
            )  # lets a result that arrived together with the cancellation be processed first
            if activity.done():
                return activity.result()
            activity.cancel()
