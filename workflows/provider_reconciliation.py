"""The workflow that compares a day with the provider's own reports, started by a person or by a daily schedule."""

from datetime import date, timedelta

from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.provider_reconciliation import ComparisonOrder, ComparisonSummary
    from workflows import retry_policies as policies
    from workflows.payloads import NOTHING, read_argument


def describe_comparison(summary: ComparisonSummary) -> str:
    """Format a comparison as markdown for the Web UI."""
    return (
        f"**{summary.day}: {summary.verdict}**\n\n| | requests | USD |\n|---|---|---|\n"
        f"| this ledger, at list price | {summary.requests} (and {summary.unknown} unknown) | {summary.list_cost_usd} |\n"
        f"| the provider | {summary.provider_requests} | {summary.provider_cost_usd} |\n"
        f"| difference | {summary.provider_requests - summary.requests} | {summary.difference_usd} |\n\n"
        f"The whole comparison is in the ledger: {summary.comparison_id}"
    )


_SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
ORDER_REFUSED = "OrderRefused"


@workflow.defn(name=names.PROVIDER_RECONCILIATION)
class ProviderReconciliation:
    """One comparison of one day. Each is recorded in the ledger, even if the day was compared before."""

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> ComparisonSummary:
        """Compare the day of a `ComparisonOrder`, by default yesterday (UTC).

        Raises:
            ApplicationError: the order is not valid, or the provider's reports cannot be read.
        """
        order = self._read_order(order_json)
        order = order.model_copy(update={"day": order.day or self._day_before()})
        try:
            summary: ComparisonSummary = await workflow.execute_activity(
                names.RECONCILE_PROVIDER,
                order,
                result_type=ComparisonSummary,
                start_to_close_timeout=policies.BOOKS_ATTEMPT,
                schedule_to_close_timeout=policies.BOOKS_IN_ALL,
                retry_policy=policies.BOOKS_RETRY,
                summary=f"{order.day} beside the provider's books",
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise self._comparison_error(error) from None
        workflow.set_current_details(describe_comparison(summary))
        return summary

    def _read_order(self, order_json: RawValue) -> ComparisonOrder:
        try:
            given = read_argument(order_json)
            return ComparisonOrder.model_validate({} if given is None else given)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'order'}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
            raise ApplicationError(
                f"This is not a valid comparison order: {problems}. Allowed are day, project_id and api_key_id.",
                type=ORDER_REFUSED,
                non_retryable=True,
            ) from None

    def _day_before(self) -> date:
        """Return the day before the scheduled start, even if the run is late; without a schedule, yesterday."""
        scheduled = workflow.info().typed_search_attributes.get(_SCHEDULED_AT)
        return (scheduled or workflow.now()).date() - timedelta(days=1)

    def _comparison_error(self, error: ActivityError) -> ApplicationError:
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else f"The day could not be compared: {error.cause or error}"
        return ApplicationError(
            message, type=(cause.type if cause else None) or type(error.cause).__name__, non_retryable=True
        )
