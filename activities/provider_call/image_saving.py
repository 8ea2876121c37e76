"""Save the images of an answer in the store, and publish partial images while the call is in progress."""

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

log = structlog.get_logger("image_saving")


_CHECKED_FOR_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 15.0
# How much of the attempt's time is left when saving gives up: enough to record the outcome.
_RESERVE_SECONDS = 20.0


class ImagesNotSaved(StoreFailure):
    """Images of an answer could not be stored and are lost. `saved` are the others."""

    def __init__(self, saved: tuple[ImageRef, ...], cause: Exception) -> None:
        super().__init__(str(cause))
        self.saved = saved


class ImageSaver:
    """Saves the images of answers. It retries while the attempt has time, if the store is unavailable.

    `downloader` fetches images that an answer only links to.
    """

    def __init__(self, store: ImageStore, downloader: Downloader | None = None) -> None:
        self._store = store
        self._downloader = downloader
        self._checked_at = -_CHECKED_FOR_SECONDS
        # Each takes a core, and three times the memory of its image: more at once would gain nothing.
        self._openings = asyncio.Semaphore(os.cpu_count() or 1)

    async def check_store(self) -> None:
        """Check that the store can be written, unless it could within the last 30 seconds.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        if time.monotonic() - self._checked_at > _CHECKED_FOR_SECONDS:
            await self._store.check()
            self._checked_at = time.monotonic()

    async def warn_of_deleted(self, result: CallResult) -> CallResult:
        """Add a warning to the result for each image that was deleted since, none if the store is unavailable."""
        try:
            deleted = await describe_deleted(self._store, result.images)
        except StoreUnavailable as error:
            log.warning("pictures_not_checked", attempt_id=result.attempt_id, error=str(error))
            return result
        return result.model_copy(update={"warnings": (*result.warnings, *deleted)})

    async def open_answer(self, raw: RawAnswer, request: ImageRequest, response: Any = None) -> Answer:
        """Read an answer and check that its images can be decoded. Those that cannot do not affect the others.

        `response` is its JSON if that was parsed already.

        Raises:
            ProviderFailure: it has no usable image.
        """
        async with self._openings:
            answer = await asyncio.to_thread(_read_answer, raw, request, response)
        if any(item.url for item in answer.items) and self._downloader is not None:
            answer = await self._download(answer, self._downloader, raw)
        async with self._openings:
            return await asyncio.to_thread(check_pictures, raw, answer)

    async def save(self, pictures: tuple[bytes, ...], raw: RawAnswer, *, owner: str) -> tuple[ImageRef, ...]:
        """Save the images of an answer for the tenant `owner`.

        They would be lost with this attempt, so saving is retried as long as the attempt has time.

        Raises:
            ImagesNotSaved: some could not be stored, for any reason.
        """
        give_up_at = _end_of_attempt(raw) - _RESERVE_SECONDS
        images: list[ImageRef] = []
        failure: Exception | None = None
        for data in pictures:
            try:
                images.append(await self._put_with_retries(data, owner, give_up_at))
            except StoreUnavailable as error:
                failure = error
                break  # No time is left: each of the others could take as long as the store's own timeout.
            except Exception as error:
                log.exception("image_not_saved")
                failure = error
        if failure is not None:
            raise ImagesNotSaved(tuple(images), failure)
        self._checked_at = time.monotonic()
        return tuple(images)

    async def save_without_waiting(self, pictures: tuple[bytes, ...], *, owner: str) -> tuple[ImageRef, ...]:
        """Save images that can be read from the provider again later.

        Raises:
            StoreUnavailable: nothing is lost; try again later.
        """
        images = [await self._store.put_image(data, owner=owner) for data in pictures]
        self._checked_at = time.monotonic()
        return tuple(images)

    async def save_raw_body(self, attempt_id: str, raw: RawAnswer) -> None:
        """Save the whole body of an answer of which a part cannot be used. The ledger only has its beginning."""
        try:
            await self._store.put_document(f"malformed/{attempt_id}.body", raw.body)
        except StoreUnavailable as error:
            log.warning("malformed_answer_not_saved", attempt_id=attempt_id, error=str(error))

    async def _download(self, answer: Answer, downloader: Downloader, raw: RawAnswer) -> Answer:
        left = _end_of_attempt(raw) - time.monotonic() - _RESERVE_SECONDS
        # A line of a batch was answered long ago, so its latency says nothing about this attempt's remaining time.
        seconds = left if 0 < left < TIMEOUT_SECONDS else TIMEOUT_SECONDS

        async def fetch(url: str) -> bytes:
            return await downloader.fetch(url, seconds)

        return await resolve_links(answer, fetch, DownloadFailed)

    async def _put_with_retries(self, data: bytes, owner: str, give_up_at: float) -> ImageRef:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._store.put_image(data, owner=owner)
            except StoreUnavailable as error:
                if time.monotonic() + pause > give_up_at:
                    raise
                log.warning("image_store_unavailable", error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)


def _read_answer(raw: RawAnswer, request: ImageRequest, response: Any) -> Answer:
    return read_answer(raw, request) if response is None else read_response(raw, response, request)


def _end_of_attempt(raw: RawAnswer) -> float:
    """Estimate when Temporal times out the attempt, on the monotonic clock, for an answer that has just come.

    The time of day is not used: if that clock is set forward meanwhile, images would be given up too early.
    """
    allowed = activity.info().start_to_close_timeout
    return time.monotonic() - raw.latency_ms / 1000 + (allowed.total_seconds() if allowed else 600.0)


# Characters of base64. The largest image that the provider makes has some 30 million.
_MAX_ENCODED = 64 * 1024 * 1024
# How long a finished call waits for its partial images to be published.
_PATIENCE_SECONDS = 5.0
_SIGNAL_PATIENCE = timedelta(seconds=10)


@contextlib.asynccontextmanager
async def announce_partial_images(
    store: ImageStore, attempt_id: str, most: int, *, owner: str | None = None
) -> AsyncIterator[Show]:
    """Save partial images that are passed to what is yielded, at most `most`, and signal them to the run."""
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
            log.warning("partial_images_given_up", attempt_id=attempt_id)
            announcing.cancel()
            await asyncio.wait({announcing})


async def _announce_all(
    waiting: asyncio.Queue[PartialPicture | None], store: ImageStore, attempt_id: str, owner: str | None
) -> None:
    info = activity.info()
    # Only this execution: partial images of an earlier one must not show up in a later one.
    run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    while picture := await waiting.get():
        try:
            await _announce(picture, store, attempt_id, owner, run)
        except Exception as error:  # noqa: BLE001 - no error here may cost the answer that is paid for
            log.warning(
                "partial_image_not_published",
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
    log.info("partial_image_published", attempt_id=attempt_id, index=picture.index, uri=image.uri)


def _open(encoded: str) -> bytes:
    if len(encoded) > _MAX_ENCODED:
        raise ValueError(f"it has {len(encoded):,} characters, more than {_MAX_ENCODED:,}")
    data = decode_base64(encoded)
    verify_picture(data)
    return data
