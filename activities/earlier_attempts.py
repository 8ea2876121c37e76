"""What earlier attempts of a run mean for the next: a payment to use, a doubt to decide on, or one doubt too many."""

import asyncio

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.call_results import settle_attempt
from activities.failures import shorten
from activities.receipts import AttemptReceipts
from billing.attempt_records import Attempt, AttemptOutcome
from billing.attempts import AttemptLog
from contracts import names
from contracts.calls import CallInput
from contracts.decisions import OpenDecision, UnknownAttempt
from contracts.money import format_usd

TOO_MANY_UNKNOWN_OUTCOMES = "TooManyUnknownOutcomes"


async def settle_by_receipts(
    earlier: tuple[Attempt, ...], attempts: AttemptLog, receipts: AttemptReceipts
) -> tuple[Attempt, ...]:
    """A run's attempts as they ended, also where a worker could not record it any more."""
    unknown = _list_unknown(earlier)
    if not unknown or any(attempt.outcome == "succeeded" for attempt in earlier):
        return earlier
    outcomes = await receipts.read_outcomes(unknown[0].run_id, [attempt.attempt_id for attempt in unknown])
    return tuple([await _settle(attempt, attempts, outcomes.get(attempt.attempt_id)) for attempt in earlier])


async def _settle(attempt: Attempt, attempts: AttemptLog, outcome: AttemptOutcome | None) -> Attempt:
    if outcome is None:
        return attempt
    await asyncio.to_thread(attempts.finish, attempt.attempt_id, outcome)
    return settle_attempt(attempt, outcome)


def refuse_endless_resends(earlier: tuple[Attempt, ...], resends: int) -> None:
    """Raises an ApplicationError that lists what may have been paid for nothing, if no further attempt is allowed."""
    unknown = _list_unknown(earlier)
    if len(unknown) <= resends:
        return
    raise ApplicationError(
        f"{_describe_exposure(unknown)} UNKNOWN_OUTCOME_RESENDS={resends} allows no further one."
        f" The attempts are {', '.join(attempt.attempt_id for attempt in unknown)}.",
        type=TOO_MANY_UNKNOWN_OUTCOMES,
        non_retryable=True,
    )


def hold_undecided(attempts: tuple[Attempt, ...], order: CallInput) -> None:
    """Raises an ApplicationError that holds the run, if an attempt may have been paid for and nobody has decided on it.

    Its detail is an `OpenDecision` on all attempts of unknown outcome, for those that were decided on may be paid too.
    """
    unknown = _list_unknown(attempts)
    undecided = [attempt for attempt in unknown if attempt.attempt_id not in order.decided_attempts]
    if not undecided:
        return
    cause = shorten(undecided[-1].error_message or "Its worker ended before an answer came.")
    decision = OpenDecision(
        message=f"{_describe_exposure(unknown)} The last one: {cause}",
        attempts=tuple(map(_describe_attempt, unknown)),
        at_most_usd=format_usd(_sum_reserved(unknown)),
        unpriced=sum(attempt.reserved_micro_usd is None for attempt in unknown),
        sent=len(attempts),
    )
    raise ApplicationError(
        decision.message,
        decision,
        type=names.UNKNOWN_OUTCOME_HELD,
        non_retryable=True,
        # A run that waits for a person is no defect, and needs no stack trace in the log.
        category=ApplicationErrorCategory.BENIGN,
    )


def _list_unknown(attempts: tuple[Attempt, ...]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.outcome == "unknown"]


def _sum_reserved(attempts: list[Attempt]) -> int:
    return sum(attempt.reserved_micro_usd or 0 for attempt in attempts)


def _describe_exposure(unknown: list[Attempt]) -> str:
    requests = "1 request was" if len(unknown) == 1 else f"{len(unknown)} requests were"
    they = "it" if len(unknown) == 1 else "they"
    without_price = any(attempt.reserved_micro_usd is None for attempt in unknown)
    more = " and an unknown amount, as no price is known" if without_price else ""
    amount = f"{format_usd(_sum_reserved(unknown))} USD{more}"
    return f"{requests} sent whose outcome is unknown: {they} may have cost up to {amount}."


def _describe_attempt(attempt: Attempt) -> UnknownAttempt:
    reserved = attempt.reserved_micro_usd
    return UnknownAttempt(
        attempt_id=attempt.attempt_id,
        client_request_id=attempt.client_request_id,
        provider_request_id=attempt.provider_request_id,
        sent_at=attempt.sent_at,
        error_type=attempt.error_type,
        reserved_usd=None if reserved is None else format_usd(reserved),
    )
