"""From a paid call to its bill: the cost, the entry, and what is shown meanwhile. Only the order of effects lives here."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from contracts import names
from contracts.billing import BillingInput, BillingRecord, Cost
from contracts.calls import Admission, CallResult
from contracts.request import ImageRequest
from contracts.result import RunResult
from workflows import policies
from workflows.hand_over import billing_input, cost_input, run_result
from workflows.money_steps import LOCAL_MONEY, carry_out_money_step
from workflows.status_board import StatusBoard

CANCEL_ENDS_LOST_BILL = "cancel-ends-a-bill-without-attempt"
"""The patch of runs that are cancelled while they wait for their bill."""


async def bill_call(
    board: StatusBoard, request: ImageRequest, admission: Admission, call: CallResult
) -> RunResult:
    """What the run answers once its call is on the ledger: billed, or pending with its reason. However long that takes."""
    # A patch would cost each run a marker and an upsert: only runs that began before have one.
    locally = admission.money_locally or workflow.patched(LOCAL_MONEY)
    board.take_answer(call)
    cost = await carry_out_money_step(
        names.COMPUTE_COST,
        cost_input(request, admission, call),
        Cost,
        locally=locally,
        summary=f"the price of {len(call.images)} image(s) from {call.model}",
        tell=board.wait_for_step,
    )
    board.show(stage="recording", basis=cost.basis, cost_usd=cost.amount_usd, last_error=None)
    order = billing_input(request, admission, call, cost)
    recording = carry_out_money_step(
        names.RECORD_BILLING,
        order,
        BillingRecord,
        locally=locally,
        summary=f"{cost.amount_usd} USD for {admission.tenant}" if cost.amount_usd else "held: no amount yet",
        tell=board.wait_for_step,
    )
    record = await _record_unless_lost(board, order, recording)
    cost = record.cost or cost  # of a run that was billed before, what is on its entry counts
    _index(board, call, cost, record)
    board.complete(call, cost, record)
    return run_result(admission.run_id, request, call, cost, record)


async def _record_unless_lost(
    board: StatusBoard, order: BillingInput, recording: Coroutine[Any, Any, BillingRecord]
) -> BillingRecord:
    """The bill, however long that takes. A run that was cancelled ends without one where the ledger does not have its attempt.

    Raises:
        CancelledError: so it ends. What was paid is in the image store, and `starter.py recover` bills it.
    """
    billing = asyncio.ensure_future(recording)
    cancelled = asyncio.ensure_future(workflow.wait_condition(lambda: _is_cancelled_and_waits(board)))
    await workflow.wait([billing, cancelled], return_when=asyncio.FIRST_COMPLETED)
    if not billing.done() and workflow.patched(CANCEL_ENDS_LOST_BILL):
        try:
            record: BillingRecord = await workflow.execute_activity(
                names.RECORD_BILLING,
                order,
                result_type=BillingRecord,
                start_to_close_timeout=policies.MONEY_ATTEMPT,
                retry_policy=policies.CANCELLED_BILL_RETRY,
                summary="the run is cancelled: does the ledger have its attempt?",
            )
        except ActivityError as error:
            board.show(stage="cancelled", reason=str(error.cause or error))
            raise asyncio.CancelledError from None
        else:
            return record
        finally:
            billing.cancel()
    cancelled.cancel()
    return await billing


def _is_cancelled_and_waits(board: StatusBoard) -> bool:
    return workflow.cancellation_reason() is not None and board.status.last_error is not None


def _index(board: StatusBoard, call: CallResult, cost: Cost, record: BillingRecord) -> None:
    board.index(
        names.BILLING_STATE.value_set(record.state),
        names.IMAGE_COUNT.value_set(len(call.images)),
        # Temporal's only fractional type, for filters; the amount itself stays a string.
        *([names.COST_USD.value_set(float(cost.amount_usd))] if cost.amount_usd else []),
    )
