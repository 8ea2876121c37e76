"""What traces need of Temporal's calls beyond the SDK's own interceptor, which stands between these two.

Both only look: with them and without, a workflow's commands are the same.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind
from temporalio import activity, client, worker
from temporalio.exceptions import ApplicationError

WORKFLOW_ID = "workflow_id"
RUN_ID = "run_id"
ERROR_TYPE = "error.type"


class BeginTraces(client.Interceptor):
    """A run that a batch starts begins a trace of its own, linked to the batch's: 100,000 runs in one trace show nothing."""

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:  # noqa: A002 - the SDK's name
        return _Begin(next)


class _Begin(client.OutboundInterceptor):
    async def start_workflow(self, input: client.StartWorkflowInput) -> client.WorkflowHandle[Any, Any]:  # noqa: A002 - the SDK's name
        if not activity.in_activity():
            _name_caller(input.id)
            return await super().start_workflow(input)
        batch = Link(trace.get_current_span().get_span_context())
        tracer = trace.get_tracer(__name__)
        with tracer.start_as_current_span(
            "StartFromBatch",
            context=Context(),
            kind=SpanKind.PRODUCER,
            attributes={WORKFLOW_ID: input.id},
            links=[batch],
            record_exception=False,
        ):
            return await super().start_workflow(input)


def _name_caller(workflow_id: str) -> None:
    """The span around a start, such as that of a Nexus operation, learns here which run it is about."""
    caller = trace.get_current_span()
    if caller.is_recording() and WORKFLOW_ID not in (getattr(caller, "attributes", None) or {}):
        caller.set_attribute(WORKFLOW_ID, workflow_id)


class NameFailures(client.Interceptor, worker.Interceptor):
    """Notes the type of a failure, as operators know it (`docs/operate.md`), on the span that fails. Never its text."""

    def intercept_activity(
        self,
        next: worker.ActivityInboundInterceptor,  # noqa: A002 - the SDK's name
    ) -> worker.ActivityInboundInterceptor:
        return _NameActivityFailures(next)

    def workflow_interceptor_class(
        self, _input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        return _NameWorkflowFailures


class _NameActivityFailures(worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's name
        with _naming_failures():
            return await super().execute_activity(input)


class _NameWorkflowFailures(worker.WorkflowInboundInterceptor):
    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
        with _naming_failures():
            return await super().execute_workflow(input)


@contextmanager
def _naming_failures() -> Iterator[None]:
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        kind = error.type if isinstance(error, ApplicationError) else None
        trace.get_current_span().set_attribute(ERROR_TYPE, kind or type(error).__name__)
        raise
