"""`budget set` and `budget show`: what tenants may spend in a month and in a day, and how much is left."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError
from typer import Argument, Option

from cli import options
from cli.errors import INTERRUPTED, CommandFailed, RequestRefused
from cli.options import find_actor
from cli.output import Output, make_table
from cli.own_workers import connect_to_own_workers
from cli.runs.follow import await_result
from cli.runs.view import describe_lines
from cli.session import Session, open_session
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.budgets import (
    BudgetDecision,
    PeriodBudget,
    PeriodSpend,
    TenantBudget,
)
from gpt_image_runs.contracts.problems import InvalidPayload, parse
from workflows.budget_change import describe_decision


def describe_budget(budget: TenantBudget, link: str | None = None) -> Text:
    """Format a tenant's budget, what is spent and what is left."""
    rows = [row for period in (budget.month, budget.day) for row in _describe_period(period)]
    return describe_lines(f"Budget of {budget.tenant}", [*rows, ("Web UI", link or "")])


def tabulate_budgets(budgets: Sequence[TenantBudget]) -> Table:
    """Make a table with a row for each budget and each kind of money (real, simulated) that was spent."""
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
    """Return real money always; simulated money if any was spent."""
    kinds = [("", period.real), (" (simulated)", period.simulated)]
    return [kind for kind in kinds if kind[1] is period.real or _has_spent(kind[1])]


def _has_spent(spend: PeriodSpend) -> bool:
    return (spend.used_usd, spend.reserved_usd, spend.unpriced) != ("0.000000", "0.000000", 0)


def _show_reserved(spend: PeriodSpend) -> str:
    """Format the reserved amount. A "+" marks a lower bound: requests without a price are not included."""
    return f"{spend.reserved_usd}{'+' if spend.unpriced else ''}"


_LIFT = "none"


def make_decision(
    tenant: str, *, month: str | None, day: str | None, reason: str, actor: str
) -> BudgetDecision:
    """Build the decision from the options.

    Raises:
        RequestRefused: with all problems.
    """
    given = {"month": month, "day": day}
    limits = {
        period: None if limit == _LIFT else limit for period, limit in given.items() if limit is not None
    }
    if not limits:
        raise RequestRefused("No budget is given. Use --month USD, --day USD or both; none removes a budget.")
    try:
        given_decision = {"tenant": tenant, "limits": limits, "reason": reason, "actor": actor}
        return parse(BudgetDecision, given_decision, "decision")
    except InvalidPayload as error:
        raise RequestRefused(f"{error} Nothing was changed.") from None


async def carry_out_decision(decision: BudgetDecision, session: Session, output: Output) -> None:
    """Run a decision and show the resulting budget.

    Raises:
        CommandFailed: it was refused, it failed, or waiting was interrupted and it continues.
    """
    client = await connect_to_own_workers(session, output)
    handle = await _start(client, decision)
    try:
        budget = await await_result(client, handle, output, set())
    except WorkflowFailureError as error:
        raise _describe_failure(error.cause) from error
    except asyncio.CancelledError:
        raise CommandFailed(
            "The decision is still being applied. `python starter.py budget show` shows the result.",
            exit_status=INTERRUPTED,
        ) from None
    link = session.link_to_run(decision.workflow_id, client)
    output.answer(budget.model_dump(mode="json") | {"web_ui": link}, describe_budget(budget, link))


async def _start(client: Client, decision: BudgetDecision) -> WorkflowHandle[Any, TenantBudget]:
    """Start the decision, or attach to it if it is already running."""
    return await client.start_workflow(
        names.BUDGET_CHANGE,
        decision,
        id=decision.workflow_id,
        task_queue=names.RUNS_QUEUE,
        result_type=TenantBudget,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        search_attributes=TypedSearchAttributes([SearchAttributePair(names.TENANT, decision.tenant)]),
        static_summary=describe_decision(decision),
        priority=Priority(fairness_key=decision.tenant),
    )


def _describe_failure(cause: BaseException) -> CommandFailed:
    if isinstance(cause, ApplicationError) and cause.type == names.REQUEST_REFUSED:
        return RequestRefused(cause.message)
    return CommandFailed(f"The decision ended without a result: {cause}.")


budget = typer.Typer(help="Set and show what tenants may spend.", add_completion=False)

_Tenant = Annotated[str, Argument(metavar="TENANT", help="The budget's tenant.")]


@budget.command("set")
def set_budget(
    *,
    tenant: _Tenant,
    month: Annotated[
        str | None,
        Option(metavar="USD", help="The limit for a month (UTC), such as 250.00; none removes it."),
    ] = None,
    day: Annotated[
        str | None, Option(metavar="USD", help="The limit for a day (UTC), such as 20.00; none removes it.")
    ] = None,
    reason: Annotated[str, Option(help="The reason; recorded with the budget.")],
    actor: Annotated[
        str | None, Option(help="Who decides; recorded with the budget. Default: this machine's user.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Set what a tenant may spend, from the next request on.

    Spending earlier in the same month and on the same day counts. Real and simulated money are limited separately, each by this
    amount.
    """
    decision = make_decision(tenant, month=month, day=day, reason=reason, actor=find_actor(actor))
    asyncio.run(carry_out_decision(decision, open_session(), Output(as_json=as_json)))


@budget.command("show")
def show_budget(
    *,
    tenant: Annotated[
        str | None, Argument(metavar="TENANT", help="Default: each tenant that has a budget.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show budgets, and how much is used, reserved and left.

    Reserved is the maximum cost of requests that are in progress, have an unknown outcome, or are not priced yet.
    """
    with open_session().open_ledger() as database:
        budgets = Budgets(database)
        shown = (budgets.show(tenant),) if tenant else budgets.list_all()
    document = {"budgets": [each.model_dump(mode="json") for each in shown]}
    view = [describe_budget(shown[0])] if tenant else [tabulate_budgets(shown)]
    Output(as_json=as_json).answer(document, *(view if shown else [Text("No tenant has a budget.")]))
