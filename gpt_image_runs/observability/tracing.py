"""Trace with OpenTelemetry if a collector is configured (`OTEL_EXPORTER_OTLP_ENDPOINT`), otherwise do nothing.

Without a collector OpenTelemetry is not even imported. `gpt_image_runs.observability.otel` says what is exported.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

Attributes = Mapping[str, str | int]
# Sets attributes of a started span that become known later.
SetAttributes = Callable[[Attributes], None]


# Imported for types only: the command line loads this module at start, before it knows what a command needs.
if TYPE_CHECKING:
    from temporalio.client import Interceptor

    from gpt_image_runs.observability.otel import TraceExport
    from gpt_image_runs.settings import Settings

_export: "TraceExport | None" = None


def begin_tracing(settings: "Settings", service: str) -> None:
    """Export this process's spans from now on, if a collector is configured.

    `service` is the default of the service's name.

    Raises:
        SettingsError: OpenTelemetry cannot use one of its own variables.
    """
    global _export  # noqa: PLW0603 - OpenTelemetry's own provider is one for a process
    if settings.exports_traces() and _export is None:
        from gpt_image_runs.settings import SettingsError  # noqa: PLC0415 - the exporter is loaded only where traces are on

        try:
            from gpt_image_runs.observability.otel import TraceExport  # noqa: PLC0415 - the exporter is loaded only where traces are on

            _export = TraceExport(service)
        except ValueError as error:
            raise SettingsError(f"An OTEL_* variable cannot be used: {str(error).rstrip('.')}.") from error


def end_tracing(patience_seconds: float) -> bool:
    """Send the remaining spans before the process ends. Return whether the collector took them in time."""
    return _export is None or _export.end(patience_seconds)


def list_interceptors() -> "list[Interceptor]":
    """Return the interceptors for a Temporal client, which its workers inherit."""
    return _export.interceptors if _export else []


def get_span_ids() -> dict[str, str]:
    """Return the current trace and span id by the names of log fields, empty outside of a span."""
    return _export.get_span_ids() if _export else {}


@contextmanager
def calling(name: str, attributes: Attributes) -> Iterator[SetAttributes]:
    """Run the block in a span around a call to another server. Yields a function that sets attributes."""
    if _export is None:
        yield _ignore
        return
    with _export.calling(name, attributes) as note:
        yield note


def _ignore(_attributes: Attributes) -> None:
    pass
