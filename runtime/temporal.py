"""The connection to Temporal: the SDK's own settings, or the embedded server of this directory."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from runtime.data_converter import DATA_CONVERTER
from runtime.stack_file import Stack, read_stack_file
from runtime.tracing import list_interceptors

# A server that is there answers in milliseconds, Temporal Cloud in one second; whoever stands on its port may never.
_PATIENCE_SECONDS = 10.0


class TemporalUnavailable(Exception):
    """No Temporal server answers, as a sentence that says what to do."""


async def connect_to_temporal(
    data_dir: Path,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
    runtime: Runtime | None = None,
    identity: str | None = None,
) -> Client:
    """A client for the configured server: `TEMPORAL_*` where set, else the embedded stack of `data_dir`.

    `runtime` is one that serves metrics (`runtime.metrics`), `identity` what Temporal shows of a worker.

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
        raise TemporalUnavailable(
            f"No Temporal server answers at {config['target_host']}. Start the embedded one with `make up`,"
            " or set TEMPORAL_ADDRESS to a server of yours."
        ) from error


async def register_search_attributes(
    client: Client, wanted: tuple[SearchAttributeKey[Any], ...]
) -> list[str]:
    """Registers the search attributes that the namespace lacks; returns the names of those it added.

    Raises:
        TemporalUnavailable: the server does not let us, with the command for its operator.
    """
    service = client.operator_service
    try:
        listed = await service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    except RPCError as error:
        raise TemporalUnavailable(
            f"Temporal does not let this worker into the namespace {client.namespace} ({error.message.rstrip('.')})."
            " Check TEMPORAL_NAMESPACE and TEMPORAL_API_KEY."
        ) from error
    missing = {key.name: _indexed_type(key) for key in wanted if key.name not in listed.custom_attributes}
    if not missing:
        return []
    try:
        await service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            commands = "\n".join(
                f"temporal operator search-attribute create --namespace {client.namespace} --name {name} --type"
                f" {IndexedValueType.Name(kind).removeprefix('INDEXED_VALUE_TYPE_').title()}"
                for name, kind in missing.items()
            )
            raise TemporalUnavailable(
                f"The namespace {client.namespace} lacks search attributes that this worker may not add"
                f" ({error.message}). Ask its operator to run:\n{commands}"
            ) from error
    return sorted(missing)


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


def _indexed_type(key: SearchAttributeKey[Any]) -> "IndexedValueType.ValueType":
    return IndexedValueType.ValueType(key.indexed_value_type.value)
