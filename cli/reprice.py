"""`reprice`: bills usage that waited for a price."""

import asyncio
from typing import Annotated

from typer import Argument

from billing.waiting import list_waiting
from cli import options
from cli.correcting import correct_many, correct_one
from cli.correction_files import make_correction
from cli.output import Output
from cli.session import open_session
from cli.settling import find_actor
from contracts.corrections import Correction

_REASON = "A price is known now."


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
    """Bill usage that waited for a price.

    Prices are those of the day on which the request was sent, by the rate cards of the worker. What still has none
    stays pending.
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
