"""The Nexus endpoint of an embedded server: how other namespaces find a task queue of this one."""

from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode


async def create_nexus_endpoint(client: Client, name: str, task_queue: str) -> None:
    """Makes the endpoint for a task queue of the client's namespace, unless there is one of that name."""
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=client.namespace, task_queue=task_queue))
    request = CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    try:
        await client.operator_service.create_nexus_endpoint(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
