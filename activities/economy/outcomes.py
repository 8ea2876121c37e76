"""From what the provider says of a line, or does not say, to what the ledger keeps of its attempt. Pure, apart from the clock."""

from datetime import UTC, datetime

from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.contracts.economy import BATCH_CANCELLED, PartOrder, SeenBatch
from gpt_image_runs.provider.batch_api import ResultLine
from gpt_image_runs.provider.batch_files import LineResult
from gpt_image_runs.provider.calls import RawAnswer

BATCH_EXPIRED = "BatchExpired"
BATCH_FAILED = "BatchFailed"
BATCH_REFUSED = "BatchRefused"
LEFT_OUT = "LeftOut"
RESULT_MISSING = "ResultMissing"
_NAMES = {"batch_expired": BATCH_EXPIRED, "batch_cancelled": BATCH_CANCELLED}


def raw_answer_of(raw: ResultLine, result: LineResult, attempt: Attempt) -> RawAnswer:
    """A line as if it had been answered by itself; its body is the whole line, for whoever has to understand it."""
    return RawAnswer(
        body=raw.data,
        headers={},
        http_status=200,
        provider_request_id=result.provider_request_id,
        latency_ms=0,
        simulated=attempt.simulated,
        sent_at=attempt.sent_at,
    )


def describe_untouched(code: str, message: str) -> AttemptOutcome:
    """The window closed, or the batch was cancelled, before it was this line's turn: it is not charged."""
    return _end("not_sent", _NAMES[code], message or code, code)


def describe_left_out(reason: str) -> AttemptOutcome:
    """A line that never came into the file."""
    return _end("not_sent", LEFT_OUT, reason)


def describe_silence(order: PartOrder, ended: SeenBatch | None, refusal: str | None) -> AttemptOutcome:
    """The outcome of every line that the result files do not tell of.

    `ended` is how the provider said that its batch has ended, `refusal` why it did not take the batch: without either the lines
    may have been carried out, whatever the workflow says in `order`.
    """
    if ended is None and refusal is not None:
        return _end("rejected", BATCH_REFUSED, f"The provider did not take the batch. {refusal}")
    if ended and ended.status == "failed":
        why = f" {ended.reason}" if ended.reason else ""
        message = (
            f"The provider's batch {ended.provider_batch_id} failed before any line was carried out.{why}"
        )
        return _end("not_sent", BATCH_FAILED, message)
    if ended and ended.status == "cancelled" and ended.untouched:
        message = (
            f"The provider's batch {ended.provider_batch_id} was cancelled before any line was carried out."
        )
        return _end("not_sent", BATCH_CANCELLED, message)
    why = f" {order.reason}" if order.reason else ""
    batch_id = ended.provider_batch_id if ended else order.provider_batch_id
    stands = f"is {ended.status}" if ended else f"was not seen to end (the workflow says: {order.status})"
    return _end(
        "unknown",
        RESULT_MISSING,
        f"The provider's batch {batch_id or '(not found)'} {stands}, and no file tells of this line: it may have been carried"
        f" out and charged.{why}",
    )


def _end(outcome: str, error_type: str, message: str, code: str | None = None) -> AttemptOutcome:
    return AttemptOutcome(
        outcome=outcome,  # type: ignore[arg-type]  # one of the three above
        finished_at=datetime.now(UTC),
        error_type=error_type,
        error_code=code,
        error_message=message,
    )
