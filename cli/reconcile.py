"""`reconcile`: settles runs by the usage that the provider has told since."""

import asyncio
from typing import Annotated

from typer import Argument, Option

from cli import options
from cli.correcting import correct_many, correct_one
from cli.correction_files import Defaults, make_correction, read_corrections, read_usage_file
from cli.failures import RequestRefused
from cli.output import Output
from cli.session import open_session
from cli.settling import find_actor

_ONE_OR_MANY = "Give either a RUN with its --usage and a --reason, or a --file of many. See `python starter.py reconcile --help`."


def reconcile(
    *,
    run: Annotated[str | None, Argument(metavar="RUN", help="A run's id, or its request id.")] = None,
    usage: Annotated[
        str | None,
        Option(metavar="FILE|-", help="The provider's usage object as JSON; - is stdin.", show_default=False),
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
    """Settle runs by the usage that the provider has told since.

    The difference to what was billed so far is written as a new entry. The same usage again finds that entry. All lines of
    a --file are checked before the first is started.
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
