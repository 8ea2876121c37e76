"""Budgets through the whole application, against the simulator's own books; and runs that ended before their bill."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.contracts import names
from gpt_image_runs.database.errors import LedgerUnavailable
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from tests.support.runs.commands import type_command
from tests.support.runs.tenants import change_budget, limit, new_tenant
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Micro-USD: the prompt and 100 tokens around it at 10, 4160 tokens at 40. What is billed is some 1,500 less.
WORST_CASE = 10 * (len(CONTRACT["prompt"].encode()) + 100) + 40 * 4160  # type: ignore[attr-defined]


async def test_budget_for_five_pays_five_of_twenty_concurrent_runs(any_stack: Stack) -> None:
    """Exactly five are paid by the provider's own books, and five are billed."""
    tenant = new_tenant()
    await change_budget(any_stack, limit(tenant, 5 * WORST_CASE))
    run_ids = [new_run_id(tenant) for _ in range(20)]
    payload = {**CONTRACT, "tenant": tenant}

    ends = await asyncio.gather(
        *(any_stack.run(payload, run_id=run_id) for run_id in run_ids), return_exceptions=True
    )

    paid = [run_id for run_id in run_ids if any(call.paid for call in any_stack.calls(run_id))]
    assert len(paid) == 5
    assert sum(len(any_stack.calls(run_id)) for run_id in run_ids) == 5
    assert sum(len(any_stack.entries(run_id)) for run_id in run_ids) == 5
    causes = [end.cause for end in ends if isinstance(end, WorkflowFailureError)]
    assert len(causes) == 15
    for cause in causes:
        assert isinstance(cause, ApplicationError)
        assert cause.type == names.BUDGET_EXCEEDED
        assert cause.message.startswith(f"The budget of tenant {tenant} does not allow this request")
    assert list(find_wrong_spend(any_stack.database)) == []
    shown = Budgets(any_stack.database).show(tenant).month.simulated
    assert shown.reserved_usd == "0.000000"


async def test_run_over_budget_is_accepted_after_the_budget_is_raised(stack: Stack, tmp_path: Path) -> None:
    """A run without room costs nothing and says why; with the budget raised the same request id is carried out, once."""
    tenant = new_tenant()
    words = (
        "generate",
        CONTRACT["prompt"],
        "--model",
        "gpt-image-2",
        "--tenant",
        tenant,
        "--request-id",
        "one",
    )
    set_budget = ("budget", "set", tenant, "--reason", "a trial", "--actor", "ada", "--json")

    first = await type_command(stack, tmp_path, *set_budget, "--day", "0.01")
    refused = await type_command(stack, tmp_path, *map(str, words), "--json")
    raised = await type_command(stack, tmp_path, *set_budget, "--day", "2")
    carried_out = await type_command(stack, tmp_path, *map(str, words), "--json")
    shown = await type_command(stack, tmp_path, "budget", "show", tenant, "--json")
    lifted = await type_command(stack, tmp_path, *set_budget, "--day", "none")

    run_id = names.run_id_for(tenant, "one")
    assert (first.status, refused.status, raised.status, carried_out.status) == (0, 2, 0, 0)
    assert first.document["day"]["limit_usd"] == "0.010000"
    assert "of the day's budget of 0.010000 simulated USD" in refused.document["message"]
    assert len(stack.attempts(run_id)) == len(stack.entries(run_id)) == len(stack.calls(run_id)) == 1
    (budget,) = shown.document["budgets"]
    assert budget["day"]["simulated"]["used_usd"] == carried_out.document["cost"]["amount_usd"]
    assert (budget["day"]["actor"], budget["day"]["reason"]) == ("ada", "a trial")
    assert lifted.document["day"]["limit_usd"] is None


async def test_run_over_budget_is_not_retried(stack: Stack) -> None:
    """A run that its budget refuses ends at once, after one attempt of the activity, and with no row of an attempt."""
    tenant = new_tenant()
    await change_budget(stack, limit(tenant, 0))
    run_id = new_run_id(tenant)

    async with asyncio.timeout(60):
        failure = await stack.fail({**CONTRACT, "tenant": tenant}, run_id=run_id)

    assert (failure.type, failure.non_retryable) == (names.BUDGET_EXCEEDED, True)
    assert stack.attempts(run_id) == ()
    started = [
        event.activity_task_started_event_attributes.attempt
        for event in await stack.events(run_id)
        if event.HasField("activity_task_started_event_attributes")
    ]
    assert started == [1]


async def test_budget_change_shows_who_what_and_why_in_the_web_ui(stack: Stack) -> None:
    """A decision is found by its tenant, and its page says what, who, why, and what is spent."""
    tenant = new_tenant()
    handle = await stack.client.start_workflow(
        names.BUDGET_CHANGE, limit(tenant, 2_000_000), id=f"budget:{tenant}:1", task_queue=names.RUNS_QUEUE
    )
    await handle.result()

    described = await handle.describe()
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    month = Budgets(stack.database).show(tenant).month
    assert described.typed_search_attributes.get(names.TENANT) == tenant
    assert metadata.current_details == (
        f"**Decided** · budget of {tenant}: 2.000000 USD a month, by ada\n\n"
        f"- 2.000000 USD for the month ({month.span}): real 0.000000 used, 0.000000 reserved; simulated 0.000000 used,"
        " 0.000000 reserved\n\n**Reason:** a trial"
    )
    assert len(await stack.events(handle.id)) <= 15


@pytest.mark.parametrize(
    ("decision", "problem"),
    [
        (None, "The decision is None, not a JSON object."),
        ({"tenant": "acme"}, "limits is absent; allowed: "),
        (
            {"tenant": "acme", "limits": {}, "reason": "x", "actor": "y"},
            "limits is an object of 0; allowed: ",
        ),
        (
            {"tenant": "acme", "limits": {"year": "1"}, "reason": "x", "actor": "y"},
            "limits.year is 'year'; allowed: ",
        ),
        (
            {"tenant": "acme", "limits": {"day": 1.5}, "reason": "x", "actor": "y"},
            "limits.day is 1.5; allowed: an amount in USD",
        ),
    ],
)
async def test_budget_change_with_invalid_input_is_refused(
    stack: Stack, decision: object, problem: str
) -> None:
    """A workflow that was started with something else than a decision ends as refused, and says what is allowed."""
    with pytest.raises(WorkflowFailureError) as raised:
        await change_budget(stack, decision)
    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == names.REQUEST_REFUSED
    assert cause.message.startswith(problem)


def stay_away(*_: Any) -> None:
    """Fail like a ledger that is down when the bill is recorded."""
    raise LedgerUnavailable("The ledger is away.")


async def end_before_its_bill(stack: Stack, run_id: str, payload: Any) -> None:
    """Terminate a run once its attempt has succeeded, while the ledger is down.

    Not before its bill is scheduled: within a workflow task the worker would still try, and learn of the end afterwards.
    """
    with pytest.MonkeyPatch.context() as held:
        held.setattr(Ledger, "record", stay_away)
        handle = await stack.start(payload, run_id=run_id)
        while not await is_bill_scheduled(handle):
            await asyncio.sleep(0.05)
        await handle.terminate("by mistake")
    assert [attempt.outcome for attempt in stack.attempts(run_id)] == ["succeeded"]


async def is_bill_scheduled(handle: WorkflowHandle[Any, Any]) -> bool:
    """Return whether the bill is a scheduled activity."""
    pending = (await handle.describe()).raw_description.pending_activities
    return names.RECORD_BILLING in {activity.activity_type.name for activity in pending}


async def test_run_terminated_before_its_bill_is_billed_when_submitted_again(
    stack: Stack, tmp_path: Path
) -> None:
    """A run that is terminated after its payment is pending; submitted again it is billed, and nothing is bought."""
    tenant = new_tenant()
    run_id, payload = new_run_id(tenant), {**CONTRACT, "tenant": tenant}

    await end_before_its_bill(stack, run_id, payload)
    pending = await type_command(stack, tmp_path, "pending", "--tenant", tenant, "--json")
    result = await stack.run(payload, run_id=run_id)
    afterwards = await type_command(stack, tmp_path, "pending", "--tenant", tenant, "--json")

    assert [attempt["run_id"] for attempt in pending.document["in_flight"]] == [run_id]
    assert afterwards.document == {"runs": [], "unbilled": [], "in_flight": []}
    assert result.billing.state == "billed"
    assert (len(stack.calls(run_id)), len(stack.entries(run_id))) == (1, 1)


async def test_run_terminated_before_its_bill_is_billed_by_a_reset(stack: Stack) -> None:
    """Where nobody has the request any more, Temporal's own reset has the terminated run billed, and nothing is bought."""
    run_id = new_run_id()
    await end_before_its_bill(stack, run_id, CONTRACT)
    address = stack.client.service_client.config.target_host
    words = ("--workflow-id", run_id, "--type", "FirstWorkflowTask", "--reason", "its bill")

    reset = await asyncio.create_subprocess_exec(
        str(find_temporal_binary()),
        "workflow",
        "reset",
        "--address",
        address,
        *words,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await reset.wait() == 0
    await stack.client.get_workflow_handle(run_id).result()

    assert (len(stack.calls(run_id)), len(stack.entries(run_id))) == (1, 1)
