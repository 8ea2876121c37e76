"""The workflow that changes a tenant's budget, and shows in the Web UI who decided it and why."""

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.budgets import (
        BudgetDecision,
        PeriodBudget,
        TenantBudget,
    )
    from gpt_image_runs.contracts.problems import InvalidPayload, parse
    from workflows import retry_policies as policies
    from workflows.activity_calls import run_shielded
    from workflows.payloads import NOTHING, read_argument
    from workflows.reconciliation import describe_end
    from workflows.run_status import quote


def describe_decision(decision: BudgetDecision) -> str:
    """Format the decision as one line: tenant, limits, actor."""
    limits = ", ".join(
        f"{limit} USD a {period}" if limit else f"none a {period}"
        for period, limit in decision.limits.items()
    )
    return f"budget of {decision.tenant}: {limits}, by {quote(decision.actor)}"


def describe_budget(decision: BudgetDecision, budget: TenantBudget) -> str:
    """Format the decision with its reason and what is spent of each budget, as markdown."""
    lines = [_describe_period(period) for period in (budget.month, budget.day) if period.limit_usd]
    spending = "\n".join(lines) or "- no budget: nothing is refused"
    return (
        f"**Decided** · {describe_decision(decision)}\n\n{spending}\n\n**Reason:** {quote(decision.reason)}"
    )


def _describe_period(budget: PeriodBudget) -> str:
    spent = [
        f"{money} {spend.used_usd} used, {spend.reserved_usd} reserved"
        for money, spend in (("real", budget.real), ("simulated", budget.simulated))
    ]
    return f"- {budget.limit_usd} USD for the {budget.period} ({budget.span}): {'; '.join(spent)}"


@workflow.defn(name=names.BUDGET_CHANGE)
class BudgetChange:
    """One decision about one tenant's budget. It applies to every request that begins after it."""

    @workflow.run
    async def run(self, decision_json: RawValue = NOTHING) -> TenantBudget:
        """Apply one `BudgetDecision`, given as JSON of unknown origin.

        Raises:
            ApplicationError: type `RequestRefused` if it is not valid.
        """
        decision = self._read(read_argument(decision_json))
        if workflow.info().typed_search_attributes.get(names.TENANT) != decision.tenant:
            workflow.upsert_search_attributes([names.TENANT.value_set(decision.tenant)])
        workflow.set_current_details(describe_decision(decision))
        # After a cancellation the new budget applies, and the page says so.
        budget = await run_shielded(self._change(decision))
        workflow.set_current_details(describe_budget(decision, budget))
        return budget

    def _read(self, payload: Any) -> BudgetDecision:
        try:
            return parse(BudgetDecision, payload, "decision")
        except InvalidPayload as error:
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
