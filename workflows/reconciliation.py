"""The workflow of one correction of a run's bill: it makes the decision of a person durable, and visible in the Web UI."""

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.corrections import Correction, MalformedCorrection, Settlement, read_correction
    from workflows import policies
    from workflows.arguments import NOTHING, read_argument
    from workflows.cancellation import finish_despite_cancellation
    from workflows.correction_details import describe_correction, describe_end, describe_settlement


@workflow.defn(name=names.RECONCILIATION)
class Reconciliation:
    """One correction of one run. It is idempotent: the ledger writes the same correction once, and finds it again."""

    @workflow.run
    async def run(self, correction_json: RawValue = NOTHING) -> Settlement:
        """Carries out one `Correction`: one argument, as JSON that anybody may have sent.

        Raises:
            ApplicationError: type `RequestRefused` where it cannot be read, `CorrectionRefused` where it would not be true.
        """
        correction = self._read(read_argument(correction_json))
        self._index(names.TENANT.value_set(correction.tenant))
        workflow.set_current_details(describe_correction(correction))
        # Whoever cancels must not be left to wonder whether the entry was written: it is, and the page says so.
        settlement = await finish_despite_cancellation(self._settle(correction))
        self._index(names.BILLING_STATE.value_set(settlement.state))
        workflow.set_current_details(describe_settlement(correction, settlement))
        return settlement

    def _read(self, payload: Any) -> Correction:
        try:
            return read_correction(payload)
        except MalformedCorrection as error:
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
            raise self._failure(error) from None
        return settlement

    def _failure(self, error: ActivityError) -> ApplicationError:
        """The activity's refusal as the workflow's own: where an operator looks first."""
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else str(error.cause or error)
        kind = (cause.type if cause else None) or type(error.cause or error).__name__
        workflow.set_current_details(describe_end(message))
        return ApplicationError(message, type=kind, non_retryable=True)

    def _index(self, update: SearchAttributeUpdate[Any]) -> None:
        """Sets a search attribute, unless the starter has set it already."""
        if workflow.info().typed_search_attributes.get(update.key) != update.value:
            workflow.upsert_search_attributes([update])
