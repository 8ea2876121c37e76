"""What earlier attempts of a run mean for the next: a payment to use, or one doubt too many."""

import asyncio

from temporalio.exceptions import ApplicationError

from activities.call_results import settle_attempt
from activities.receipts import read_receipt
from billing.attempt_records import Attempt
from billing.attempts import AttemptLog
from contracts.money import format_usd
from imaging.store import ImageStore

TOO_MANY_UNKNOWN_OUTCOMES = "TooManyUnknownOutcomes"


async def settle_by_receipts(
    earlier: tuple[Attempt, ...], attempts: AttemptLog, store: ImageStore
) -> tuple[Attempt, ...]:
    """A run's attempts as they ended, also where a worker could not record it any more."""
    if any(attempt.outcome == "succeeded" for attempt in earlier):
        return earlier
    return tuple([await _settle(attempt, attempts, store) for attempt in earlier])


async def _settle(attempt: Attempt, attempts: AttemptLog, store: ImageStore) -> Attempt:
    receipt = await read_receipt(store, attempt.attempt_id) if attempt.outcome == "unknown" else None
    if receipt is None:
        return attempt
    await asyncio.to_thread(attempts.finish, attempt.attempt_id, receipt)
    return settle_attempt(attempt, receipt)


def refuse_endless_resends(earlier: tuple[Attempt, ...], resends: int) -> None:
    """Raises an ApplicationError that lists what may have been paid for nothing, if no further attempt is allowed."""
    unknown = [attempt for attempt in earlier if attempt.outcome == "unknown"]
    if len(unknown) <= resends:
        return
    reserved = [attempt.reserved_micro_usd for attempt in unknown]
    known = format_usd(sum(amount for amount in reserved if amount is not None))
    more = " and an unknown amount, as no price is known" if None in reserved else ""
    raise ApplicationError(
        f"{len(unknown)} requests were sent whose outcome is unknown: they may have cost up to {known} USD{more}."
        f" UNKNOWN_OUTCOME_RESENDS={resends} allows no further one."
        f" The attempts are {', '.join(attempt.attempt_id for attempt in unknown)}.",
        type=TOO_MANY_UNKNOWN_OUTCOMES,
        non_retryable=True,
    )
