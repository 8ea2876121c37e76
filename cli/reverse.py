"""`reverse`: takes back all that was billed for a run."""

import asyncio
from typing import Annotated

from typer import Option

from cli import options
from cli.correcting import correct_one
from cli.correction_files import make_correction
from cli.output import Output
from cli.session import open_session
from cli.settling import find_actor


def reverse(
    *,
    run: options.Run,
    reason: Annotated[str, Option(help="Why; kept on the entry.")],
    actor: options.Actor = None,
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> int:
    """Take back all that was billed for a run.

    The entries stay; a new one holds minus their sum. A run that was reversed is not billed again.
    """
    run_id = options.find_run_id(run, tenant)
    correction = make_correction(action="reverse", run_id=run_id, reason=reason, actor=find_actor(actor))
    return asyncio.run(correct_one(correction, open_session(), Output(as_json=as_json)))
