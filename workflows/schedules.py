"""Runs and batches started by a Temporal Schedule: each is a child workflow whose id contains the scheduled time.

The server appends the time to the id of the workflow that it starts (`image:acme:nightly-2026-11-28T02:00:00Z`), which
is not the id of a run or a batch, while a request_id or batch_id in the argument is the same every time. So the started
workflow derives the id from both and starts a child with the usual id: commands and bills see an ordinary run or batch.
"""

from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.batches import BatchOrder
    from gpt_image_runs.contracts.economy import EconomyOrder
    from gpt_image_runs.contracts.problems import Problem
    from gpt_image_runs.contracts.request import (
        MAX_SCHEDULED_BATCH_ID,
        MAX_SCHEDULED_REQUEST_ID,
        ImageRequest,
        derive_scheduled_id,
        find_request_id,
        strip_scheduled_time,
    )

T = TypeVar("T")
Order = TypeVar("Order", BatchOrder, EconomyOrder)

_SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
_FIRST_PAUSE, _MAX_PAUSE = timedelta(seconds=1), timedelta(minutes=10)


def find_scheduled_request_id(request: ImageRequest) -> str | Problem | None:
    """Return the request id of the run that a child carries out, or why there is none.

    None where neither a schedule nor a Nexus operation beside other content has started this workflow.
    """
    if workflow.info().workflow_id.startswith(names.NEXUS_PREFIX):
        return request.request_id
    scheduled_at = workflow.info().typed_search_attributes.get(_SCHEDULED_AT)
    if scheduled_at is None:
        return None
    base = find_request_id(request, strip_scheduled_time(workflow.info().workflow_id))
    if base is None:
        return None  # the check refuses a run without an id
    if len(base) > MAX_SCHEDULED_REQUEST_ID:
        return Problem(
            field="request_id",
            value=f"a text of {len(base)} characters",
            allowed=f"up to {MAX_SCHEDULED_REQUEST_ID} characters in a schedule, which appends its time",
        )
    return derive_scheduled_id(base, scheduled_at)


def find_scheduled_order(order: Order) -> Order | None:
    """Return the order of a batch that a schedule has started, None without a schedule.

    Raises:
        ApplicationError: type `RequestRefused`, the batch id is too long to append the time.
    """
    scheduled_at: datetime | None = workflow.info().typed_search_attributes.get(_SCHEDULED_AT)
    if scheduled_at is None or workflow.info().continued_run_id:
        return None
    if len(order.batch_id) > MAX_SCHEDULED_BATCH_ID:
        raise ApplicationError(
            f"batch_id is a text of {len(order.batch_id)} characters; allowed: up to {MAX_SCHEDULED_BATCH_ID}"
            " in a schedule, which appends its time. Nothing was started.",
            type=names.REQUEST_REFUSED,
            non_retryable=True,
        )
    batch_id = derive_scheduled_id(order.batch_id, scheduled_at)
    return order.model_copy(update={"batch_id": batch_id, "template_batch_id": order.batch_id})


async def run_scheduled_batch(
    workflow_type: str, order: BatchOrder | EconomyOrder, result_type: type[T]
) -> T:
    """Run a scheduled batch as a child with its own id and return its result. Raises as `run_child`."""
    return await run_child(
        workflow_type,
        order,
        order.workflow_id,
        result_type,
        memo={"digest": order.digest},
        search_attributes=TypedSearchAttributes([SearchAttributePair(names.BATCH_ID, order.batch_id)]),
    )


async def run_child(
    workflow_type: str, argument: Any, workflow_id: str, result_type: type[T], **options: Any
) -> T:
    """Run a child workflow and return its result. A cancellation is passed on to it.

    Raises:
        ApplicationError: the child's failure as the workflow's own.
        ChildWorkflowError: the child was cancelled.
    """
    workflow.set_current_details(f"Run by `{workflow_id}`.")
    child = await _start_child(workflow_type, argument, workflow_id, result_type, options)
    try:
        return await child
    except ChildWorkflowError as error:
        if is_cancelled_exception(error):
            raise
        cause = error.cause
        if isinstance(cause, ApplicationError):
            raise ApplicationError(
                cause.message, *cause.details, type=cause.type, non_retryable=True
            ) from None
        raise ApplicationError(
            f"{workflow_id} did not complete: {cause}", type=type(cause).__name__, non_retryable=True
        ) from None


async def _start_child(
    workflow_type: str, argument: Any, workflow_id: str, result_type: type[T], options: dict[str, Any]
) -> workflow.ChildWorkflowHandle[Any, T]:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await workflow.start_child_workflow(
                workflow_type,
                argument,
                id=workflow_id,
                result_type=result_type,
                # A call that was sent is finished and billed, however this workflow ends.
                cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                **options,
            )
        except WorkflowAlreadyStartedError:
            # Somebody has submitted it with its own id. After that run ends, this one finds what it paid for.
            await workflow.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE)
