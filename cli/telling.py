"""Whether the end of a run will be told to whom its request names, as far as a command can see."""

from temporalio.client import Client

from cli.starting import StartedRun
from contracts import names
from contracts.request import ImageRequest
from runtime.temporal import has_pollers


async def find_doubt(client: Client, run: StartedRun, request: ImageRequest) -> str | None:
    """Why nobody may be told of the run's end though the request asks for it, as a sentence; None where nothing speaks against it."""
    if request.notify is None:
        return None
    if run.ended:
        return "The run had ended before: nobody is told of its end now. Its result is the one that it had."
    if await has_pollers(client, (names.NOTIFY_QUEUE,)):
        return None
    return (
        f"Nobody polls {names.NOTIFY_QUEUE}: the run's end is told once a worker with NOTIFY_HOSTS runs, and to nobody if there is"
        " none for three days."
    )
