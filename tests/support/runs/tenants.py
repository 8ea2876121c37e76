"""Tenants with budgets that are decided by a workflow."""

import uuid
from typing import Any

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.budgets import TenantBudget
from tests.support.servers.stack import Stack


def new_tenant() -> str:
    """Make a tenant that no test has used."""
    return f"t{uuid.uuid4().hex[:12]}"


def limit(tenant: str, micro_usd: int, period: str = "month") -> dict[str, Any]:
    """Make a decision that limits a tenant's spend."""
    usd = f"{micro_usd // 10**6}.{micro_usd % 10**6:06d}"
    return {"tenant": tenant, "limits": {period: usd}, "reason": "a trial", "actor": "ada"}


async def change_budget(stack: Stack, decision: Any) -> TenantBudget:
    """Run a decision by names and plain JSON, as any other language would."""
    handle = await stack.client.start_workflow(
        names.BUDGET_CHANGE, decision, id=f"budget:test-{uuid.uuid4().hex}", task_queue=names.RUNS_QUEUE
    )
    return TenantBudget.model_validate(await handle.result())
