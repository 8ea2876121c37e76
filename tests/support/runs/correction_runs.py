"""What tests of corrections share: runs that wait, and corrections as any other language would start them. No test here."""

import uuid
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.corrections import Settlement
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

# 10 * 50 + 40 * 4160 = 166,900 micro-USD by our contract.
USAGE = {"input_tokens": 50, "output_tokens": 4160}


async def run_without_usage(stack: Stack, *, missing_usage: str = "hold", tenant: str = "default") -> str:
    """Run a request whose answer has no usage; return its id."""
    prompt = "A cup [simulate:missing_usage]"
    payload = {**CONTRACT, "prompt": prompt, "missing_usage": missing_usage, "tenant": tenant}
    return (await stack.run(payload, run_id=new_run_id(tenant))).run_id


def describe_reconciliation(run_id: str, usage: Any = USAGE) -> dict[str, Any]:
    """Make a correction as JSON."""
    return {
        "action": "reconcile",
        "run_id": run_id,
        "usage": usage,
        "reason": "The provider's answer to ticket 7",
        "actor": "ada",
    }


async def start_correction(stack: Stack, correction: Any, workflow_id: str) -> WorkflowHandle[Any, Any]:
    """Start a correction by names and plain JSON."""
    return await stack.client.start_workflow(
        names.RECONCILIATION,
        correction,
        id=workflow_id,
        task_queue=names.RUNS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )


async def settle(stack: Stack, correction: Any) -> Settlement:
    """Run a correction to its end."""
    handle = await start_correction(stack, correction, f"reconcile:test-{uuid.uuid4().hex}")
    return Settlement.model_validate(await handle.result())


def state_of(stack: Stack, run_id: str) -> str:
    """Read a run's billing state from the ledger."""
    record = Ledger(stack.database).state_of(run_id)
    assert record is not None
    return record.state
