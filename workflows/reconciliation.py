"""The workflow that corrects a run's bill, and shows in the Web UI who decided it and why."""

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.corrections import (
        Correction,
        Settlement,
    )
    from gpt_image_runs.contracts.problems import InvalidPayload, parse
    from workflows import retry_policies as policies
    from workflows.activity_calls import run_shielded
    from workflows.payloads import NOTHING, read_argument
    from workflows.run_status import quote

_OUTCOMES = {
    "settled": "Settled",
    "already_settled": "Settled before",
    "pending": "Still pending: nothing was written",
}


def describe_correction(correction: Correction) -> str:
    """Format a correction as one line: action, run, actor."""
    return f"{correction.action} {correction.run_id} by {quote(correction.actor)}"


def describe_settlement(correction: Correction, settlement: Settlement) -> str:
    """Format the outcome and amounts, who decided it and why, and notes, as markdown for the Web UI."""
    difference = f"difference {settlement.difference_usd} USD" if settlement.difference_usd else None
    total = f"total {settlement.total_usd} USD" if settlement.total_usd else None
    facts = [f"**{_OUTCOMES[settlement.outcome]}**", total, difference, settlement.state]
    notes = [f"{describe_correction(correction)}: {quote(correction.reason)}"]
    if settlement.outcome == "pending" and settlement.reason:
        notes.append(f"**Reason:** {quote(settlement.reason)}")
    if settlement.superseded_by:
        notes.append(f"**Note:** corrected again since, by entry {settlement.superseded_by}")
    return "\n\n".join([" · ".join(filter(None, facts)), *notes])


def describe_end(message: str) -> str:
    """Format a refusal for the Web UI: nothing was written."""
    return f"**Refused: nothing was written**\n\n**Reason:** {quote(message)}"


@workflow.defn(name=names.RECONCILIATION)
class Reconciliation:
    """One correction of one run's bill. It is idempotent: the ledger writes the same correction once."""

    @workflow.run
    async def run(self, correction_json: RawValue = NOTHING) -> Settlement:
        """Make one `Correction`, given as JSON of unknown origin.

        Raises:
            ApplicationError: type `RequestRefused` if it is not valid, `CorrectionRefused` if it would be wrong.
        """
        correction = self._read(read_argument(correction_json))
        self._set_search_attribute(names.TENANT.value_set(correction.tenant))
        workflow.set_current_details(describe_correction(correction))
        # After a cancellation the entry is written all the same, and the page says so.
        settlement = await run_shielded(self._settle(correction))
        self._set_search_attribute(names.BILLING_STATE.value_set(settlement.state))
        workflow.set_current_details(describe_settlement(correction, settlement))
        return settlement

    def _read(self, payload: Any) -> Correction:
        try:
            return parse(Correction, payload, "correction")
        except InvalidPayload as error:
            workflow.set_current_details(describe_end(str(error)))
            raise ApplicationError(str(error), type=names.REQUEST_REFUSED, non_retryable=True) from None

    async def _settle(self, correction: Correction) -> Settlement:
        try:
            settlement: Settlement = await workflow.execute_activity(
                names.SETTLE_RUN,
                correction,
                result_type=Settlement,
                start_to_close_timeout=policies.MONEY_ATTEMPT,
                retry_policy=policies.MONEY_RETRY,
                summary=describe_correction(correction),
            )
        except ActivityError as error:
            raise self._refused_error(error) from None
        return settlement

    def _refused_error(self, error: ActivityError) -> ApplicationError:
        """Return the activity's refusal as the workflow's own, so that it is the first error an operator sees."""
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else str(error.cause or error)
        kind = (cause.type if cause else None) or type(error.cause or error).__name__
        workflow.set_current_details(describe_end(message))
        return ApplicationError(message, type=kind, non_retryable=True)

    def _set_search_attribute(self, update: SearchAttributeUpdate[Any]) -> None:
        """Set a search attribute, unless the starter has set it already."""
        if workflow.info().typed_search_attributes.get(update.key) != update.value:
            workflow.upsert_search_attributes([update])
