"""`wait`: until a run has ended."""

import asyncio

from cli import options
from cli.deleted_pictures import warn_of_deleted
from cli.lookup import await_result
from cli.output import Output
from cli.run_view import describe_result
from cli.session import Session, open_session
from contracts.result import RunResult


def wait(*, run: options.Run, tenant: options.Tenant = "default", as_json: options.AsJson = False) -> None:
    """Wait for a run and show its result.

    A run that has ended long ago, and that only the ledger knows, is shown too.
    """
    session, output = open_session(), Output(as_json=as_json)
    result, link = asyncio.run(_wait(options.find_run_id(run, tenant), session, output))
    view = describe_result(result, session.find_store(), link)
    output.answer(result.model_dump(mode="json"), view)


async def _wait(run_id: str, session: Session, output: Output) -> tuple[RunResult, str | None]:
    result, link = await await_result(run_id, session, output)
    return await warn_of_deleted(result, session, output), link
