"""A collector for tests: real HTTP on loopback, which reads what arrives by OpenTelemetry's own protobuf. No test here."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Received:
    """One span, and the name of the service that sent it. Ids are in hexadecimal, as in log lines."""

    service: str
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value") or "string_value")
            for attribute in self.span.attributes
        }


@dataclass
class Collector:
    """What has arrived so far."""

    endpoint: str = ""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Received]:
        """All spans, in the order in which they began."""
        return sorted(self._read(), key=lambda received: received.span.start_time_unix_nano)

    def of_run(self, run_id: str) -> list[Received]:
        """List the spans with a run's id."""
        return [span for span in self.spans if span.attributes.get("workflow_id") == run_id]

    def _read(self) -> Iterator[Received]:
        for body in self.bodies:
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {item.key: item.value.string_value for item in part.resource.attributes}
                for scope in part.scope_spans:
                    yield from (Received(resource["service.name"], span) for span in scope.spans)

    async def take(self, request: web.Request) -> web.Response:
        """Answer as a collector does."""
        self.bodies.append(await request.read())
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


@asynccontextmanager
async def run_collector() -> AsyncIterator[Collector]:
    """Run a collector on a free port."""
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
