"""Traces for OpenTelemetry: where a collector is named (`OTEL_EXPORTER_OTLP_ENDPOINT`), and nothing at all where none is.

Then OpenTelemetry is not even imported. What leaves the process, and what never does, is in `gpt_image_runs.observability.otel`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

Attributes = Mapping[str, str | int]
Note = Callable[[Attributes], None]
"""Tells a span that has begun of what has become known since."""


# The command line's front door loads this file before it knows whether a command needs anything of these.
if TYPE_CHECKING:
    from temporalio.client import Interceptor

    from gpt_image_runs.observability.otel import TraceExport
    from gpt_image_runs.settings import Settings

_export: "TraceExport | None" = None


def begin_tracing(settings: "Settings", service: str) -> None:
    """Exports this process's spans from now on, where the settings name a collector. `service` is its name by default.

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
    """Sends what is left, for at most so long; returns whether the collector took it. For the end of a process."""
    return _export is None or _export.end(patience_seconds)


def list_interceptors() -> "list[Interceptor]":
    """What a Temporal client needs so that traces go through workflows and activities; workers take it from the client."""
    return _export.interceptors if _export else []


def name_span() -> dict[str, str]:
    """The trace and the span that this code runs in, by the names of log lines; empty where it runs in none."""
    return _export.name_span() if _export else {}


@contextmanager
def calling(name: str, attributes: Attributes) -> Iterator[Note]:
    """A span around a call to another server. The block is given what notes further attributes as they become known."""
    if _export is None:
        yield _forget
        return
    with _export.calling(name, attributes) as note:
        yield note


def _forget(_attributes: Attributes) -> None:
    pass
