"""`wait`: until a run has ended."""

import asyncio

from cli import options
from cli.lookup import await_result
from cli.output import Output
from cli.run_view import describe_result
from cli.session import open_session


def wait(*, run: options.Run, tenant: options.Tenant = "default", as_json: options.AsJson = False) -> None:
    """Wait for a run and show its result.

    A run that has ended long ago, and that only the ledger knows, is shown too.
    """
    session, output = open_session(), Output(as_json=as_json)
    result, link = asyncio.run(await_result(options.find_run_id(run, tenant), session, output))
    view = describe_result(result, session.find_store(), link)
    output.answer(result.model_dump(mode="json"), view)
