"""`change_budget`: one decision about a tenant's budget into the ledger, once."""

import asyncio

from temporalio import activity

from activities.failures import known_failures
from billing.budgets import Budgets
from contracts import names
from contracts.budgets import BudgetDecision, TenantBudget


class BudgetChanger:
    """Decides budgets in one ledger."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    @activity.defn(name=names.CHANGE_BUDGET)
    async def change_budget(self, decision: BudgetDecision) -> TenantBudget:
        """What the tenant may spend from now on, and has spent. A decision that is tried again is written once.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
        """
        info = activity.info()
        key = f"{info.workflow_id}/{info.workflow_run_id}"
        with known_failures():
            return await asyncio.to_thread(self._budgets.decide, key, decision)
