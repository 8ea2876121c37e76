"""The Nexus service `ImageRuns`: each operation starts a workflow for a caller in another namespace.

Requests are passed on unparsed, so that the workflow refuses an invalid one with its problems, and no converter does.
"""

from typing import Any

from nexusrpc.handler import service_handler
from temporalio import nexus
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.client.runs import compare_content
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.result import RunResult


@service_handler(name=names.NEXUS_SERVICE)
class ImageRunsHandler:
    """Starts workflows on the task queue that received the operation. Callers use `gpt_image_runs.contracts.nexus`."""

    @nexus.workflow_run_operation(name="generate")
    async def generate(
        self, ctx: nexus.WorkflowRunOperationContext, request: Any
    ) -> nexus.WorkflowHandle[RunResult]:
        """Start the run of this request or attach to it. A run that is over starts again and finds what was paid.

        Other content may be under way with the same request id. The operation then waits in a workflow of its own until
        that has ended, and the ledger decides whose request id it is.
        """
        run_id = _find_run_id(request, ctx.request_id)
        if await _is_other_content(request, run_id):
            run_id = f"{names.NEXUS_PREFIX}{ctx.request_id}"
        return await ctx.start_workflow(
            names.WORKFLOW,
            request,
            id=run_id,
            result_type=RunResult,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )

    @nexus.workflow_run_operation(name="quote")
    async def quote(
        self, ctx: nexus.WorkflowRunOperationContext, request: Any
    ) -> nexus.WorkflowHandle[Quote]:
        """Quote what this request would cost. Nothing is sent."""
        return await ctx.start_workflow(
            names.PRICE_QUOTE, request, id=f"quote:{ctx.request_id}", result_type=Quote
        )


def _find_run_id(payload: Any, operation_id: str) -> str:
    """Return the run's id, by default with the operation's id, which is the same in Nexus's retries."""
    request = read_request(payload).sound
    tenant = request.tenant if request else "default"
    return names.run_id_for(tenant, (request and request.request_id) or operation_id)


async def _is_other_content(payload: Any, run_id: str) -> bool:
    """Check whether an execution of this id is under way with other content than the request's."""
    request = read_request(payload).sound
    if request is None:
        return False
    try:
        described = await nexus.client().get_workflow_handle(run_id).describe()
        if described.status is not WorkflowExecutionStatus.RUNNING:
            return False
        return not (await compare_content(nexus.client(), described, request, run_id)).is_same
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
