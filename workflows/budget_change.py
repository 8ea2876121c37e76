"""The workflow of one decision about a tenant's budget: durable, and visible in the Web UI with who decided it and why."""

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.budgets import BudgetDecision, MalformedDecision, TenantBudget, read_decision
    from workflows import policies
    from workflows.arguments import NOTHING, read_argument
    from workflows.budget_details import describe_budget, describe_decision
    from workflows.cancellation import finish_despite_cancellation
    from workflows.correction_details import describe_end


@workflow.defn(name=names.BUDGET_CHANGE)
class BudgetChange:
    """One decision about the budget of one tenant. It counts for every request that begins after it."""

    @workflow.run
    async def run(self, decision_json: RawValue = NOTHING) -> TenantBudget:
        """Carries out one `BudgetDecision`: one argument, as JSON that anybody may have sent.

        Raises:
            ApplicationError: type `RequestRefused` where it cannot be read.
        """
        decision = self._read(read_argument(decision_json))
        if workflow.info().typed_search_attributes.get(names.TENANT) != decision.tenant:
            workflow.upsert_search_attributes([names.TENANT.value_set(decision.tenant)])
        workflow.set_current_details(describe_decision(decision))
        # Whoever cancels must not be left to wonder which budget counts: the new one does, and the page says so.
        budget = await finish_despite_cancellation(self._change(decision))
        workflow.set_current_details(describe_budget(decision, budget))
        return budget

    def _read(self, payload: Any) -> BudgetDecision:
        try:
            return read_decision(payload)
        except MalformedDecision as error:
            workflow.set_current_details(describe_end(str(error)))
            raise ApplicationError(str(error), type=names.REQUEST_REFUSED, non_retryable=True) from None

    async def _change(self, decision: BudgetDecision) -> TenantBudget:
        budget: TenantBudget = await workflow.execute_activity(
            names.CHANGE_BUDGET,
            decision,
            result_type=TenantBudget,
            start_to_close_timeout=policies.MONEY_ATTEMPT,
            retry_policy=policies.MONEY_RETRY,
            summary=describe_decision(decision),
        )
        return budget
