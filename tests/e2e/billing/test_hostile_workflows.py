"""Workflows that anybody in the namespace may start call the money activities directly: what they hand over is not believed."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from activities.economy.documents import EconomyDocuments
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.economy import EconomyBatchRef, EconomyOrder
from tests.support.runs.economy_runs import (
    finish,
    make_requests,
    new_batch_id,
    run_ids,
    start,
    until_sent,
    write_pages,
)
from tests.support.runs.tenants import change_budget, limit, new_tenant
from tests.support.servers.stack import CONTRACT, Stack
from workflows import retry_policies as policies

pytestmark = pytest.mark.asyncio(loop_scope="session")

INVENTED = {
    "amount_usd": "0.000166",
    "basis": "token_usage",
    "rate_card": "charge-2026-11-04",
    "rates": {"input": "0.01", "output": "0.04"},
    "line_items": [],
}


@workflow.defn(name="SomebodysOwn", sandboxed=False)
class CallsActivities:
    """Carries out the activities that it is given, with the input that it is given, and returns what they return."""

    @workflow.run
    async def run(self, steps: list[dict[str, Any]]) -> list[Any]:
        return [await self._carry_out(step) for step in steps]

    async def _carry_out(self, step: dict[str, Any]) -> Any:
        return await workflow.execute_activity(
            step["name"],
            step["input"],
            task_queue=step["queue"],
            start_to_close_timeout=policies.MONEY_ATTEMPT,
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(maximum_attempts=2),
        )


async def carry_out(stack: Stack, *steps: dict[str, Any], workflow_id: str) -> list[Any]:
    """Run these activities from a foreign workflow and return their results."""
    queue = f"somebody-{uuid.uuid4().hex}"
    async with Worker(stack.client, task_queue=queue, workflows=[CallsActivities]):
        results: list[Any] = await stack.client.execute_workflow(
            "SomebodysOwn", list(steps), id=workflow_id, task_queue=queue
        )
        return results


async def be_refused(stack: Stack, *steps: dict[str, Any], workflow_id: str) -> ApplicationError:
    """Return why the activity was refused for good."""
    with pytest.raises(WorkflowFailureError) as raised:
        await carry_out(stack, *steps, workflow_id=workflow_id)
    failed = raised.value.cause
    assert isinstance(failed, ActivityError)
    assert isinstance(failed.cause, ApplicationError)
    return failed.cause


def call(tenant: str, request_id: str, forged: dict[str, Any] | None = None) -> dict[str, Any]:
    run_id = names.run_id_for(tenant, request_id)
    request = {**CONTRACT, "n": 3, "tenant": tenant, "request_id": request_id}
    return {
        "name": names.CALL_GPT_IMAGE,
        "queue": names.PROVIDER_QUEUE,
        "input": {
            "run_id": run_id,
            "tenant": tenant,
            "request_id": request_id,
            "request": request,
            "model": CONTRACT["model"],
            "fingerprint": "f" * 64,
            "price_ceiling_usd": "0.000000",
            **(forged or {}),
        },
    }


def record(run_id: str, attempt_id: str, cost: dict[str, Any] = INVENTED) -> dict[str, Any]:
    return {
        "name": names.RECORD_BILLING,
        "queue": names.RUNS_QUEUE,
        "input": {"run_id": run_id, "attempt_id": attempt_id, "cost": cost, "metadata": {}},
    }


def verify(stack: Stack, tenant: str) -> list[object]:
    found = [
        *LedgerVerification(stack.database, lambda _done, _all: None).find(),
        *find_wrong_spend(stack.database),
    ]
    return [finding for finding in found if finding.tenant == tenant]


async def test_ceiling_from_a_foreign_workflow_does_not_pass_a_budget_of_zero(any_stack: Stack) -> None:
    tenant = new_tenant()
    run_id = names.run_id_for(tenant, "one")
    await change_budget(any_stack, limit(tenant, 0))
    refused = await be_refused(any_stack, call(tenant, "one"), workflow_id=f"somebody-{tenant}")
    assert (refused.type, refused.non_retryable) == (names.BUDGET_EXCEEDED, True)
    assert (any_stack.calls(run_id), any_stack.attempts(run_id)) == ([], ())


async def test_invented_cost_is_not_billed(any_stack: Stack) -> None:
    """Three pictures with an invented price are reserved at the worst case and billed by their own usage."""
    tenant = new_tenant()
    run_id, workflow_id = names.run_id_for(tenant, "one"), f"somebody-{tenant}"
    [paid] = await carry_out(any_stack, call(tenant, "one"), workflow_id=workflow_id)
    [attempt] = any_stack.attempts(run_id)
    assert attempt.reserved_micro_usd is not None
    assert attempt.reserved_micro_usd > 3 * 40 * 4160
    for cost in (INVENTED, {"basis": "none", "reason": "no"}, {**INVENTED, "amount_usd": "-1.000000"}):
        step = record(run_id, paid["attempt_id"], cost)
        [billed] = await carry_out(any_stack, step, workflow_id=workflow_id)
        assert billed["cost"]["amount_usd"] != cost.get("amount_usd")
    [entry] = any_stack.entries(run_id)
    usage = paid["usage"]
    due = 10 * usage["input_tokens"] + 40 * usage["output_tokens"]
    assert due > 3 * 40 * 4000
    assert (entry.kind, entry.amount_usd) == ("charge", f"0.{due:06d}")
    assert verify(any_stack, tenant) == []
    spent = Budgets(any_stack.database).show(tenant).month.simulated
    assert (spent.used_usd, spent.reserved_usd) == (entry.amount_usd, "0.000000")


async def test_cost_of_another_run_cannot_be_recorded(any_stack: Stack) -> None:
    """Neither with the run's own attempt by a stranger's workflow, nor with the attempt of another run."""
    tenant, other = new_tenant(), new_tenant()
    mine, theirs = names.run_id_for(tenant, "one"), names.run_id_for(other, "one")
    [paid] = await carry_out(any_stack, call(tenant, "one"), workflow_id=mine)
    [others] = await carry_out(any_stack, call(other, "one"), workflow_id=theirs)
    stranger = await be_refused(any_stack, record(theirs, others["attempt_id"]), workflow_id=mine)
    assert stranger.type == "RunConflict"
    assert f"belongs to workflow {theirs}" in stranger.message
    swapped = await be_refused(any_stack, record(mine, others["attempt_id"]), workflow_id=mine)
    assert "Bill a run by an attempt of its own" in swapped.message
    assert (any_stack.entries(mine), any_stack.entries(theirs)) == ((), ())
    await carry_out(any_stack, record(mine, paid["attempt_id"]), workflow_id=mine)
    assert len(any_stack.entries(mine)) == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"tenant": "nobody"},
        {"run_id": "image:nobody:one"},
        {"request_id": "two"},
        {"model": "gpt-image-1-mini"},
        {"model": "gpt-image-99"},
    ],
)
async def test_call_in_another_name_or_for_another_model_is_refused(
    any_stack: Stack, forged: dict[str, Any]
) -> None:
    tenant = new_tenant()
    refused = await be_refused(any_stack, call(tenant, "one", forged), workflow_id=f"somebody-{tenant}")
    assert (refused.type, refused.non_retryable) == (names.REQUEST_REFUSED, True)
    assert any_stack.attempts(names.run_id_for(tenant, "one")) == ()


async def test_forged_fingerprint_is_not_recorded(any_stack: Stack) -> None:
    """The rightful run of the same content finds what a stranger's workflow paid for, whatever that said it was."""
    tenant = new_tenant()
    run_id = names.run_id_for(tenant, "one")
    await carry_out(any_stack, call(tenant, "one"), workflow_id=run_id)
    result = await any_stack.run({**CONTRACT, "n": 3, "tenant": tenant}, run_id=run_id)
    assert result.status == "completed"
    assert len(any_stack.calls(run_id)) == 1


async def test_part_of_a_batch_for_another_model_is_refused(any_stack: Stack) -> None:
    """A part that is claimed as one for a cheap model and sent for a dear one would be billed as the cheap one."""
    batch_id = new_batch_id()
    requests: list[Any] = [{**CONTRACT, "model": "gpt-image-2", "tenant": batch_id, "request_id": "one"}]
    order = await write_pages(any_stack.store, batch_id, requests)
    plan = {"name": names.PLAN_ECONOMY_BATCH, "queue": names.RUNS_QUEUE, "input": order.model_dump()}
    [planned] = await carry_out(any_stack, plan, workflow_id=f"somebody-{batch_id}")
    batch = {"batch_id": batch_id, "digest": order.digest, "round": planned["round"]}
    [part] = planned["parts"]
    for name, queue in (
        (names.CLAIM_ECONOMY_PART, names.RUNS_QUEUE),
        (names.SEND_ECONOMY_PART, names.PROVIDER_QUEUE),
        (names.CLOSE_ECONOMY_PART, names.RUNS_QUEUE),
    ):
        forged = {"batch": batch, "part": {**part, "model": "gpt-image-1-mini"}}
        step = {"name": name, "queue": queue, "input": forged}
        refused = await be_refused(any_stack, step, workflow_id=f"somebody-{batch_id}")
        assert (refused.type, refused.non_retryable) == ("BatchConflict", True)
    assert any_stack.attempts(names.run_id_for(batch_id, "one")) == ()


@pytest.mark.parametrize(
    "forged",
    [
        {"status": "refused", "reason": "no"},
        {"status": "failed"},
        {"status": "cancelled", "untouched": True},
        {"status": "cancelled"},
    ],
    ids=["refused", "failed", "cancelled untouched", "cancelled unsent"],
)
async def test_invented_end_of_a_batch_part_leaves_its_lines_exposed(
    stack: Stack, forged: dict[str, Any]
) -> None:
    """The batch is under way: its lines may be charged, and are billed once the provider has answered."""
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ("A cup",))
    order = await write_pages(stack.store, batch_id, requests)
    before = len(stack.simulator.batches.all)
    handle = await start(stack.client, order)
    await until_sent(stack.simulator, before + 1)
    plan = await EconomyDocuments(stack.store, ref := batch_ref(order)).read_plan()
    assert plan is not None
    [part] = plan.parts
    there = (
        stack.simulator.batches.all[-1].batch_id
        if "untouched" in forged or forged["status"] == "failed"
        else None
    )
    step = {
        "name": names.CLOSE_ECONOMY_PART,
        "queue": names.RUNS_QUEUE,
        "input": {"batch": ref.model_dump(), "part": part.model_dump(), "provider_batch_id": there, **forged},
    }
    await carry_out(stack, step, workflow_id=f"somebody-{batch_id}")
    [exposed] = stack.attempts(run_ids(requests)[0])
    summary = await finish(stack.simulator, handle)

    assert exposed.outcome == "unknown"
    assert (summary.done, summary.unknown) == (1, 0)
    [entry] = stack.entries(run_ids(requests)[0])
    assert entry.kind == "charge"


def batch_ref(order: EconomyOrder) -> EconomyBatchRef:
    return EconomyBatchRef(batch_id=order.batch_id, digest=order.digest, round=1)
