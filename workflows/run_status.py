"""The status of a run while it is in progress: for the query, the Web UI page and the search attributes."""

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
# In these stages there are no finished images yet, so partial ones are shown.
_WITHOUT_PICTURES = ("generating", "held")


def describe_status(
    status: RunStatus, pictures: Sequence[ImageRef] = (), addresses: Sequence[str] = ()
) -> str:
    """Format a run as markdown: a table of what is known, how to decide if it is held, and its warnings.

    `addresses` are links to the images for a browser. Without them the store's own references are shown.
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
    # The first row is the table's heading, as the Web UI shows an empty heading as a gap. A name stays on one line and apart
    # from its value, as the Web UI has no space between columns.
    lines = [f"| **{name.replace(' ', _FIXED)}**{_FIXED * 3} | {value} |" for name, value in rows if value]
    return "\n".join([f"| Stage | {stage} |", "| :--- | :--- |", *lines])


def _describe_errors(status: RunStatus) -> list[_Row]:
    error = status.last_error
    is_shown = error is not None and error.message == status.reason
    return [
        ("Last error", quote(describe_error(error)) if error else None),
        ("Reason", quote(status.reason) if status.reason and not is_shown else None),
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
    """Format how many requests were sent, and during a call how many failed and when the next is due."""
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
    """Format the type, message and time of a failed attempt."""
    return f"{error.error_type}: {error.message} ({_describe_moment(error.failed_at)})"


def _describe_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _describe_question(question: OpenDecision, run_id: str) -> str:
    """Format what may have been paid for and the commands that decide."""
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
    """Format text from outside on one line, without markdown for headings, links, tables or code."""
    return " ".join(text.split()).replace("[", "(").replace("]", ")").replace("|", "/").replace("`", "'")


# Characters as JSON, four times what the longest of ours has. It is shown on the page and in each response to the query.
_MAX_JSON = 10_000


def parse_failed_attempt(payload: Any) -> FailedAttempt | None:
    """Parse a `FailedAttempt`, given as JSON of unknown origin. Return None if it is invalid or too long."""
    try:
        failed = FailedAttempt.model_validate(payload)
    except ValidationError:
        return None
    return failed if len(failed.model_dump_json()) <= _MAX_JSON else None


def last_failed_attempt(cause: ApplicationError | None, kind: str, message: str) -> FailedAttempt:
    """Build the attempt that a run fails with. Its facts come from the details of `cause`, if that has some."""
    facts = cause.details[0] if cause and cause.details and isinstance(cause.details[0], dict) else {}
    return FailedAttempt(
        error_type=kind,
        message=message,
        failed_at=workflow.now(),
        attempts=facts.get("attempts"),
        attempt_id=facts.get("attempt_id"),
    )


def retried_step(error: FailureError) -> FailedAttempt:
    """Build the failure of a billing step that is retried from now on as a regular activity, without end."""
    cause = error.cause if isinstance(error.cause, FailureError) else error
    return FailedAttempt(
        error_type=(cause.type if isinstance(cause, ApplicationError) else None) or type(cause).__name__,
        message=cause.message,
        failed_at=workflow.now(),
    )


class RunStatusTracker:
    """Tracks the status of one run. Only its search attributes are commands of the workflow."""

    def __init__(self, run_id: str) -> None:
        self.status = RunStatus(run_id=run_id, stage="checking")
        self._call: CallResult | None = None

    def update(self, **changes: Any) -> None:
        """Change fields of the status, for the query and for the run's page in the Web UI."""
        self.status = self.status.model_copy(update=changes)
        pictures, links = (self._call.images, self._call.links or ()) if self._call else ((), ())
        workflow.set_current_details(describe_status(self.status, pictures, links))

    def record_failed_attempt(self, payload: Any) -> None:
        """Show a `FailedAttempt`, given as JSON of unknown origin, while the call is retried."""
        failed = parse_failed_attempt(payload)
        if failed is None or self.status.stage != "generating":
            return
        known = self.status.attempts
        self.update(last_error=failed, attempts=known if failed.attempts is None else failed.attempts)

    def hold(self, question: OpenDecision) -> None:
        """Show that the run waits for a decision."""
        attempts = self.status.attempts if question.sent is None else question.sent
        self.update(
            stage="held",
            reason=question.message,
            open_decision=question,
            attempts=attempts,
            last_error=None,
        )

    def record_call_result(self, call: CallResult) -> None:
        """Show the images of a finished call, and no earlier errors."""
        self._call = call
        self.update(
            stage="pricing",
            warnings=(*self.status.warnings, *call.warnings),
            attempts=call.attempts,
            last_error=None,
        )

    def record_step_retry(self, error: FailureError) -> None:
        """Show why a billing step failed, while it is retried."""
        self.update(last_error=retried_step(error))

    def complete(self, call: CallResult, cost: Cost, record: BillingRecord) -> None:
        """Show that the run is completed, with its bill."""
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
        """Show that the run has failed with this attempt."""
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
