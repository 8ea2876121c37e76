"""How the two steps after the provider's answer are carried out: by the workflow's own worker, else wherever there is one."""

from collections.abc import Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError

from contracts.base import Contract
from workflows import policies

LOCAL_MONEY = "money-steps-are-tried-locally"
"""The patch of runs that were begun before `Admission.money_locally` was there: they keep to their history."""

T = TypeVar("T", bound=Contract)


async def carry_out_money_step(
    name: str,
    order: Contract,
    result_type: type[T],
    *,
    locally: bool,
    summary: str,
    tell: Callable[[FailureError], None] | None = None,
) -> T:
    """The result of the activity `name`, however long it takes.

    `locally` tries it once as a local activity, within the workflow task that is under way anyway. Where that fails, as the
    ledger is away, it becomes a regular one: it waits where everyone sees it, with its last failure. `tell` hears why.
    """
    result: T
    if locally:
        try:
            result = await workflow.execute_local_activity(
                name,
                order,
                result_type=result_type,
                start_to_close_timeout=policies.LOCAL_MONEY_ATTEMPT,
                retry_policy=policies.LOCAL_MONEY_RETRY,
                summary=summary,
            )
        except FailureError as error:
            # Not only ActivityError, as which a time-out comes: what a local activity raised arrives as itself.
            workflow.logger.info(f"{name} did not work at once and is scheduled: {error.cause or error}")
            if tell is not None:
                tell(error)
        else:
            return result
    result = await workflow.execute_activity(
        name,
        order,
        result_type=result_type,
        start_to_close_timeout=policies.MONEY_ATTEMPT,
        retry_policy=policies.MONEY_RETRY,
        summary=summary,
    )
    return result
