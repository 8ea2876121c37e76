"""A decision about a budget: made of what was typed, carried out by its workflow, awaited, and shown."""

import asyncio
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError

from cli.awaiting import await_result
from cli.budget_view import describe_budget
from cli.failures import INTERRUPTED, CommandFailed, RequestRefused
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.session import Session
from contracts import names
from contracts.budgets import BudgetDecision, MalformedDecision, TenantBudget, read_decision
from workflows.budget_details import describe_decision

_LIFT = "none"


def make_decision(
    tenant: str, *, month: str | None, day: str | None, reason: str, actor: str
) -> BudgetDecision:
    """The decision that was typed.

    Raises:
        RequestRefused: with all that is wrong.
    """
    given = {"month": month, "day": day}
    limits = {
        period: None if limit == _LIFT else limit for period, limit in given.items() if limit is not None
    }
    if not limits:
        raise RequestRefused("Which budget? Give --month USD, --day USD or both; none lifts a budget.")
    try:
        return read_decision({"tenant": tenant, "limits": limits, "reason": reason, "actor": actor})
    except MalformedDecision as error:
        raise RequestRefused(f"{error} Nothing was changed.") from None


async def carry_out_decision(decision: BudgetDecision, session: Session, output: Output) -> None:
    """Carries out a decision and shows the budget as it counts then.

    Raises:
        CommandFailed: it was refused, it failed, or the waiting was interrupted; then it goes on.
    """
    client = await connect_to_own_workers(session, output)
    handle = await _start(client, decision)
    try:
        budget = await await_result(client, handle, output, set())
    except WorkflowFailureError as error:
        raise _describe_failure(error.cause) from error
    except asyncio.CancelledError:
        raise CommandFailed(
            "The decision is carried out all the same. `python starter.py budget show` says what counts.",
            exit_status=INTERRUPTED,
        ) from None
    link = session.link_to_run(decision.workflow_id, client)
    output.answer(budget.model_dump(mode="json") | {"web_ui": link}, describe_budget(budget, link))


async def _start(client: Client, decision: BudgetDecision) -> WorkflowHandle[Any, TenantBudget]:
    """Starts the decision, or attaches to the same one where it is under way."""
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
