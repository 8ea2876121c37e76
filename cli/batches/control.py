"""The commands `batch pause`, `resume`, `cancel` and `retry`."""

import asyncio
from typing import Annotated

from rich.text import Text
from typer import Option

from cli import options
from cli.batches.run import start_and_watch
from cli.batches.start import (
    BatchId,
    Detach,
    FailFast,
    MaxCost,
    Options,
    Window,
    build_next_order,
    check_can_pause,
    check_economy_options,
    find_batch,
    parse_limit,
    refused_where_ended,
    require_batch,
)
from cli.batches.view import describe_progress
from cli.errors import FAILED, RequestRefused
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.session import Session, open_session
from gpt_image_runs.batches.batches import count_retries
from gpt_image_runs.client.batches import find_workflow_id, is_under_way
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchProgress, Retry


def pause(*, batch_id: BatchId, as_json: options.AsJson = False) -> None:
    """Start no further lines of a batch.

    Runs in progress finish. `batch resume` starts the next lines again.
    """
    effect = "No more lines are started. Runs in progress finish."
    _signal(batch_id, names.SIGNAL_PAUSE, "pause", effect, as_json)


def resume(*, batch_id: BatchId, as_json: options.AsJson = False) -> None:
    """Start lines of a paused batch again."""
    _signal(batch_id, names.SIGNAL_RESUME, "resume", "Lines are started again.", as_json)


def cancel(*, batch_id: BatchId, as_json: options.AsJson = False) -> None:
    """Stop a batch, so that it spends nothing more.

    No more lines are started, and runs in progress are cancelled. A request that was already sent is completed and billed,
    because it is charged anyway.
    """
    effect = "No more lines are started, and requests that were not sent yet are cancelled."
    _signal(batch_id, names.SIGNAL_CANCEL, "cancel", effect, as_json)


def retry(
    *,
    batch_id: BatchId,
    include_unknown: Annotated[
        bool,
        Option("--include-unknown", help="Also lines that may have been paid for without an answer."),
    ] = False,
    max_cost: MaxCost = None,
    fail_fast: FailFast = None,
    window: Window = None,
    detach: Detach = False,
    as_json: options.AsJson = False,
) -> int:
    """Start the lines of a batch again that were never paid.

    Lines that wait, as a limit or a cancellation kept them back, go on too. Lines with a request whose answer was lost may have been
    paid: they are counted, and started again only when asked for.
    """
    session, output = open_session(), Output(as_json=as_json)
    progress = require_batch(session, batch_id)
    wanted = Options(window, parse_limit(max_cost), fail_fast)
    if progress.economy:
        check_economy_options(wanted, session)
    with session.open_ledger() as database:
        counts = count_retries(database, batch_id)
    return asyncio.run(
        _retry(progress, counts, wanted, session, output, include_unknown=include_unknown, detach=detach)
    )


async def _retry(
    progress: BatchProgress,
    counts: dict[Retry, int],
    wanted: Options,
    session: Session,
    output: Output,
    *,
    include_unknown: bool,
    detach: bool,
) -> int:
    workflow_id = find_workflow_id(progress.batch_id, economy=progress.economy)
    if await is_under_way(await session.connect(), workflow_id):
        raise RequestRefused(
            f"The batch {progress.batch_id} is under way: wait for its end, or cancel it. Nothing was started.",
            batch_id=progress.batch_id,
        )
    kept_back = 0 if include_unknown else counts["unknown"]
    if kept_back:
        lines = "1 line" if kept_back == 1 else f"{kept_back:,} lines"
        output.warn(
            f"{lines} may have been paid for without an answer and stay as they are; --include-unknown starts them again."
        )
    again = counts["unpaid"] + (counts["unknown"] if include_unknown else 0)
    if not again and not progress.waiting:
        output.say("There is no line to start.")
        output.answer(progress.model_dump(mode="json"), describe_progress(progress))
        return FAILED if kept_back else 0
    output.say(f"{again:,} lines are started again, {progress.waiting:,} for the first time.")
    retried: Retry = "unknown" if include_unknown else "unpaid"
    order = build_next_order(progress, wanted, retried if again else None)
    return await start_and_watch(order, session, output, detach=detach)


def _signal(batch_id: str, signal: str, verb: str, effect: str, as_json: bool) -> None:  # noqa: FBT001 - passed on
    asyncio.run(_send(batch_id, signal, open_session(), Output(as_json=as_json), verb=verb, effect=effect))


async def _send(
    batch_id: str, signal: str, session: Session, output: Output, *, verb: str, effect: str
) -> None:
    known = find_batch(session, batch_id)
    if known and signal != names.SIGNAL_CANCEL:
        check_can_pause(known, verb)
    # Pausing and cancelling save money, so they do not wait for workers.
    resumes = signal == names.SIGNAL_RESUME
    client = await (connect_to_own_workers(session, output) if resumes else session.connect())
    economy_id = find_workflow_id(batch_id, economy=True)
    # The database may not know yet a batch that was just started.
    economy = known.economy if known else await is_under_way(client, economy_id)
    workflow_id = find_workflow_id(batch_id, economy=economy)
    with refused_where_ended(session, batch_id, verb):
        await client.get_workflow_handle(workflow_id).signal(signal)
    document = {"status": "asked", "batch_id": batch_id, "wish": verb}
    output.answer(document, Text(f"{batch_id}: {effect} See `python starter.py batch watch {batch_id}`."))
