"""How budgets look: one in lines, many in a table. Real and simulated money are never added."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from cli.output import make_table
from cli.run_view import describe_lines
from contracts.budgets import PeriodBudget, PeriodSpend, TenantBudget


def describe_budget(budget: TenantBudget, link: str | None = None) -> Text:
    """What one tenant may spend, has spent, and has left."""
    rows = [row for period in (budget.month, budget.day) for row in _describe_period(period)]
    return describe_lines(f"Budget of {budget.tenant}", [*rows, ("Web UI", link or "")])


def tabulate_budgets(budgets: Sequence[TenantBudget]) -> Table:
    """A row for each budget and each kind of money that was spent of it."""
    numbers = ("Budget USD", "Used", "Reserved", "Left")
    table = make_table("Tenant", "Period (UTC)", *numbers, right=numbers)
    for budget in budgets:
        for period in (budget.month, budget.day):
            if period.limit_usd:
                for money, spend in _list_spend(period):
                    name = Text(f"{budget.tenant}{money}")
                    left = spend.left_usd or ""
                    table.add_row(
                        name, period.span, period.limit_usd, spend.used_usd, _show_reserved(spend), left
                    )
    return table


def _describe_period(period: PeriodBudget) -> list[tuple[str, str]]:
    limit = f"{period.limit_usd} USD" if period.limit_usd else "no budget"
    decided = f", by {period.actor}: {period.reason}" if period.actor else ""
    rows: list[tuple[str, str]] = [(period.period, f"{limit} for {period.span} (UTC){decided}")]
    for money, spend in _list_spend(period):
        left = f", {spend.left_usd} left" if spend.left_usd else ""
        rows.append((" ", f"{spend.used_usd} used, {_show_reserved(spend)} reserved{left}{money}"))
    return rows


def _list_spend(period: PeriodBudget) -> list[tuple[str, PeriodSpend]]:
    """Real money always; simulated money where any was spent."""
    kinds = [("", period.real), (" (simulated)", period.simulated)]
    return [kind for kind in kinds if kind[1] is period.real or _has_spent(kind[1])]


def _has_spent(spend: PeriodSpend) -> bool:
    return (spend.used_usd, spend.reserved_usd, spend.unpriced) != ("0.000000", "0.000000", 0)


def _show_reserved(spend: PeriodSpend) -> str:
    """An amount that leaves requests out is a lower bound of the worst case."""
    return f"{spend.reserved_usd}{'+' if spend.unpriced else ''}"
