"""What one step hands to the next: plain copies from value to value, no decisions. Pure."""

from contracts.billing import BillingInput, BillingRecord, Cost, CostInput
from contracts.calls import Admission, CallInput, CallResult
from contracts.request import ImageRequest
from contracts.result import ResultBilling, ResultCost, ResultProvider, RunResult


def call_input(request: ImageRequest, admission: Admission, decided_attempts: tuple[str, ...]) -> CallInput:
    """What `call_gpt_image` needs."""
    return CallInput(
        run_id=admission.run_id,
        tenant=admission.tenant,
        request_id=admission.request_id,
        request=request,
        model=admission.model,
        fingerprint=admission.fingerprint,
        price_ceiling_usd=admission.price_ceiling_usd,
        unknown_outcome=admission.unknown_outcome,
        decided_attempts=decided_attempts,
        image_slots=admission.image_slots,
    )


def cost_input(request: ImageRequest, admission: Admission, call: CallResult) -> CostInput:
    """What `compute_cost` needs."""
    return CostInput(
        provider=admission.provider,
        model=call.model,
        usage=call.usage,
        usage_problem=call.usage_problem,
        missing_usage=admission.missing_usage,
        operation=request.operation,
        images=len(call.images),
        size=call.size,
        quality=call.quality,
        output_format=call.output_format,
        sent_at=call.sent_at,
        mode=call.mode,
        partial_images=request.partial_images,
    )


def billing_input(request: ImageRequest, admission: Admission, call: CallResult, cost: Cost) -> BillingInput:
    """What `record_billing` needs: the rest it finds with the attempt, in the ledger."""
    return BillingInput(
        run_id=admission.run_id,
        attempt_id=call.attempt_id,
        cost=cost,
        metadata=request.metadata or {},
    )


def run_result(
    run_id: str, request: ImageRequest, call: CallResult, cost: Cost, record: BillingRecord
) -> RunResult:
    """What the run answers."""
    return RunResult(
        run_id=run_id,
        operation=request.operation,
        model=call.model,
        requested_model=request.model,
        images=call.images,
        usage=call.usage,
        cost=ResultCost(
            amount_usd=cost.amount_usd,
            basis=cost.basis,
            flags=cost.flags,
            rate_card=cost.rate_card,
            list_cost_usd=cost.list_cost_usd,
            line_items=cost.line_items,
        ),
        billing=ResultBilling(state=record.state, entry_id=record.entry_id, reason=record.reason),
        provider=ResultProvider(
            name=call.provider,
            request_id=call.provider_request_id,
            attempts=call.attempts,
            simulated=call.simulated,
        ),
        warnings=call.warnings,
    )
