"""What others see of a run while it goes on: the answer to the query, the page in the Web UI, the search attributes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ApplicationError, FailureError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import Basis, BillingRecord, Cost
from gpt_image_runs.contracts.calls import CallResult
from gpt_image_runs.contracts.decisions import OpenDecision
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.result import FailedAttempt, RunStatus

_STAGES = {
    "checking": "Checking the request",
    "generating": "Waiting for the provider",
    "held": "Waiting for a decision",
    "pricing": "Computing the cost",
    "recording": "Recording the bill",
    "completed": "Completed",
    "refused": "Refused: nothing was sent",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_BASES: dict[Basis, str] = {
    "token_usage": "the provider's token counts",
    "size_quality_estimate": "an estimate by size and quality",
    "none": "none yet",
}
_Row = tuple[str, str | None]
_FIXED = "\N{NO-BREAK SPACE}"
_WITHOUT_PICTURES = ("generating", "held")
"""Until there are finished ones, what was drawn so far is worth a look."""


def describe_status(
    status: RunStatus, pictures: Sequence[ImageRef] = (), addresses: Sequence[str] = ()
) -> str:
    """The run as a table of what is known of it, how to decide where somebody has to, and what an operator should know.

    `addresses` are where a browser finds the pictures, where there are such: else the store's own references are shown.
    """
    rows = [
        ("Attempt", describe_trying(status)),
        *_describe_errors(status),
        *_describe_money(status),
        *_link_pictures(status, pictures, addresses),
        ("Model", quote(status.model or "")),
        ("Tenant", status.tenant),
    ]
    notes = [_describe_question(status.open_decision, status.run_id)] if status.open_decision else []
    notes += [f"**Note:** {quote(warning)}" for warning in status.warnings]
    return "\n\n".join([_tabulate(_STAGES[status.stage], rows), *notes])


def _tabulate(stage: str, rows: Sequence[_Row]) -> str:
    """A row for each answer that there is. The first one is the table's heading: the Web UI draws an empty heading as a gap."""
    # A name stays on one line, and away from its value: the Web UI draws columns without a space.
    lines = [f"| **{name.replace(' ', _FIXED)}**{_FIXED * 3} | {value} |" for name, value in rows if value]
    return "\n".join([f"| Stage | {stage} |", "| :--- | :--- |", *lines])


def _describe_errors(status: RunStatus) -> list[_Row]:
    error = status.last_error
    is_told = error is not None and error.message == status.reason
    return [
        ("Last error", quote(describe_error(error)) if error else None),
        ("Reason", quote(status.reason) if status.reason and not is_told else None),
    ]


def _describe_money(status: RunStatus) -> list[_Row]:
    if status.basis is None:
        return []
    return [
        ("Cost", f"{status.cost_usd} USD" if status.cost_usd else "not known yet"),
        ("Basis", _BASES[status.basis]),
        ("Billing state", status.billing_state),
    ]


def _link_pictures(status: RunStatus, pictures: Sequence[ImageRef], addresses: Sequence[str]) -> list[_Row]:
    places = addresses if len(addresses) == len(pictures) else [picture.uri for picture in pictures]
    rows: list[_Row] = [
        (f"Picture {number}" if len(pictures) > 1 else "Picture", _link(picture, place))
        for number, (picture, place) in enumerate(zip(pictures, places, strict=True), 1)
    ]
    if status.stage in _WITHOUT_PICTURES:
        rows += [
            (f"Partial picture {partial.index + 1}", _link(partial.image, partial.image.uri))
            for partial in status.partial_images
        ]
    return rows


def _link(picture: ImageRef, address: str) -> str:
    kind = f"{picture.width}x{picture.height} {picture.media_type}"
    return f"[{kind}]({address.replace('|', '%7C')}), {picture.bytes:,} bytes"


def describe_trying(status: RunStatus) -> str | None:
    """How many requests were sent, and while a call is tried how many failed and when it goes on; None where nothing is known."""
    error, count = status.last_error, status.attempts
    sent = f"{count} request{'' if count == 1 else 's'} sent" if count is not None else None
    if status.stage != "generating":
        return sent
    if error is None:
        return f"{sent}; the next is in line or under way" if sent else "the first is in line or under way"
    count = error.failures or 1
    failed = f"{count} attempt{'' if count == 1 else 's'} failed"
    due = f"the next is due at {_describe_moment(error.tried_again_at)}" if error.tried_again_at else None
    return "; ".join(filter(None, [sent, failed, due]))


def describe_error(error: FailedAttempt) -> str:
    """What was wrong, by its type and in words, and when."""
    return f"{error.error_type}: {error.message} ({_describe_moment(error.failed_at)})"


def _describe_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _describe_question(question: OpenDecision, run_id: str) -> str:
    """What may have been paid for, and how to decide."""
    attempts = [
        f"- {attempt.attempt_id}, {attempt.error_type or 'no answer'},"
        f" {f'at most {attempt.reserved_usd} USD' if attempt.reserved_usd else 'no price known'};"
        f" the provider's support knows it as {attempt.client_request_id}"
        for attempt in question.attempts
    ]
    commands = [
        f"- `python starter.py decide {run_id} resend --reason TEXT` sends it once more",
        f"- `python starter.py decide {run_id} give-up --reason TEXT` ends the run as failed",
    ]
    return "\n".join([*attempts, "", "**To decide** (or by the Update `decide`):", "", *commands])


def quote(text: str) -> str:
    """Words from outside on one line, shown as they are: not as headings, links or tables of ours."""
    return " ".join(text.split()).replace("[", "(").replace("]", ")").replace("|", "/").replace("`", "'")


_LONGEST = 10_000
"""Characters of one as JSON, four times what the longest of ours has: it is shown on a page, and part of each answer to the query."""


def read_failed_attempt(payload: Any) -> FailedAttempt | None:
    """A `FailedAttempt` in parsed JSON that anybody may have sent, None where it is none or too long to be shown."""
    try:
        failed = FailedAttempt.model_validate(payload)
    except ValidationError:
        return None
    return failed if len(failed.model_dump_json()) <= _LONGEST else None


def last_failed_attempt(cause: ApplicationError | None, kind: str, message: str) -> FailedAttempt:
    """The attempt that a run fails with: there is no further one. What was sent is among the facts of the failure, where it was."""
    facts = cause.details[0] if cause and cause.details and isinstance(cause.details[0], dict) else {}
    return FailedAttempt(
        error_type=kind,
        message=message,
        failed_at=workflow.now(),
        attempts=facts.get("attempts"),
        attempt_id=facts.get("attempt_id"),
    )


def retried_step(error: FailureError) -> FailedAttempt:
    """Why a step after the call did not work at once: a regular activity tries it again from now on, for as long as it takes."""
    cause = error.cause if isinstance(error.cause, FailureError) else error
    return FailedAttempt(
        error_type=(cause.type if isinstance(cause, ApplicationError) else None) or type(cause).__name__,
        message=cause.message,
        failed_at=workflow.now(),
    )


class RunStatusTracker:
    """The status of one run. Only the search attributes are commands of the workflow."""

    def __init__(self, run_id: str) -> None:
        self.status = RunStatus(run_id=run_id, stage="checking")
        self._call: CallResult | None = None

    def update(self, **changes: Any) -> None:
        """Change fields of the status, for the query and for the run's page in the Web UI."""
        self.status = self.status.model_copy(update=changes)
        pictures, links = (self._call.images, self._call.links or ()) if self._call else ((), ())
        workflow.set_current_details(describe_status(self.status, pictures, links))

    def record_failed_attempt(self, payload: Any) -> None:
        """Shows a `FailedAttempt`, in parsed JSON that anybody may have sent, while the call it tells of is tried again."""
        failed = read_failed_attempt(payload)
        if failed is None or self.status.stage != "generating":
            return
        known = self.status.attempts
        self.update(last_error=failed, attempts=known if failed.attempts is None else failed.attempts)

    def hold(self, question: OpenDecision) -> None:
        """The run waits for a decision, and for nothing else."""
        attempts = self.status.attempts if question.sent is None else question.sent
        self.update(
            stage="held",
            reason=question.message,
            open_decision=question,
            attempts=attempts,
            last_error=None,
        )

    def record_call_result(self, call: CallResult) -> None:
        """The call has succeeded: its pictures are shown from now on, and the errors before it are over."""
        self._call = call
        self.update(
            stage="pricing",
            warnings=(*self.status.warnings, *call.warnings),
            attempts=call.attempts,
            last_error=None,
        )

    def record_step_retry(self, error: FailureError) -> None:
        """A step after the call failed, and is tried again until it works."""
        self.update(last_error=retried_step(error))

    def complete(self, call: CallResult, cost: Cost, record: BillingRecord) -> None:
        """The run ends with its pictures and its bill."""
        self.update(
            stage="completed",
            images=len(call.images),
            basis=cost.basis,
            cost_usd=cost.amount_usd,
            billing_state=record.state,
            reason=record.reason,
            last_error=None,
        )

    def fail(self, last: FailedAttempt) -> None:
        """The run ends with this attempt of its call."""
        self.update(
            stage="refused" if last.error_type == names.REQUEST_REFUSED else "failed",
            reason=last.message,
            last_error=last,
            attempts=self.status.attempts if last.attempts is None else last.attempts,
        )

    def set_search_attributes(self, *updates: SearchAttributeUpdate[Any]) -> None:
        """Set search attributes that differ from those the run has. Each upsert is an event in the history."""
        known = workflow.info().typed_search_attributes
        changes = [update for update in updates if known.get(update.key) != update.value]
        if changes:
            workflow.upsert_search_attributes(changes)
