"""What `reconcile`, `reprice` and `reverse` do once they know what to correct: carry it out and answer."""

from collections.abc import Sequence

from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.run_view import describe_lines
from cli.session import Session
from cli.settlement_view import (
    describe_settlement,
    document_endings,
    find_status,
    refuse_unsettled,
    tabulate_endings,
)
from cli.settling import settle_all, start_correction
from contracts.corrections import Correction


async def correct_one(correction: Correction, session: Session, output: Output, *, wait: bool = True) -> int:
    """Carries out one correction and shows the run; with `wait` False only where it is carried out.

    Raises:
        CommandFailed: it was refused, it failed, or the waiting was interrupted.
    """
    client = await connect_to_own_workers(session, output)
    link = session.link_to_run(correction.workflow_id, client)
    if not wait:
        await start_correction(client, correction)
        document = {"status": "started", "workflow_id": correction.workflow_id, "web_ui": link}
        output.answer(document, describe_lines(f"{correction.workflow_id} started", [("Web UI", link or "")]))
        return 0
    (ending,) = await settle_all(client, [correction], output)
    settlement = refuse_unsettled(ending)
    output.answer(
        settlement.model_dump(mode="json") | {"web_ui": link}, describe_settlement(settlement, link)
    )
    return 0


async def correct_many(corrections: Sequence[Correction], session: Session, output: Output) -> int:
    """Carries out corrections, shows what became of each, and returns the exit status."""
    client = await connect_to_own_workers(session, output)
    endings = await settle_all(client, corrections, output)
    output.answer(document_endings(endings), *tabulate_endings(endings))
    return find_status(endings)
