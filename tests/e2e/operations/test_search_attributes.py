"""Namespaces whose search attributes are not those that runs need: told before anything is paid."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import OperatorService, RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from cli.local.doctor import Check, check_everything
from cli.session import Session
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.contracts import names
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.search_attributes import inspect_search_attributes, register_search_attributes
from simulator.server import Simulator
from tests.support.servers.stack import CONTRACT

ROOT = Path(__file__).parents[3]
OF_OTHER_TYPES = (
    SearchAttributeKey.for_keyword("CostUsd"),
    SearchAttributeKey.for_text("Tenant"),
    SearchAttributeKey.for_float("ImageCount"),
)
WITHOUT_COST = [key for key in names.SEARCH_ATTRIBUTES if key != names.COST_USD]


@asynccontextmanager
async def run_server(attributes: Sequence[SearchAttributeKey[Any]]) -> AsyncIterator[Client]:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(find_temporal_binary()), search_attributes=list(attributes)
    ) as server:
        yield server.client


async def end_worker(client: Client, folder: Path, provider_url: str) -> tuple[int | None, str]:
    """Start `python worker.py`, which has to end by itself; return its exit status and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "worker.py"),
        env={
            **os.environ,
            "TEMPORAL_ADDRESS": client.service_client.config.target_host,
            "DATA_DIR": str(folder),
            "OPENAI_API_KEY": "sk-test-0123456789abcdef",
            "OPENAI_BASE_URL": provider_url,
            "PROVIDER": "simulator",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, told.decode()


async def look(client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Return what `doctor` says of search attributes."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", client.service_client.config.target_host)
    checks = await check_everything(Session(Settings.model_validate({"data_dir": folder}), None))
    return next(check for check in checks if check.name == "search attributes")


def deny_operator_service(monkeypatch: pytest.MonkeyPatch, status: RPCStatusCode) -> None:
    """Deny the operator's API as Temporal Cloud does; the dev server has no such setting."""

    async def deny(*_: Any, **__: Any) -> Any:
        raise RPCError("operator API denied", status, b"")

    for name in ("list_search_attributes", "add_search_attributes"):
        monkeypatch.setattr(OperatorService, name, deny, raising=False)


async def test_worker_does_not_start_with_an_attribute_of_another_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting run is paid by nobody: it would fail each workflow task after it was billed."""
    async with (
        run_server([*WITHOUT_COST, SearchAttributeKey.for_keyword("CostUsd")]) as client,
        Simulator() as provider,
    ):
        await client.start_workflow(
            names.WORKFLOW,
            {**CONTRACT, "quality": "low"},
            id=names.run_id_for("default", "wrong-type"),
            task_queue=names.RUNS_QUEUE,
        )
        status, told = await end_worker(client, tmp_path, provider.base_url)
        check = await look(client, tmp_path, monkeypatch)

        assert status == 1
        assert "has the search attribute CostUsd of type Keyword where runs need Double." in told
        assert "The worker did not start." in told
        assert not provider.books.entries
        assert not check.ok
        assert "CostUsd of type Keyword where runs need Double" in check.message


async def test_each_attribute_of_another_type_is_named() -> None:
    async with run_server(OF_OTHER_TYPES) as client:
        with pytest.raises(TemporalUnavailable) as raised:
            await register_search_attributes(client, names.SEARCH_ATTRIBUTES)

        assert "CostUsd of type Keyword where runs need Double" in str(raised.value)
        assert "Tenant of type Text where runs need Keyword" in str(raised.value)
        assert "ImageCount of type Double where runs need Int" in str(raised.value)
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        assert "Model" not in listed.custom_attributes


async def test_missing_attributes_are_added_once() -> None:
    async with run_server([]) as client:
        wanted = sorted(key.name for key in names.SEARCH_ATTRIBUTES)
        assert await register_search_attributes(client, names.SEARCH_ATTRIBUTES) == wanted
        assert await register_search_attributes(client, names.SEARCH_ATTRIBUTES) == []


async def test_full_namespace_is_reported() -> None:
    others = [SearchAttributeKey.for_keyword(f"Other{number}") for number in range(10)]
    async with run_server(others) as client:
        with pytest.raises(TemporalUnavailable) as raised:
            await register_search_attributes(client, names.SEARCH_ATTRIBUTES)

        assert "Batch (Keyword)" in str(raised.value)
        assert "takes no more (Unable to create search attributes: cannot have more than 10" in str(
            raised.value
        )
        assert "Set TEMPORAL_NAMESPACE" in str(raised.value)


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED])
async def test_worker_starts_where_the_operator_api_is_denied(
    status: RPCStatusCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_server(names.SEARCH_ATTRIBUTES) as client:
        deny_operator_service(monkeypatch, status)

        assert await register_search_attributes(client, names.SEARCH_ATTRIBUTES) == []
        check = await look(client, tmp_path, monkeypatch)
        assert check.ok
        assert "Temporal does not list them (operator API denied)" in check.message


async def test_attribute_of_another_type_is_found_where_the_operator_api_is_denied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with run_server([*WITHOUT_COST, SearchAttributeKey.for_keyword("CostUsd")]) as client:
        deny_operator_service(monkeypatch, RPCStatusCode.PERMISSION_DENIED)
        with pytest.raises(TemporalUnavailable, match="CostUsd of type Keyword where runs need Double"):
            await register_search_attributes(client, names.SEARCH_ATTRIBUTES)


async def test_missing_attribute_is_found_where_the_operator_api_is_denied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with run_server(WITHOUT_COST) as client:
        deny_operator_service(monkeypatch, RPCStatusCode.PERMISSION_DENIED)
        report = await inspect_search_attributes(client, names.SEARCH_ATTRIBUTES)
        assert report.missing == {"CostUsd": "Double"}
        with pytest.raises(TemporalUnavailable, match="--name CostUsd --type Double"):
            await register_search_attributes(client, names.SEARCH_ATTRIBUTES)


async def test_unknown_namespace_is_reported() -> None:
    async with run_server([]) as client:
        config = client.service_client.config.target_host
        elsewhere = await Client.connect(config, namespace="nowhere", lazy=True)
        with pytest.raises(TemporalUnavailable, match="namespace nowhere"):
            await register_search_attributes(elsewhere, names.SEARCH_ATTRIBUTES)
