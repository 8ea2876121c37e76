"""`recover`: a run whose response was stored but could not be used, or a ledger older than its image store."""

import asyncio
from typing import Annotated

from typer import Argument, Option

from cli import options
from cli.errors import RequestRefused
from cli.options import find_actor
from cli.output import Output
from cli.recover.from_store import accept_loss, recover_from_store
from cli.recover.kept_answers import recover_answer
from cli.session import open_session


def recover(
    run: Annotated[
        str | None, Argument(metavar="[RUN]", help="A run's id, or its request id.", show_default=False)
    ] = None,
    *,
    from_store: Annotated[
        bool, Option("--from-store", help="Restore what the image store and Temporal know.")
    ] = False,
    without_temporal: Annotated[
        bool, Option("--without-temporal", help="Do not use Temporal, only the image store.")
    ] = False,
    accept: Annotated[
        bool, Option("--accept-loss", help="Continue without what is still missing; needs --reason.")
    ] = False,
    tenant: options.Tenant = "default",
    reason: options.Reason = None,
    actor: options.Actor = None,
    as_json: options.AsJson = False,
) -> int:
    """Recover a run from its stored response, or a ledger that was restored from an older copy.

    With RUN: if a response could not be used, it was stored whole in the image store. What can be read of it now, with today's
    settings (IMAGE_URL_HOSTS), is stored and billed.

    With --from-store: attempts and bills that the ledger has lost are restored from the image store and Temporal. It can be
    repeated: existing data is not changed. Exit status 1 while anything is missing. See docs/how-to/restore.md.

    Nothing is sent to the provider and nothing is paid.
    """
    if (run is not None) + from_store + accept != 1:
        raise RequestRefused("Choose one of RUN, --from-store and --accept-loss.")
    output, session = Output(as_json=as_json), open_session()
    if run is not None:
        asyncio.run(recover_answer(options.find_run_id(run, tenant), session, output))
        return 0
    who = find_actor(actor)
    if accept:
        if not reason:
            raise RequestRefused("--accept-loss needs --reason TEXT, which is recorded with who decided.")
        return asyncio.run(accept_loss(session, output, who, reason, ask_temporal=not without_temporal))
    return asyncio.run(recover_from_store(session, output, who, ask_temporal=not without_temporal))
