"""`runs`, typed beside a running worker: what Temporal knows of runs, and what the ledger knows of their bills."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from gpt_image_runs.contracts import names
from tests.support.runs.command_line import Ended
from tests.support.runs.commands import type_command
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def type_runs(stack: Stack, folder: Path, tenant: str, *arguments: str) -> Ended:
    return await type_command(stack, folder, "runs", "--tenant", tenant, *arguments)


def ids(ended: Ended) -> list[Any]:
    return [run["run_id"] for run in ended.document["runs"]]


async def until_listed(stack: Stack, tenant: str, count: int) -> None:
    """Visibility follows the runs after a moment."""
    query = f"{names.TENANT.name} = '{tenant}' AND ExecutionStatus != 'Running'"
    while (await stack.client.count_workflows(query)).count < count:
        pass


async def test_runs_are_listed_with_their_bills_and_failures(any_stack: Stack, tmp_path: Path) -> None:
    """The newest first, with charge and billing state of today, the failure's type, and filters that narrow them down."""
    tenant = f"t{uuid.uuid4().hex[:12]}"
    first, second = new_run_id(tenant), new_run_id(tenant)
    payload = CONTRACT | {"tenant": tenant}
    result = await any_stack.run(payload | {"request_id": first.rpartition(":")[2]}, run_id=first)
    refused = payload | {"prompt": "A fox [simulate:moderation_blocked]"}
    await any_stack.fail(refused | {"request_id": second.rpartition(":")[2]}, run_id=second)
    await until_listed(any_stack, tenant, 2)

    everything = await type_runs(any_stack, tmp_path, tenant, "--json")
    failed = await type_runs(any_stack, tmp_path, tenant, "--state", "failed", "--json")
    other = await type_runs(any_stack, tmp_path, tenant, "--model", "gpt-image-2", "--json")
    shown = await type_runs(any_stack, tmp_path, tenant, "--limit", "1")

    assert ids(everything) == [second, first]
    newest, oldest = everything.document["runs"]
    assert (newest["state"], newest["failure_type"], newest["amount_usd"]) == (
        "failed",
        "ContentRefused",
        None,
    )
    assert (oldest["state"], oldest["tenant"], oldest["model"]) == ("completed", tenant, CONTRACT["model"])
    assert (oldest["amount_usd"], oldest["billing_state"]) == (result.cost.amount_usd, "billed")
    assert ids(failed) == [second]
    assert ids(other) == []
    assert shown.out.count("image:") == 1
    assert "There are more than 1; --limit shows more. The filter for the Web UI: WorkflowType" in shown.err


async def test_filter_value_with_quotes_is_escaped(stack: Stack, tmp_path: Path) -> None:
    """A value with quotes finds nothing, and is no part of the filter's own words."""
    ended = await type_command(
        stack, tmp_path, "runs", "--batch", "x' OR Tenant = 'default", "--model", "a\\", "--json"
    )
    assert (ended.status, ended.document["runs"]) == (0, [])


async def test_held_run_is_listed(stack: Stack, tmp_path: Path) -> None:
    """What waits for a decision is listed as held, with `--state held` and as what runs."""
    tenant = f"t{uuid.uuid4().hex[:12]}"
    run_id = new_run_id(tenant)
    prompt = f"A cup for {tenant}"
    stack.simulator.script("reset_after_payment", match=prompt)
    payload = CONTRACT | {"tenant": tenant, "prompt": prompt, "unknown_outcome": "hold"}
    handle = await stack.start(payload | {"request_id": run_id.rpartition(":")[2]}, run_id=run_id)
    query = f"{names.WAITS_FOR.name} = 'decision' AND {names.TENANT.name} = '{tenant}'"
    while not (await stack.client.count_workflows(query)).count:
        pass

    held = await type_runs(stack, tmp_path, tenant, "--state", "held", "--json")
    running = await type_runs(stack, tmp_path, tenant, "--state", "running")
    await handle.terminate()

    assert [(run["run_id"], run["state"], run["stage"]) for run in held.document["runs"]] == [
        (run_id, "held", "held")
    ]
    assert run_id in running.out
