"""Connect to Temporal: by the SDK's own settings, or to the embedded server of this directory."""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.exceptions import ApplicationError
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.client.connection_failures import explain_connection_failure
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.observability.tracing import list_interceptors
from gpt_image_runs.temporal.stack_file import Stack, read_stack_file


class WordsOfFailures(DefaultFailureConverter):
    """Drops the stack trace of each `ApplicationError`, which was raised on purpose with a helpful message.

    Its stack trace would be a third of a failed run's history and does not help its reader. Any other exception is
    unexpected and keeps its trace.
    """

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Encode an exception as a failure. See the base class."""
        super().to_failure(exception, payload_converter, failure)
        # A failure that was received from elsewhere is passed on unchanged.
        if isinstance(exception, ApplicationError) and exception.failure is None:
            failure.ClearField("stack_trace")


DATA_CONVERTER = dataclasses.replace(pydantic_data_converter, failure_converter_class=WordsOfFailures)


# A running server responds in milliseconds, Temporal Cloud in a second; another program on its port may never respond.
_PATIENCE_SECONDS = 10.0


async def connect_to_temporal(
    data_dir: Path,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
    runtime: Runtime | None = None,
    identity: str | None = None,
) -> Client:
    """Connect to the configured server: `TEMPORAL_*` if set, otherwise the embedded stack of `data_dir`.

    `runtime` is one that serves metrics (`gpt_image_runs.observability.metrics`), `identity` is shown by Temporal for a
    worker.

    Raises:
        TemporalUnavailable: no server is configured, it does not respond in time, or the settings cannot be used.
    """
    config = _load_config(data_dir)
    return await _connect(config, patience_seconds, runtime, identity)


def _load_config(data_dir: Path) -> ClientConnectConfig:
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise TemporalUnavailable(f"The TEMPORAL_* settings cannot be used: {error}") from error
    if config.get("target_host"):
        return config
    stack = read_stack_file(data_dir)
    if stack is None:
        # Not the SDK's default, localhost:7233, because a server there may belong to another ledger.
        raise TemporalUnavailable(
            f"No Temporal server is named, and no embedded stack runs for DATA_DIR {data_dir.resolve()}."
            " Start one with `make up`, or set TEMPORAL_ADDRESS to a server of yours, such as localhost:7233."
        )
    config["target_host"] = stack.temporal_address
    return config


async def connect_to_stack(stack: Stack) -> Client:
    """Connect to the server of an embedded stack, ignoring `TEMPORAL_*`.

    Raises:
        TemporalUnavailable: it does not respond.
    """
    return await _connect({"target_host": stack.temporal_address}, _PATIENCE_SECONDS)


async def _connect(
    config: ClientConnectConfig,
    patience_seconds: float,
    runtime: Runtime | None = None,
    identity: str | None = None,
) -> Client:
    try:
        async with asyncio.timeout(patience_seconds):
            return await Client.connect(
                **config,
                data_converter=DATA_CONVERTER,
                interceptors=list_interceptors(),
                runtime=runtime,
                identity=identity,
            )
    except (RuntimeError, ValueError, RPCError, TimeoutError) as error:
        raise TemporalUnavailable(await explain_connection_failure(config, error)) from error


async def has_pollers(client: Client, queues: Sequence[str]) -> bool:
    """Return whether each of these task queues is polled by a worker."""
    kinds = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    for queue in queues:
        polled = False
        for kind in kinds:
            request = DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            )
            polled = polled or bool((await client.workflow_service.describe_task_queue(request)).pollers)
        if not polled:
            return False
    return True


async def create_nexus_endpoint(client: Client, name: str, task_queue: str) -> None:
    """Create a Nexus endpoint for a task queue of the client's namespace, unless its name exists."""
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=client.namespace, task_queue=task_queue))
    request = CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    try:
        await client.operator_service.create_nexus_endpoint(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
