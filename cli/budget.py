"""`budget set` and `budget show`: what tenants may spend in a month and in a day, and how far they are."""

import asyncio
from typing import Annotated

import typer
from rich.text import Text
from typer import Argument, Option

from billing.budgets import Budgets
from cli import options
from cli.budget_view import describe_budget, tabulate_budgets
from cli.changing_budget import carry_out_decision, make_decision
from cli.output import Output
from cli.session import open_session
from cli.settling import find_actor

budget = typer.Typer(help="Set and show what tenants may spend.", add_completion=False)

_Tenant = Annotated[str, Argument(metavar="TENANT", help="Whose budget it is.")]


@budget.command("set")
def set_budget(
    *,
    tenant: _Tenant,
    month: Annotated[
        str | None, Option(metavar="USD", help="The most for a month (UTC), such as 250.00; none lifts it.")
    ] = None,
    day: Annotated[
        str | None, Option(metavar="USD", help="The most for a day (UTC), such as 20.00; none lifts it.")
    ] = None,
    reason: Annotated[str, Option(help="Why; kept with the budget.")],
    actor: Annotated[
        str | None, Option(help="Who decides; kept with the budget. Default: this machine's user.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Set what a tenant may spend, from the next request on.

    What was spent before in the same month and on the same day counts. The budget holds for real money and, apart from
    that, for simulated money.
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
    """Show budgets, what is used and reserved of them, and what is left.

    Reserved is the worst case of requests that are under way, whose outcome is unknown, or whose bill has no amount yet.
    """
    with open_session().open_ledger() as database:
        budgets = Budgets(database)
        shown = (budgets.show(tenant),) if tenant else budgets.list_all()
    document = {"budgets": [each.model_dump(mode="json") for each in shown]}
    view = [describe_budget(shown[0])] if tenant else [tabulate_budgets(shown)]
    Output(as_json=as_json).answer(document, *(view if shown else [Text("No tenant has a budget.")]))
