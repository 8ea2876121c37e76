"""`recover`: what to do about a ledger that is older than its image store."""

import asyncio
from typing import Annotated

from typer import Option

from cli import options
from cli.failures import RequestRefused
from cli.output import Output
from cli.recovery_from_store import accept_loss, recover_from_store
from cli.session import open_session
from cli.settling import find_actor


def recover(
    *,
    from_store: Annotated[
        bool, Option("--from-store", help="Take back what the image store and Temporal know.")
    ] = False,
    without_temporal: Annotated[
        bool, Option("--without-temporal", help="Do not ask Temporal: the image store alone counts.")
    ] = False,
    accept: Annotated[
        bool, Option("--accept-loss", help="Go on without what is still missing; needs --reason.")
    ] = False,
    reason: options.Reason = None,
    actor: options.Actor = None,
    as_json: options.AsJson = False,
) -> int:
    """Take back what a ledger has lost that was restored from an older copy.

    These are attempts and their bills. Nothing is sent to the provider. It may be repeated: what the ledger has is left as it is. Exit status 1 while anything is
    missing. See docs/restore.md.
    """
    output, session, who = Output(as_json=as_json), open_session(), find_actor(actor)
    if from_store == accept:
        raise RequestRefused("Choose one of --from-store and --accept-loss.")
    if accept:
        if not reason:
            raise RequestRefused("--accept-loss needs --reason TEXT: it is kept with who decided.")
        return asyncio.run(accept_loss(session, output, who, reason, ask_temporal=not without_temporal))
    return asyncio.run(recover_from_store(session, output, who, ask_temporal=not without_temporal))
