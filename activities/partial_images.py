"""Partial pictures of a stream: kept in the store and told to the run, beside the call and never in its way.

The finished picture is what is paid for. So nothing here is waited for while the stream goes on, nothing is tried for
long, and whatever fails is a line in the log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import WorkflowHandle

from contracts import names
from contracts.images import PartialImage
from imaging.answers import decode_base64
from imaging.calls import PartialPicture
from imaging.pictures import verify_picture
from imaging.store import ImageStore
from imaging.streams import Show

_LARGEST_ENCODED = 64 * 1024 * 1024
"""Characters of base64: the largest picture that the provider makes has some 30 million."""
_PATIENCE_SECONDS = 5.0
"""For what is left to be told once the answer is there and written down: a run need not wait longer for its end."""
_SIGNAL_PATIENCE = timedelta(seconds=10)

log = structlog.get_logger("partial_images")


@contextlib.asynccontextmanager
async def announcing_partial_images(
    store: ImageStore, attempt_id: str, most: int, *, owner: str | None = None
) -> AsyncIterator[Show]:
    """What is shown within the block is kept and told to the activity's own run, the first `most` of it."""
    waiting: asyncio.Queue[PartialPicture | None] = asyncio.Queue()

    def show(picture: PartialPicture) -> None:
        if picture.index < most:
            waiting.put_nowait(picture)

    if not most:
        yield show
        return
    announcing = asyncio.create_task(_announce_all(waiting, store, attempt_id, owner))
    try:
        yield show
    finally:
        waiting.put_nowait(None)
        await asyncio.wait({announcing}, timeout=_PATIENCE_SECONDS)
        if not announcing.done():
            log.warning("Partial pictures are given up on: the answer is there.", attempt_id=attempt_id)
            announcing.cancel()
            await asyncio.wait({announcing})


async def _announce_all(
    waiting: asyncio.Queue[PartialPicture | None], store: ImageStore, attempt_id: str, owner: str | None
) -> None:
    info = activity.info()
    # This very run: an answer that comes after it was started anew is no news to the new one.
    run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    while picture := await waiting.get():
        try:
            await _announce(picture, store, attempt_id, owner, run)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it must not cost the answer that is paid for
            log.warning(
                "A partial picture is not shown.",
                attempt_id=attempt_id,
                index=picture.index,
                error=f"{type(error).__name__}: {error}",
            )


async def _announce(
    picture: PartialPicture,
    store: ImageStore,
    attempt_id: str,
    owner: str | None,
    run: WorkflowHandle[Any, Any],
) -> None:
    data = await asyncio.to_thread(_open, picture.encoded)
    image = await store.put_partial_image(data, owner=owner)
    await run.signal(
        names.SIGNAL_PARTIAL_IMAGE,
        PartialImage(attempt_id=attempt_id, index=picture.index, image=image),
        rpc_timeout=_SIGNAL_PATIENCE,
    )
    log.info("A partial picture is shown.", attempt_id=attempt_id, index=picture.index, uri=image.uri)


def _open(encoded: str) -> bytes:
    if len(encoded) > _LARGEST_ENCODED:
        raise ValueError(f"it has {len(encoded):,} characters, more than {_LARGEST_ENCODED:,}")
    data = decode_base64(encoded)
    verify_picture(data)
    return data
