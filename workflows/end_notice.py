"""How a run has its end told: by a workflow that it starts as the last thing it does, and does not wait for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from contracts import names
from contracts.calls import Admission
from contracts.notifications import (
    NotificationOrder,
    RunEnd,
    RunFailure,
    event_id_for,
    notification_id_for,
)
from contracts.notify import Notify
from contracts.reading import read_request
from contracts.result import RunResult
from workflows.cancellation import finish_despite_cancellation
from workflows.checking import check_payload
from workflows.notification_details import describe_order

EARLY_END = "a-run-cancelled-unchecked-is-told"
"""The patch of runs that were cancelled before their check: earlier ones told nobody."""


async def tell_of_end(
    work: Coroutine[Any, Any, RunResult], notify: Notify, admission: Admission
) -> RunResult:
    """Carries out the rest of a run, and has its end told, however it ends: its result or its failure stays what it is."""
    try:
        result = await work
    except (FailureError, asyncio.CancelledError) as error:
        failure = _describe_failure(error, admission)
        await _order(notify, admission, failure.status, failure=failure)
        raise
    await _order(notify, admission, "completed", result=result)
    return result


async def tell_of_early_end(error: BaseException, payload: Any) -> None:
    """Has it told that a run was cancelled while nobody had checked it: it is checked now, for whom may be told."""
    asked = read_request(payload).sound
    if not is_cancelled_exception(error) or asked is None or asked.notify is None:
        return
    if not workflow.patched(EARLY_END):
        return
    admission = await check_payload(payload, workflow.info().workflow_id)
    if admission.notify:
        await _order(admission.notify, admission, "cancelled", failure=_describe_failure(error, admission))


def _describe_failure(error: BaseException, admission: Admission) -> RunFailure:
    run_id = admission.run_id or workflow.info().workflow_id
    if is_cancelled_exception(error):
        return RunFailure(
            run_id=run_id,
            status="cancelled",
            type="Cancelled",
            message="The run was cancelled before it had a picture.",
        )
    kind = (error.type if isinstance(error, ApplicationError) else None) or type(error).__name__
    message = error.message if isinstance(error, FailureError) else str(error)
    return RunFailure(run_id=run_id, status="failed", type=kind, message=message)


async def _order(
    notify: Notify,
    admission: Admission,
    event: RunEnd,
    *,
    result: RunResult | None = None,
    failure: RunFailure | None = None,
) -> None:
    info = workflow.info()
    run_id = admission.run_id or info.workflow_id
    order = NotificationOrder(
        event=event,
        # After a reset the execution has another id, and has to find the notification that it has started before.
        event_id=event_id_for(run_id, event, info.first_execution_run_id),
        run_id=run_id,
        url=notify.url,
        time=workflow.now(),
        result=result,
        failure=failure,
    )
    # Whoever cancels the run now is too late for it, and must not keep others from hearing how it ended.
    await finish_despite_cancellation(_start(order), tell=lambda: None)


async def _start(order: NotificationOrder) -> None:
    tenant = workflow.info().typed_search_attributes.get(names.TENANT)  # a refused run may have none
    try:
        await workflow.start_child_workflow(
            names.NOTIFICATION,
            order,
            id=notification_id_for(order.run_id, order.event_id, order.url),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            # A run that is submitted again completes again: its end is told once. What nobody took is tried once more.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(names.TENANT, tenant)] if tenant else []
            ),
            static_summary=describe_order(order),
        )
    except FailureError as error:
        workflow.logger.info(f"Its end is not told again: {error}")
