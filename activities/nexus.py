"""The Nexus service `ImageRuns`: each operation is a workflow of ours, started for a caller in another namespace.

What is asked comes as it is: a wrong request is then refused by the workflow, with its problems, and not by a converter.
"""

from typing import Any

from nexusrpc.handler import service_handler
from temporalio import nexus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.result import RunResult


@service_handler(name=names.NEXUS_SERVICE)
class ImageRunsHandler:
    """Starts workflows on the task queue on which it is asked. Typed for callers in `gpt_image_runs.contracts.nexus`."""

    @nexus.workflow_run_operation(name="generate")
    async def generate(
        self, ctx: nexus.WorkflowRunOperationContext, request: Any
    ) -> nexus.WorkflowHandle[RunResult]:
        """The run of this request, begun or attached to; one that is over is begun again and finds what was paid."""
        return await ctx.start_workflow(
            names.WORKFLOW,
            request,
            id=_find_run_id(request, ctx.request_id),
            result_type=RunResult,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )

    @nexus.workflow_run_operation(name="quote")
    async def quote(
        self, ctx: nexus.WorkflowRunOperationContext, request: Any
    ) -> nexus.WorkflowHandle[Quote]:
        """What this request would cost. Nothing is started for it."""
        return await ctx.start_workflow(
            names.PRICE_QUOTE, request, id=f"quote:{ctx.request_id}", result_type=Quote
        )


def _find_run_id(payload: Any, operation_id: str) -> str:
    """The id of the run. Without a request id it is the operation's, which Nexus repeats when it asks again."""
    request = read_request(payload).sound
    tenant = request.tenant if request else "default"
    return names.run_id_for(tenant, (request and request.request_id) or operation_id)
