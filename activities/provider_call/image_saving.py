"""Getting what was paid for into the store, while the event loop stays free and whatever else goes wrong."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import WorkflowHandle

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallResult
from gpt_image_runs.contracts.images import ImageRef, PartialImage
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.backend import StoreFailure, StoreUnavailable
from gpt_image_runs.images.formats import verify_picture
from gpt_image_runs.images.ownership import describe_deleted
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.calls import PartialPicture
from gpt_image_runs.provider.client import RawAnswer
from gpt_image_runs.provider.responses import (
    Answer,
    Show,
    check_pictures,
    decode_base64,
    read_answer,
    read_response,
    resolve_links,
)
from gpt_image_runs.webhooks.downloads import TIMEOUT_SECONDS, Downloader, DownloadFailed

log = structlog.get_logger("picture_keeper")


_PROVEN_FOR_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 15.0
# What is left of the attempt's time when the keeper gives up: enough to write the outcome down.
_RESERVE_SECONDS = 20.0


class ImagesNotSaved(StoreFailure):
    """Pictures of an answer could not be stored, and are lost. `saved` are those that could be."""

    def __init__(self, saved: tuple[ImageRef, ...], cause: Exception) -> None:
        super().__init__(str(cause))
        self.saved = saved


class ImageSaver:
    """Stores the pictures of answers, patiently: a store that is away is waited for while the attempt has time.

    `downloader` fetches those that an answer only links to.
    """

    def __init__(self, store: ImageStore, downloader: Downloader | None = None) -> None:
        self._store = store
        self._downloader = downloader
        self._proven_at = -_PROVEN_FOR_SECONDS
        # Each takes a core, and for that moment three times the memory of its picture: more at once would gain nothing.
        self._openings = asyncio.Semaphore(os.cpu_count() or 1)

    async def check_store(self) -> None:
        """Nothing is bought that could not be kept: checks the store, unless it was seen to work just now.

        Raises:
            StoreUnavailable: it does not take what is written.
        """
        if time.monotonic() - self._proven_at > _PROVEN_FOR_SECONDS:
            await self._store.check()
            self._proven_at = time.monotonic()

    async def warn_of_deleted(self, result: CallResult) -> CallResult:
        """The same result with a warning for each picture that was deleted since it was paid for. A store that is away says nothing."""
        try:
            deleted = await describe_deleted(self._store, result.images)
        except StoreUnavailable as error:
            log.warning("pictures_not_checked", attempt_id=result.attempt_id, error=str(error))
            return result
        return result.model_copy(update={"warnings": (*result.warnings, *deleted)})

    async def open_answer(self, raw: RawAnswer, request: ImageRequest, response: Any = None) -> Answer:
        """Read an answer and check that its pictures can be decoded. Those that cannot do not affect the others.

        `response` is its JSON where that was read already.

        Raises:
            ProviderFailure: it has no picture that can be used.
        """
        async with self._openings:
            answer = await asyncio.to_thread(_read_answer, raw, request, response)
        if any(item.url for item in answer.items) and self._downloader is not None:
            answer = await self._download(answer, self._downloader, raw)
        async with self._openings:
            return await asyncio.to_thread(check_pictures, raw, answer)

    async def save(self, pictures: tuple[bytes, ...], raw: RawAnswer, *, owner: str) -> tuple[ImageRef, ...]:
        """Store the pictures of an answer, as those of the tenant `owner`.

        They would be lost with this attempt, so a store that is away is waited for as long as the attempt has time.

        Raises:
            ImagesNotSaved: some could not be stored, whatever the reason.
        """
        give_up_at = _end_of_attempt(raw) - _RESERVE_SECONDS
        images: list[ImageRef] = []
        failure: Exception | None = None
        for data in pictures:
            try:
                images.append(await self._put_patiently(data, owner, give_up_at))
            except StoreUnavailable as error:
                failure = error
                break  # The time is over: each of the others could take as long again as the store's own time-out.
            except Exception as error:
                log.exception("image_not_saved")
                failure = error
        if failure is not None:
            raise ImagesNotSaved(tuple(images), failure)
        self._proven_at = time.monotonic()
        return tuple(images)

    async def save_without_waiting(self, pictures: tuple[bytes, ...], *, owner: str) -> tuple[ImageRef, ...]:
        """Store pictures that can be read from the provider again.

        Raises:
            StoreUnavailable: try again later.
        """
        images = [await self._store.put_image(data, owner=owner) for data in pictures]
        self._proven_at = time.monotonic()
        return tuple(images)

    async def save_raw_body(self, attempt_id: str, raw: RawAnswer) -> None:
        """Keep the whole body of an answer of which something could not be used; the ledger holds its beginning."""
        try:
            await self._store.put_document(f"malformed/{attempt_id}.body", raw.body)
        except StoreUnavailable as error:
            log.warning(
                "The body of a malformed answer was not kept.", attempt_id=attempt_id, error=str(error)
            )

    async def _download(self, answer: Answer, downloader: Downloader, raw: RawAnswer) -> Answer:
        left = _end_of_attempt(raw) - time.monotonic() - _RESERVE_SECONDS
        # A line of a batch was answered long ago: what is left of this attempt is not told by its answer.
        seconds = left if 0 < left < TIMEOUT_SECONDS else TIMEOUT_SECONDS

        async def fetch(url: str) -> bytes:
            return await downloader.fetch(url, seconds)

        return await resolve_links(answer, fetch, DownloadFailed)

    async def _put_patiently(self, data: bytes, owner: str, give_up_at: float) -> ImageRef:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._store.put_image(data, owner=owner)
            except StoreUnavailable as error:
                if time.monotonic() + pause > give_up_at:
                    raise
                log.warning(
                    "The store is away; what was paid for is held until it is back.", error=str(error)
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)


def _read_answer(raw: RawAnswer, request: ImageRequest, response: Any) -> Answer:
    return read_answer(raw, request) if response is None else read_response(raw, response, request)


def _end_of_attempt(raw: RawAnswer) -> float:
    """About when Temporal gives the attempt up, by the monotonic clock; the answer has come just now.

    Not by the time of day: a clock that is set forward meanwhile would lose what was paid for.
    """
    allowed = activity.info().start_to_close_timeout
    return time.monotonic() - raw.latency_ms / 1000 + (allowed.total_seconds() if allowed else 600.0)


_MAX_ENCODED = 64 * 1024 * 1024
"""Characters of base64: the largest picture that the provider makes has some 30 million."""
_PATIENCE_SECONDS = 5.0
"""For what is left to be told once the answer is there and written down: a run need not wait longer for its end."""
_SIGNAL_PATIENCE = timedelta(seconds=10)


@contextlib.asynccontextmanager
async def announce_partial_images(
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
    if len(encoded) > _MAX_ENCODED:
        raise ValueError(f"it has {len(encoded):,} characters, more than {_MAX_ENCODED:,}")
    data = decode_base64(encoded)
    verify_picture(data)
    return data
