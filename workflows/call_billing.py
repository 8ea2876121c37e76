"""From a paid call to its bill: the cost, the entry, and what is shown meanwhile. Only the order of effects lives here."""

from temporalio import workflow

from contracts import names
from contracts.billing import BillingRecord, Cost
from contracts.calls import Admission, CallResult
from contracts.request import ImageRequest
from contracts.result import RunResult
from workflows.hand_over import billing_input, cost_input, run_result
from workflows.money_steps import LOCAL_MONEY, carry_out_money_step
from workflows.status_board import StatusBoard


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
    record = await carry_out_money_step(
        names.RECORD_BILLING,
        billing_input(request, admission, call, cost),
        BillingRecord,
        locally=locally,
        summary=f"{cost.amount_usd} USD for {admission.tenant}" if cost.amount_usd else "held: no amount yet",
        tell=board.wait_for_step,
    )
    cost = record.cost or cost  # of a run that was billed before, what is on its entry counts
    _index(board, call, cost, record)
    board.complete(call, cost, record)
    return run_result(admission.run_id, request, call, cost, record)


def _index(board: StatusBoard, call: CallResult, cost: Cost, record: BillingRecord) -> None:
    board.index(
        names.BILLING_STATE.value_set(record.state),
        names.IMAGE_COUNT.value_set(len(call.images)),
        # Temporal's only fractional type, for filters; the amount itself stays a string.
        *([names.COST_USD.value_set(float(cost.amount_usd))] if cost.amount_usd else []),
    )
