"""The endpoint that Prometheus reads: opened by the SDK's own runtime, which counts for itself and lends its meter to us.

Which numbers there are is not known here.
"""

from collections.abc import Mapping, Sequence

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

_SDK_BUCKETS: Mapping[str, Sequence[float]] = {
    # By default these end at a minute. A call takes up to 11 minutes, a run as long as somebody takes to decide.
    "temporal_activity_execution_latency": (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 660),
    "temporal_activity_succeed_endtoend_latency": (0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 660, 3600, 21600),
    "temporal_activity_schedule_to_start_latency": (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 3600),
    "temporal_workflow_endtoend_latency": (0.1, 0.5, 1, 5, 10, 30, 60, 300, 660, 3600, 21600),
}


class MetricsUnavailable(Exception):
    """The metrics cannot be served where METRICS_ADDRESS says, as a sentence that says what to do."""


def serve_metrics(address: str, buckets: Mapping[str, Sequence[float]]) -> Runtime:
    """A runtime for clients and workers whose metrics are served at `http://ADDRESS/metrics` until the process ends.

    `buckets` are those of histograms of ours, by name, in seconds.

    Raises:
        MetricsUnavailable: another program has the port, or the address is none of this host.
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
            " Each worker on a host needs a free port of its own, at an address of this host."
        ) from error


def find_meter(client: Client) -> MetricMeter:
    """The meter of the runtime that a client was connected with: it counts nothing where metrics are not served."""
    runtime = client.service_client.config.runtime
    return runtime.metric_meter if runtime else MetricMeter.noop
