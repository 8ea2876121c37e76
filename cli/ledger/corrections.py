"""`reconcile`, `reprice` and `reverse`: correct the bills of runs."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from typer import Argument, Option

from cli import options
from cli.errors import RequestRefused
from cli.ledger.correction_files import Defaults, make_correction, read_corrections, read_usage_file
from cli.ledger.settlements import (
    describe_settlement,
    document_endings,
    find_status,
    refuse_unsettled,
    settle_all,
    start_correction,
    tabulate_endings,
)
from cli.options import find_actor
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.runs.view import describe_lines
from cli.session import Session, open_session
from gpt_image_runs.billing.ledger.queries import list_waiting
from gpt_image_runs.contracts.corrections import Correction


async def correct_one(correction: Correction, session: Session, output: Output, *, wait: bool = True) -> int:
    """Run one correction and show the result; with `wait` False, only start it.

    Raises:
        CommandFailed: it was refused, it failed, or waiting was interrupted.
    """
    client = await connect_to_own_workers(session, output)
    link = session.link_to_run(correction.workflow_id, client)
    if not wait:
        await start_correction(client, correction)
        document = {"status": "started", "workflow_id": correction.workflow_id, "web_ui": link}
        output.answer(document, describe_lines(f"{correction.workflow_id} started", [("Web UI", link or "")]))
        return 0
    (ending,) = await settle_all(client, [correction], output)
    settlement = refuse_unsettled(ending)
    output.answer(
        settlement.model_dump(mode="json") | {"web_ui": link}, describe_settlement(settlement, link)
    )
    return 0


async def correct_many(corrections: Sequence[Correction], session: Session, output: Output) -> int:
    """Run corrections, show the outcome of each, and return the exit status."""
    client = await connect_to_own_workers(session, output)
    endings = await settle_all(client, corrections, output)
    output.answer(document_endings(endings), *tabulate_endings(endings))
    return find_status(endings)


_ONE_OR_MANY = "Use either a RUN with its --usage and a --reason, or a --file of many. See `python starter.py reconcile --help`."


def reconcile(
    *,
    run: Annotated[str | None, Argument(metavar="RUN", help="A run's id, or its request id.")] = None,
    usage: Annotated[
        str | None,
        Option(
            metavar="FILE|-", help="The provider's usage object as JSON, or - for stdin.", show_default=False
        ),
    ] = None,
    file: Annotated[
        str | None,
        Option(metavar="FILE", help="Many at once: JSON Lines of run_id, usage and reason, or a .csv."),
    ] = None,
    reason: options.Reason = None,
    actor: options.Actor = None,
    tenant: options.Tenant = "default",
    wait: Annotated[bool, Option("--wait/--no-wait", help="Wait for the end (one RUN only).")] = True,
    as_json: options.AsJson = False,
) -> int:
    """Settle runs with the usage that the provider has reported since.

    The difference to what was billed so far is written as a new entry. Repeating it with the same usage changes nothing. All
    lines of a --file are checked before the first is started.
    """
    output, who = Output(as_json=as_json), find_actor(actor)
    if file is not None and run is None and usage is None and wait:
        corrections = read_corrections(file, Defaults(tenant, reason, who))
        return asyncio.run(correct_many(corrections, open_session(), output))
    if file is not None or run is None or usage is None:
        raise RequestRefused(_ONE_OR_MANY)
    correction = make_correction(
        action="reconcile",
        run_id=options.find_run_id(run, tenant),
        usage=read_usage_file(usage),
        reason=reason,
        actor=who,
    )
    return asyncio.run(correct_one(correction, open_session(), output, wait=wait))


_REASON = "A price is now known."


def reprice(
    *,
    run: Annotated[
        str | None, Argument(metavar="RUN", help="This run only: its id, or its request id.")
    ] = None,
    tenant: options.AnyTenant = None,
    reason: options.Reason = _REASON,
    actor: options.Actor = None,
    as_json: options.AsJson = False,
) -> int:
    """Bill usage that had no price before.

    Uses the prices of the day on which the request was sent, from the worker's rate cards. Runs that still have no price stay
    pending.
    """
    output, session, who = Output(as_json=as_json), open_session(), find_actor(actor)

    def order(run_id: str) -> Correction:
        return make_correction(action="reprice", run_id=run_id, reason=reason, actor=who)

    if run is not None:
        run_id = options.find_run_id(run, tenant or "default")
        return asyncio.run(correct_one(order(run_id), session, output))
    with session.open_ledger() as database:
        waiting = [found for found in list_waiting(database, tenant=tenant) if found.usage_is_kept]
    return asyncio.run(correct_many([order(found.run_id) for found in waiting], session, output))


def reverse(
    *,
    run: options.Run,
    reason: Annotated[str, Option(help="The reason; recorded on the entry.")],
    actor: options.Actor = None,
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> int:
    """Reverse everything that was billed for a run.

    The entries stay; a new entry has minus their sum. A run that was reversed is not billed again.
    """
    run_id = options.find_run_id(run, tenant)
    correction = make_correction(action="reverse", run_id=run_id, reason=reason, actor=find_actor(actor))
    return asyncio.run(correct_one(correction, open_session(), Output(as_json=as_json)))
