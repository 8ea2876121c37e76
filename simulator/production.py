"""What an order brings once its faults are known: an answer, and what the books say of it."""

import asyncio
from typing import Any

from simulator.faults import Fault
from simulator.orders import ImageOrder
from simulator.prices import price_usage
from simulator.studio import carry_out
from simulator.uploads import Inputs


async def produce(
    order: ImageOrder, inputs: Inputs, fault: Fault | None, request_id: str, *, in_batch: bool = False
) -> tuple[bytes, dict[str, Any]]:
    """The body of the answer, and the paid part of the entry in the books."""
    usage = order.count_usage(inputs.sizes)
    answer = await asyncio.to_thread(carry_out, order, inputs, usage, fault, request_id)
    return answer, {
        "paid": True,
        "usage": usage.to_json(with_output_details=order.model.reports_output_details),
        "list_price_micro_usd": price_usage(order.model.family, usage, in_batch=in_batch),
    }
