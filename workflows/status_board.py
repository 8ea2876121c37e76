"""What others see of a run while it goes on: the answer to the query, the page in the Web UI, the search attributes."""

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import FailureError

from contracts import names
from contracts.billing import BillingRecord, Cost
from contracts.calls import CallResult
from contracts.decisions import OpenDecision
from contracts.failed_attempts import FailedAttempt
from contracts.result import RunStatus
from workflows.details import describe_status
from workflows.failed_attempts import describe_waiting_step, read_failed_attempt


class StatusBoard:
    """The status of one run. Only the search attributes are commands of the workflow."""

    def __init__(self, run_id: str) -> None:
        self.status = RunStatus(run_id=run_id, stage="checking")
        self._call: CallResult | None = None

    def show(self, **news: Any) -> None:
        """Moves the status on, for the query and for the page in the Web UI."""
        self.status = self.status.model_copy(update=news)
        pictures, links = (self._call.images, self._call.links or ()) if self._call else ((), ())
        workflow.set_current_details(describe_status(self.status, pictures, links))

    def hear_of_failure(self, payload: Any) -> None:
        """Shows a `FailedAttempt`, in parsed JSON that anybody may have sent, while the call it tells of is tried again."""
        failed = read_failed_attempt(payload)
        if failed is None or self.status.stage != "generating":
            return
        known = self.status.attempts
        self.show(last_error=failed, attempts=known if failed.attempts is None else failed.attempts)

    def hold(self, question: OpenDecision) -> None:
        """The run waits for a decision, and for nothing else."""
        attempts = self.status.attempts if question.sent is None else question.sent
        self.show(
            stage="held",
            reason=question.message,
            open_decision=question,
            attempts=attempts,
            last_error=None,
        )

    def take_answer(self, call: CallResult) -> None:
        """The call has succeeded: its pictures are shown from now on, and the errors before it are over."""
        self._call = call
        self.show(
            stage="pricing",
            warnings=(*self.status.warnings, *call.warnings),
            attempts=call.attempts,
            last_error=None,
        )

    def wait_for_step(self, error: FailureError) -> None:
        """A step after the call failed, and is tried again until it works."""
        self.show(last_error=describe_waiting_step(error))

    def complete(self, call: CallResult, cost: Cost, record: BillingRecord) -> None:
        """The run ends with its pictures and its bill."""
        self.show(
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
        self.show(
            stage="refused" if last.error_type == names.REQUEST_REFUSED else "failed",
            reason=last.message,
            last_error=last,
            attempts=self.status.attempts if last.attempts is None else last.attempts,
        )

    def index(self, *updates: SearchAttributeUpdate[Any]) -> None:
        """Sets search attributes, apart from those that the starter has set already: each upsert is an event."""
        known = workflow.info().typed_search_attributes
        news = [update for update in updates if known.get(update.key) != update.value]
        if news:
            workflow.upsert_search_attributes(news)
