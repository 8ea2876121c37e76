"""The Nexus service: typed operations, called by a workflow in another namespace that has nothing of ours but the contract."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import nexusrpc
import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, NexusOperationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.nexus import ImageRunsHandler
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.nexus import ImageRuns
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.temporal.connection import create_nexus_endpoint
from tests.support.servers.stack import CONTRACT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = "of-another-team"


@workflow.defn(sandboxed=False)
class Typed:
    """Another team's workflow, by our contract."""

    @workflow.run
    async def run(self, request: ImageRequest) -> tuple[Quote, RunResult]:
        runs = workflow.create_nexus_client(service=ImageRuns, endpoint=names.NEXUS_ENDPOINT)
        quoted = await runs.execute_operation(ImageRuns.quote, request)
        return quoted, await runs.execute_operation(ImageRuns.generate, request)


@workflow.defn(sandboxed=False)
class Untyped:
    """Another team's workflow, by names and plain JSON."""

    @workflow.run
    async def run(self, operation: str, payload: Any) -> Any:
        runs = workflow.create_nexus_client(service=names.NEXUS_SERVICE, endpoint=names.NEXUS_ENDPOINT)
        return await runs.execute_operation(
            operation, payload, schedule_to_close_timeout=timedelta(minutes=1)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other_team(stack: Stack) -> AsyncIterator[Client]:
    """Run a worker in another team's namespace, with an endpoint to ours."""
    namespace = f"another-team-{uuid.uuid4().hex}"
    asked = RegisterNamespaceRequest(namespace=namespace)
    asked.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await stack.client.workflow_service.register_namespace(asked)
    await create_nexus_endpoint(stack.client, names.NEXUS_ENDPOINT, names.RUNS_QUEUE)
    await create_nexus_endpoint(stack.client, names.NEXUS_ENDPOINT, names.RUNS_QUEUE)  # again changes nothing
    client = await Client.connect(
        stack.client.service_client.config.target_host,
        namespace=namespace,
        data_converter=stack.client.data_converter,
    )
    async with Worker(
        client, task_queue=QUEUE, workflows=[Typed, Untyped], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        yield client


async def call(other_team: Client, operation: str, payload: Any) -> Any:
    return await other_team.execute_workflow(
        Untyped.run, args=[operation, payload], id=f"call-{uuid.uuid4()}", task_queue=QUEUE
    )


async def fail(other_team: Client, operation: str, payload: Any) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as raised:
        await call(other_team, operation, payload)
    failed = raised.value.cause
    assert isinstance(failed, NexusOperationError), failed
    assert isinstance(failed.cause, ApplicationError), failed.cause
    return failed.cause


def new_request(**fields: Any) -> dict[str, Any]:
    return {**CONTRACT, "tenant": "acme", "request_id": f"nexus-{uuid.uuid4().hex}", **fields}


async def test_typed_caller_gets_quote_and_billed_run(stack: Stack, other_team: Client) -> None:
    """By the contract, a quote comes before its run, and the run is the one of its request id, billed once."""
    request = ImageRequest.model_validate(new_request())

    quoted, result = await other_team.execute_workflow(
        Typed.run,
        request,
        id=f"call-{uuid.uuid4()}",
        task_queue=QUEUE,
        retry_policy=RetryPolicy(maximum_attempts=1),
    )

    assert result.run_id == f"image:acme:{request.request_id}"
    assert quoted.rate_card == result.cost.rate_card
    assert len(stack.entries(result.run_id)) == 1


async def test_operations_of_one_request_id_are_one_bill(stack: Stack, other_team: Client) -> None:
    """Three operations at once and one after the run is over have one answer, one call to the provider and one entry."""
    request = new_request()
    at_once = await asyncio.gather(*(call(other_team, "generate", request) for _ in range(3)))
    again = await call(other_team, "generate", request)

    assert all(result == again for result in at_once)
    assert len(stack.calls(again["run_id"])) == 1
    assert len(stack.entries(again["run_id"])) == 1


async def test_operation_with_other_content_is_a_conflict(stack: Stack, other_team: Client) -> None:
    """The same request id with other content fails by its type, and names the difference."""
    request = new_request()
    first = await call(other_team, "generate", request)

    failure = await fail(other_team, "generate", {**request, "prompt": "Something else"})

    assert failure.type == "RunConflict"
    assert "other in prompt" in failure.message
    assert len(stack.calls(first["run_id"])) == 1


async def test_operation_never_gets_the_result_of_other_content(stack: Stack, other_team: Client) -> None:
    request = new_request()
    run_id = f"image:acme:{request['request_id']}"
    other = await stack.start(
        {**request, "prompt": "A plate [simulate:delay=3]", "request_id": request["request_id"]},
        run_id=run_id,
    )
    async with asyncio.timeout(30):
        while not stack.attempts(run_id):
            await asyncio.sleep(0.05)

    failure = await fail(other_team, "generate", request)

    assert failure.type == "RunConflict"
    assert (await other.result())["run_id"] == run_id
    assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1


async def test_paid_content_beside_other_content_gets_its_result(stack: Stack, other_team: Client) -> None:
    request = new_request()
    paid = await call(other_team, "generate", request)
    run_id = paid["run_id"]
    for _ in range(3):
        other = await stack.start({**request, "prompt": "A plate"}, run_id=run_id)
        assert await call(other_team, "generate", request) == paid
        with pytest.raises(WorkflowFailureError):
            await other.result()
    assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1


@pytest.mark.parametrize("operation", ["generate", "quote"])
@pytest.mark.parametrize("payload", [{**CONTRACT, "n": 11}, "a lamp"])
async def test_invalid_request_is_refused_with_its_problems(
    other_team: Client, operation: str, payload: Any
) -> None:
    """A wrong request comes back at once as it does everywhere: RequestRefused, and the problems as details."""
    failure = await fail(other_team, operation, payload)

    assert failure.type == names.REQUEST_REFUSED
    assert failure.details[0]["field"] in {"n", "request"}


async def test_operation_without_a_request_id_is_its_own_run(stack: Stack, other_team: Client) -> None:
    """Without a request id each operation is a run of its own, under the id that Nexus gave it."""
    first, second = [await call(other_team, "generate", CONTRACT) for _ in range(2)]

    assert first["run_id"] != second["run_id"]
    assert len(stack.entries(first["run_id"])) == 1


async def test_failed_run_fails_its_operation_with_the_provider_failure(other_team: Client) -> None:
    """A run that fails is an operation that fails, with the type of the provider's answer."""
    failure = await fail(other_team, "generate", new_request(prompt="A cup [simulate:moderation_blocked]"))

    assert failure.type == "ContentRefused"


async def test_contract_and_handler_name_the_same() -> None:
    """What callers are promised is what the handler has: the service's name and its operations."""
    promised, handled = map(nexusrpc.get_service_definition, (ImageRuns, ImageRunsHandler))

    assert promised
    assert handled
    assert promised.name == handled.name
    assert promised.operation_definitions.keys() == handled.operation_definitions.keys()
