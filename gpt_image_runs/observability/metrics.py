"""Serve metrics for Prometheus from the SDK's runtime, whose meter our own metrics use too."""

from collections.abc import Mapping, Sequence

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

_SDK_BUCKETS: Mapping[str, Sequence[float]] = {
    # The defaults end at a minute. A call takes up to 11 minutes; a run may wait hours for a decision.
    "temporal_activity_execution_latency": (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 660),
    "temporal_activity_succeed_endtoend_latency": (0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 660, 3600, 21600),
    "temporal_activity_schedule_to_start_latency": (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 3600),
    "temporal_workflow_endtoend_latency": (0.1, 0.5, 1, 5, 10, 30, 60, 300, 660, 3600, 21600),
}


class MetricsUnavailable(Exception):
    """The metrics cannot be served at METRICS_ADDRESS; the message says what to do."""


def serve_metrics(address: str, buckets: Mapping[str, Sequence[float]]) -> Runtime:
    """Create a runtime that serves metrics at `http://ADDRESS/metrics` until the process ends.

    Use it for clients and workers. `buckets` are those of our own histograms, by name, in seconds.

    Raises:
        MetricsUnavailable: the port is taken, or this host does not have the address.
    """
    endpoint = PrometheusConfig(
        bind_address=address,
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides={**_SDK_BUCKETS, **buckets},
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=endpoint))
    except ValueError as error:
        cause = str(error).rpartition(": ")[2]
        raise MetricsUnavailable(
            f"METRICS_ADDRESS is {address}, and metrics cannot be served there ({cause})."
            " Give each worker on a host its own free port, at an address of this host."
        ) from error


def find_meter(client: Client) -> MetricMeter:
    """Return the meter of a client's runtime. It counts nothing if metrics are not served."""
    runtime = client.service_client.config.runtime
    return runtime.metric_meter if runtime else MetricMeter.noop
