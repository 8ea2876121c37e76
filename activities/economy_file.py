"""The input file of a part, written to disk line by line: in memory is the picture of one line at most."""

import asyncio
from pathlib import Path

from activities.batch_pages import BatchPages
from activities.economy_documents import PassedLine, PlannedLine
from contracts.economy_steps import PartOrder
from contracts.request import ImageRequest
from imaging.batch_lines import write_request_line
from imaging.input_memory import ByteBudget, hold_inputs
from imaging.inputs import InputsRefused
from imaging.ownership import PictureOwners
from imaging.store import ImageStore

# Nobody waits for a part; calls, which somebody may wait for, give the memory back within seconds.
_PATIENCE_SECONDS = 600.0


async def write_part_file(
    path: Path,
    order: PartOrder,
    lines: list[PlannedLine],
    store: ImageStore,
    *,
    owners: PictureOwners,
    budget: ByteBudget,
) -> list[PassedLine]:
    """Writes the claimed lines of a part; returns those whose pictures are not sound any more, which are left out.

    Raises:
        StoreUnavailable: a page or a picture cannot be read now.
        InputMemoryFull: the pictures of calls have left no room for those of a line.
    """
    pages = BatchPages(store, order.batch.batch_id, order.batch.digest)
    left_out: list[PassedLine] = []
    with path.open("wb") as file:
        for line in lines:
            kept = await pages.find(line.page, line.line)
            request = ImageRequest.model_validate(kept.request)
            try:
                held = await hold_inputs(request, owners.store_of(line.tenant), budget, _PATIENCE_SECONDS)
            except InputsRefused as refused:
                left_out.append(
                    PassedLine(line=line.line, run_id=line.run_id, state="left_out", reason=str(refused))
                )
                continue
            try:
                data = await asyncio.to_thread(
                    write_request_line, line.run_id, request, order.part.model, held.hand_over()
                )
            finally:
                held.release()
            file.write(data)
    return left_out
