"""The connection to Temporal: the SDK's own settings, or the embedded server of this directory."""

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
    """Drops the stack trace of each `ApplicationError`: it was raised on purpose, with a sentence that says what to do.

    Where that was raised in the code is nothing for the page of a run, and a third of a failed run's history. Anything
    else that is raised was not foreseen, and keeps its trace.
    """

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Writes an exception as a failure. See the base class."""
        super().to_failure(exception, payload_converter, failure)
        # One that came from elsewhere is passed on as it came.
        if isinstance(exception, ApplicationError) and exception.failure is None:
            failure.ClearField("stack_trace")


DATA_CONVERTER = dataclasses.replace(pydantic_data_converter, failure_converter_class=WordsOfFailures)


# A server that is there answers in milliseconds, Temporal Cloud in one second; whoever stands on its port may never.
_PATIENCE_SECONDS = 10.0


async def connect_to_temporal(
    data_dir: Path,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
    runtime: Runtime | None = None,
    identity: str | None = None,
) -> Client:
    """A client for the configured server: `TEMPORAL_*` where set, else the embedded stack of `data_dir`.

    `runtime` is one that serves metrics (`gpt_image_runs.observability.metrics`), `identity` what Temporal shows of a worker.

    Raises:
        TemporalUnavailable: no server is named, nothing answers there in time, or the settings cannot be used.
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
        # Not the SDK's default, localhost:7233: whatever listens there may belong to another ledger.
        raise TemporalUnavailable(
            f"No Temporal server is named, and no embedded stack runs for DATA_DIR {data_dir.resolve()}."
            " Start one with `make up`, or set TEMPORAL_ADDRESS to a server of yours, such as localhost:7233."
        )
    config["target_host"] = stack.temporal_address
    return config


async def connect_to_stack(stack: Stack) -> Client:
    """A client for the server of an embedded stack, whatever `TEMPORAL_*` says.

    Raises:
        TemporalUnavailable: it does not answer.
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
    """Whether some worker polls each of these task queues."""
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
    """Makes the endpoint for a task queue of the client's namespace, unless there is one of that name."""
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=client.namespace, task_queue=task_queue))
    request = CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    try:
        await client.operator_service.create_nexus_endpoint(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
