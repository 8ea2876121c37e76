import os
import shutil
import subprocess
import sysconfig
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import yaml
from temporalio.api.operatorservice.v1 import ListNexusEndpointsRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from gpt_image_runs.contracts.names import NEXUS_ENDPOINT, PROVIDER_QUEUE, RUNS_QUEUE, SEARCH_ATTRIBUTES
from gpt_image_runs.local_stack.temporal_server import dynamic_config_arguments, find_temporal_binary
from tests.support.deploy.compose_tools import ROOT

SCRIPT = ROOT / "deploy/temporal/create-namespace.sh"
NAMESPACE = "pictures"
SHELL = shutil.which("sh")
TEMPORAL = find_temporal_binary()
pytestmark = pytest.mark.skipif(not (SHELL and TEMPORAL), reason="needs sh and the temporal binary")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Client]:
    """A Temporal server after the job `temporal-namespace` has run on it, twice."""
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=str(TEMPORAL)) as environment:
        for _ in range(2):
            run_script(environment.client.service_client.config.target_host)
        yield environment.client


def run_script(address: str) -> None:
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    variables = {"PATH": path, "TEMPORAL_ADDRESS": address, "TEMPORAL_NAMESPACE": NAMESPACE}
    done = subprocess.run(
        [str(SHELL), str(SCRIPT)], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.asyncio(loop_scope="module")
async def test_namespace_has_the_search_attributes_of_the_runs(server: Client) -> None:
    """The namespace has each search attribute of `gpt_image_runs.contracts.names`, with its type, and no other."""
    listed = await server.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=NAMESPACE)
    )
    wanted = {key.name: key.indexed_value_type.value for key in SEARCH_ATTRIBUTES}
    assert {name: listed.custom_attributes[name] for name in wanted} == wanted
    others = listed.custom_attributes.keys() - wanted.keys()
    assert [name for name in others if not name.startswith("Custom")] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_namespace_retains_runs_for_30_days(server: Client) -> None:
    described = await server.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=NAMESPACE)
    )
    assert described.config.workflow_execution_retention_ttl.ToTimedelta().days == 30


@pytest.mark.asyncio(loop_scope="module")
async def test_nexus_endpoint_targets_the_runs_queue(server: Client) -> None:
    """Other namespaces find the runs' task queue under the one endpoint that is made, be the job run twice."""
    listed = await server.operator_service.list_nexus_endpoints(ListNexusEndpointsRequest())
    (endpoint,) = listed.endpoints
    assert endpoint.spec.name == NEXUS_ENDPOINT
    assert endpoint.spec.target.worker.namespace == NAMESPACE
    assert endpoint.spec.target.worker.task_queue == RUNS_QUEUE


def test_dynamic_config_equals_that_of_the_embedded_server() -> None:
    """A cluster's dynamic config is the embedded server's: fairness, one partition for the provider's queue, and quick timers."""
    config = yaml.safe_load((ROOT / "deploy/temporal/dynamic-config.yaml").read_text(encoding="utf-8"))
    one = [{"value": 1, "constraints": {"taskQueueName": PROVIDER_QUEUE}}]
    assert config == {
        "matching.enableFairness": [{"value": True}],
        "matching.numTaskqueueReadPartitions": one,
        "matching.numTaskqueueWritePartitions": one,
        "history.timerProcessorMaxTimeShift": [{"value": "1ms"}],
        "history.timerProcessorMaxPollRPS": [{"value": 1000}],
        "history.transferProcessorMaxPollRPS": [{"value": 1000}],
        "history.visibilityProcessorMaxPollRPS": [{"value": 1000}],
        "history.outboundProcessorMaxPollRPS": [{"value": 1000}],
    }
    embedded = dict(part.split("=") for part in dynamic_config_arguments()[1::2])
    assert {name: yaml.safe_load(value) for name, value in embedded.items()} == {
        name: setting["value"] for name, (setting,) in config.items()
    }
