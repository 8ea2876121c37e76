"""The workflow that quotes a request: its check and its price. Nothing is sent."""

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.calls import Admission, CheckInput
    from gpt_image_runs.contracts.problems import describe_problems
    from gpt_image_runs.contracts.quote import Quote, QuoteInput
    from gpt_image_runs.contracts.request import ImageRequest
    from gpt_image_runs.contracts.request_parsing import read_request
    from workflows import retry_policies as policies
    from workflows.payloads import NOTHING, read_request_argument

# The id that the check is given: a quote has no run, and its request needs no request id.
_NO_RUN = "quote"


@workflow.defn(name=names.PRICE_QUOTE)
class PriceQuote:
    """Quotes what one image request would cost now."""

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> Quote:
        """Quote one `ImageRequest`, given as JSON of unknown origin.

        Raises:
            ApplicationError: type `RequestRefused`, with the problems that its run would have as details.
        """
        payload = read_request_argument(request_json)
        request, problems, _ = read_request(payload)
        admission = await self._check(payload)
        if request is None or admission.problems:
            refused = admission.problems or problems
            raise ApplicationError(
                describe_problems(refused), *refused, type=names.REQUEST_REFUSED, non_retryable=True
            )
        return await self._quote(request, admission)

    async def _check(self, payload: Any) -> Admission:
        admission: Admission = await workflow.execute_local_activity(
            names.CHECK_REQUEST,
            CheckInput(payload=payload, workflow_id=_NO_RUN),
            result_type=Admission,
            start_to_close_timeout=policies.CHECK_ATTEMPT,
            retry_policy=policies.CHECK_RETRY,
        )
        return admission

    async def _quote(self, request: ImageRequest, admission: Admission) -> Quote:
        quote: Quote = await workflow.execute_local_activity(
            names.QUOTE_PRICE,
            QuoteInput(
                request=request,
                model=admission.model,
                provider=admission.provider,
                warnings=admission.warnings,
            ),
            result_type=Quote,
            start_to_close_timeout=policies.CHECK_ATTEMPT,
            retry_policy=policies.CHECK_RETRY,
        )
        return quote
