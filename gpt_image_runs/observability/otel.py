"""Export spans to a collector. Imported only if one is configured; OpenTelemetry reads its own `OTEL_*` variables.

A span has names, numbers and ids. Error texts may quote a prompt, so they are never exported: a failure has its type,
an exception nothing. An unreachable collector costs spans but never time: spans wait in a bounded queue and are sent
by a separate thread.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from temporalio import activity, client, worker
from temporalio.client import Interceptor
from temporalio.contrib.opentelemetry import OpenTelemetryInterceptor, create_tracer_provider
from temporalio.exceptions import ApplicationError

from gpt_image_runs.observability.tracing import Attributes, SetAttributes

WORKFLOW_ID = "workflow_id"
RUN_ID = "run_id"
ERROR_TYPE = "error.type"


class StartTraces(client.Interceptor):
    """Starts a new trace, linked to the batch's, for a run that a batch starts.

    A single trace of 100,000 runs would be useless.
    """

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:  # noqa: A002 - the SDK's name
        return _StartTracesOutbound(next)


class _StartTracesOutbound(client.OutboundInterceptor):
    async def start_workflow(self, input: client.StartWorkflowInput) -> client.WorkflowHandle[Any, Any]:  # noqa: A002 - the SDK's name
        if not activity.in_activity():
            _set_caller_workflow_id(input.id)
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


def _set_caller_workflow_id(workflow_id: str) -> None:
    """Add the run's id to the span around its start, such as that of a Nexus operation."""
    caller = trace.get_current_span()
    if caller.is_recording() and WORKFLOW_ID not in (getattr(caller, "attributes", None) or {}):
        caller.set_attribute(WORKFLOW_ID, workflow_id)


class RecordFailureTypes(client.Interceptor, worker.Interceptor):
    """Records a failure's type, as in `docs/reference/failures.md`, on the failing span. Never its text."""

    def intercept_activity(
        self,
        next: worker.ActivityInboundInterceptor,  # noqa: A002 - the SDK's name
    ) -> worker.ActivityInboundInterceptor:
        return _RecordActivityFailures(next)

    def workflow_interceptor_class(
        self, _input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        return _RecordWorkflowFailures


class _RecordActivityFailures(worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:  # noqa: A002 - the SDK's name
        with _recording_failure_type():
            return await super().execute_activity(input)


class _RecordWorkflowFailures(worker.WorkflowInboundInterceptor):
    async def execute_workflow(self, input: worker.ExecuteWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
        with _recording_failure_type():
            return await super().execute_workflow(input)


@contextmanager
def _recording_failure_type() -> Iterator[None]:
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        kind = error.type if isinstance(error, ApplicationError) else None
        trace.get_current_span().set_attribute(ERROR_TYPE, kind or type(error).__name__)
        raise


_SDK_NAMES = {"temporalWorkflowID": WORKFLOW_ID, "temporalRunID": RUN_ID}
# A command polls its run's status twice a second.
_POLLING_SPANS = ("QueryWorkflow:", "HandleQuery:")

# The standard library's logger, so that the command line, which writes no logs, can silence it by name.
log = logging.getLogger("gpt_image_runs.observability.tracing")


class TraceExport:
    """The traces of this process, from its construction on."""

    def __init__(self, service: str) -> None:
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        self._delivery = _ReportingExporter()
        # The SDK's own flush at exit has no timeout.
        self._provider = create_tracer_provider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(_RedactingProcessor(BatchSpanProcessor(self._delivery)))
        trace.set_tracer_provider(self._provider)
        self.interceptors: list[Interceptor] = [
            StartTraces(),
            OpenTelemetryInterceptor(add_temporal_spans=True),
            RecordFailureTypes(),
        ]

    def get_span_ids(self) -> dict[str, str]:
        """Return the current trace id and span id, in hexadecimal."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }

    @contextmanager
    def calling(self, name: str, attributes: Attributes) -> Iterator[SetAttributes]:
        """Run the block in a span of kind client, which ends as an error if the block raises."""
        tracer = trace.get_tracer(__name__)
        with tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
        ) as span:
            yield span.set_attributes

    def end(self, patience_seconds: float) -> bool:
        """Send the remaining spans. Return whether they arrived, False if unknown after `patience_seconds`."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(patience_seconds)
        return not ending.is_alive() and self._delivery.is_delivering


class _RedactingProcessor(SpanProcessor):
    """Gives each span the ids that log lines have, and passes it on without texts."""

    def __init__(self, next_processor: BatchSpanProcessor) -> None:
        self._next_processor = next_processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        own = span.attributes or {}
        parent = getattr(trace.get_current_span(parent_context), "attributes", None) or {}
        for sdk_name, name in _SDK_NAMES.items():
            value = own.get(name) or own.get(sdk_name) or parent.get(name)
            if value:
                span.set_attribute(name, value)

    def on_end(self, span: ReadableSpan) -> None:
        if not span.name.startswith(_POLLING_SPANS):
            self._next_processor.on_end(_redact(span))

    def shutdown(self) -> None:
        self._next_processor.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._next_processor.force_flush(timeout_millis)


def _redact(span: ReadableSpan) -> ReadableSpan:
    """Return the span without events, which hold messages and stack traces. Its status is the failure's type."""
    attributes = dict(span.attributes or {})
    failed = span.status.status_code is StatusCode.ERROR
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        links=span.links,
        kind=span.kind,
        status=Status(StatusCode.ERROR, str(attributes.get(ERROR_TYPE, ""))) if failed else Status(),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


class _ReportingExporter(SpanExporter):
    """Exports spans, and logs once when the collector becomes unreachable and once when it is back."""

    def __init__(self) -> None:
        self.is_delivering = True
        self._reason = ""
        # The SDK logs each failed try here. The first message of an export is the reason.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._capture_reason)
        self._exporter = OTLPSpanExporter()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reason = ""
        result = self._exporter.export(spans)
        arrived = result is SpanExportResult.SUCCESS
        if self.is_delivering and not arrived:
            log.warning(
                "traces_not_delivered",
                extra={"reason": self._reason},
            )
        elif arrived and not self.is_delivering:
            log.info("traces_delivered_again")
        self.is_delivering = arrived
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _capture_reason(self, record: logging.LogRecord) -> bool:
        self._reason = self._reason or record.getMessage()
        return False
