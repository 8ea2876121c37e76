"""Spans on their way to a collector. Imported only where one is named; OpenTelemetry reads its own variables (`OTEL_*`).

A span holds names, numbers and ids. The text of an error may quote a prompt, so no span has one: of a failure its type is
exported, and of an exception nothing. A collector that is away costs spans, never time: they wait in a bounded queue and are
sent by a thread of their own.
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

from gpt_image_runs.observability.tracing import Attributes, Note

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


_SDK_NAMES = {"temporalWorkflowID": WORKFLOW_ID, "temporalRunID": RUN_ID}
# A command asks twice a second where its run is.
_LOOKS = ("QueryWorkflow:", "HandleQuery:")

# The standard library's: a command line writes no log, and keeps this one off its streams by the name.
log = logging.getLogger("gpt_image_runs.observability.tracing")


class TraceExport:
    """The traces of this process, from its construction on."""

    def __init__(self, service: str) -> None:
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        self._delivery = _Delivery()
        # The SDK's own flush at exit takes as long as it takes.
        self._provider = create_tracer_provider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(_OnlyWhatMayLeave(BatchSpanProcessor(self._delivery)))
        trace.set_tracer_provider(self._provider)
        self.interceptors: list[Interceptor] = [
            BeginTraces(),
            OpenTelemetryInterceptor(add_temporal_spans=True),
            NameFailures(),
        ]

    def name_span(self) -> dict[str, str]:
        """The current trace and span, in hexadecimal."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }

    @contextmanager
    def calling(self, name: str, attributes: Attributes) -> Iterator[Note]:
        """A span of kind client, which ends as an error where the block raises."""
        tracer = trace.get_tracer(__name__)
        with tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
        ) as span:
            yield span.set_attributes

    def end(self, patience_seconds: float) -> bool:
        """Sends what is left. Whether it arrived; False too where that is not known when the patience is over."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(patience_seconds)
        return not ending.is_alive() and self._delivery.arrives


class _OnlyWhatMayLeave(SpanProcessor):
    """Gives each span the ids that log lines have, and passes it on without texts."""

    def __init__(self, onward: BatchSpanProcessor) -> None:
        self._onward = onward

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        own = span.attributes or {}
        parent = getattr(trace.get_current_span(parent_context), "attributes", None) or {}
        for sdk_name, name in _SDK_NAMES.items():
            value = own.get(name) or own.get(sdk_name) or parent.get(name)
            if value:
                span.set_attribute(name, value)

    def on_end(self, span: ReadableSpan) -> None:
        if not span.name.startswith(_LOOKS):
            self._onward.on_end(_without_texts(span))

    def shutdown(self) -> None:
        self._onward.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._onward.force_flush(timeout_millis)


def _without_texts(span: ReadableSpan) -> ReadableSpan:
    """The same span without events, which hold messages and stack traces; its status says the type of the failure."""
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


class _Delivery(SpanExporter):
    """The exporter, and one line when the collector goes away and one when it is back: not one for each batch of spans."""

    def __init__(self) -> None:
        self.arrives = True
        self._told = ""
        # Where the SDK tells each failed try. Its first words since the last success say why.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._keep_reason)
        self._exporter = OTLPSpanExporter()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._told = ""
        result = self._exporter.export(spans)
        arrived = result is SpanExportResult.SUCCESS
        if self.arrives and not arrived:
            log.warning(
                "Traces do not reach OTEL_EXPORTER_OTLP_ENDPOINT, and spans are lost.",
                extra={"reason": self._told},
            )
        elif arrived and not self.arrives:
            log.info("Traces reach the collector again.")
        self.arrives = arrived
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _keep_reason(self, record: logging.LogRecord) -> bool:
        self._told = self._told or record.getMessage()
        return False
