"""`batch status`, `watch` and `list`: where batches stand, by the database; the workflow is asked for the parts of an economy batch."""

import asyncio
from typing import Annotated

from rich.text import Text
from typer import Option

from billing.batches import Batches
from cli import options
from cli.batch_options import BatchId
from cli.batch_parts import describe_parts, find_parts_of
from cli.batch_starting import require_batch
from cli.batch_view import describe_progress, find_status, tabulate_batches
from cli.batch_watching import watch_batch
from cli.output import Output
from cli.session import Session, open_session
from contracts.batches import BatchProgress


def status(*, batch_id: BatchId, as_json: options.AsJson = False) -> None:
    """Show a batch as it is now."""
    session = open_session()
    progress = require_batch(session, batch_id)
    parts = asyncio.run(find_parts_of(progress, session))
    document = progress.model_dump(mode="json")
    if parts:
        document |= {"parts": [each.model_dump(mode="json") for each in parts]}
    Output(as_json=as_json).answer(document, describe_progress(progress), *describe_parts(parts))


def watch(*, batch_id: BatchId, as_json: options.AsJson = False) -> int:
    """Watch a batch until it ends.

    Exit status 0 where all its lines are done. Ctrl-C leaves it running.
    """
    session, output = open_session(), Output(as_json=as_json)
    known = require_batch(session, batch_id)
    return asyncio.run(_watch(known, session, output))


def list_batches(
    *,
    limit: Annotated[int | None, Option(min=1, help="At most so many.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List all batches, the newest first."""
    with open_session().open_ledger() as database:
        batches = Batches(database).list(limit=limit)
    document = {"batches": [batch.model_dump(mode="json") for batch in batches]}
    Output(as_json=as_json).answer(
        document, tabulate_batches(batches) if batches else Text("There is no batch.")
    )


async def _watch(known: BatchProgress, session: Session, output: Output) -> int:
    client = await session.connect()
    progress = await watch_batch(known.batch_id, session, client, output, economy=known.economy)
    output.answer(progress.model_dump(mode="json"), describe_progress(progress))
    return find_status(progress)
