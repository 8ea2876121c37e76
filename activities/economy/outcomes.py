"""Builds the outcome of an attempt from the result of its line in a provider's batch, or from its absence. No I/O."""

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


def build_raw_answer(raw: ResultLine, result: LineResult, attempt: Attempt) -> RawAnswer:
    """Build the response of a result line. Its body is the whole line."""
    return RawAnswer(
        body=raw.data,
        headers={},
        http_status=200,
        provider_request_id=result.provider_request_id,
        latency_ms=0,
        simulated=attempt.simulated,
        sent_at=attempt.sent_at,
    )


def not_started_outcome(code: str, message: str) -> AttemptOutcome:
    """Build the outcome of a line that expired or was cancelled before it started."""
    return _end("not_sent", _NAMES[code], message or code, code)


def left_out_outcome(reason: str) -> AttemptOutcome:
    """Build the outcome of a line that was not written into the file."""
    return _end("not_sent", LEFT_OUT, reason)


def missing_result_outcome(order: PartOrder, ended: SeenBatch | None, refusal: str | None) -> AttemptOutcome:
    """Build the outcome of every line that has no result in the files.

    `ended` is how the provider's batch ended by its own word, `refusal` why it did not accept the batch. Without either the
    lines may have been charged, whatever the workflow says in `order`.
    """
    if ended is None and refusal is not None:
        return _end("rejected", BATCH_REFUSED, f"The provider did not accept the batch. {refusal}")
    if ended and ended.status == "failed":
        why = f" {ended.reason}" if ended.reason else ""
        message = f"The provider's batch {ended.provider_batch_id} failed before any line was started.{why}"
        return _end("not_sent", BATCH_FAILED, message)
    if ended and ended.status == "cancelled" and ended.untouched:
        message = f"The provider's batch {ended.provider_batch_id} was cancelled before any line was started."
        return _end("not_sent", BATCH_CANCELLED, message)
    why = f" {order.reason}" if order.reason else ""
    batch_id = ended.provider_batch_id if ended else order.provider_batch_id
    stands = f"is {ended.status}" if ended else f"was not seen to end (the workflow says: {order.status})"
    return _end(
        "unknown",
        RESULT_MISSING,
        f"The provider's batch {batch_id or '(not found)'} {stands}, and no result file has this line: it may have been"
        f" charged.{why}",
    )


def _end(outcome: str, error_type: str, message: str, code: str | None = None) -> AttemptOutcome:
    return AttemptOutcome(
        outcome=outcome,  # type: ignore[arg-type]  # one of the three above
        finished_at=datetime.now(UTC),
        error_type=error_type,
        error_code=code,
        error_message=message,
    )
