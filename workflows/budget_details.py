"""What an operator reads of a budget: a line for the timeline, and markdown for the top of its page. Pure."""

from contracts.budgets import BudgetDecision, PeriodBudget, TenantBudget
from workflows.details import quote


def describe_decision(decision: BudgetDecision) -> str:
    """One line: what is decided for whom, and by whom."""
    limits = ", ".join(
        f"{limit} USD a {period}" if limit else f"none a {period}"
        for period, limit in decision.limits.items()
    )
    return f"budget of {decision.tenant}: {limits}, by {quote(decision.actor)}"


def describe_budget(decision: BudgetDecision, budget: TenantBudget) -> str:
    """The decision with its reason, and what is spent of each budget that counts now."""
    lines = [_describe_period(period) for period in (budget.month, budget.day) if period.limit_usd]
    told = "\n".join(lines) or "- no budget: nothing is refused"
    return f"**Decided** · {describe_decision(decision)}\n\n{told}\n\n**Reason:** {quote(decision.reason)}"


def _describe_period(budget: PeriodBudget) -> str:
    spent = [
        f"{money} {spend.used_usd} used, {spend.reserved_usd} reserved"
        for money, spend in (("real", budget.real), ("simulated", budget.simulated))
    ]
    return f"- {budget.limit_usd} USD for the {budget.period} ({budget.span}): {'; '.join(spent)}"
