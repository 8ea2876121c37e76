"""Partial images published while a paid call is in progress."""

import asyncio
import base64
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.provider_call import image_saving
from activities.provider_call.image_saving import announce_partial_images
from gpt_image_runs.contracts.images import ImageRef, PartialImage
from gpt_image_runs.provider.calls import PartialPicture
from tests.support.files.picture_files import make_picture

ENCODED = base64.b64encode(make_picture("PNG", (16, 16))).decode()


class Store:
    """Stores images once it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def put_partial_image(self, data: bytes, *, owner: str | None = None) -> ImageRef:
        del owner
        await self.open.wait()
        return ImageRef(
            uri="s3://a", sha256="a", media_type="image/png", bytes=len(data), width=16, height=16
        )


class Run:
    """Accepts signals after `failing` of them have failed."""

    def __init__(self, *, failing: int = 0) -> None:
        self.indexes: list[int] = []
        self.failing = failing

    def get_workflow_handle(self, *_: Any, **__: Any) -> "Run":
        return self

    async def signal(self, _: str, partial: PartialImage, **__: Any) -> None:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("a defect")
        self.indexes.append(partial.index)


async def announce(store: Any, run: Any, *encoded: str, most: int = 3) -> str:
    async def activity() -> str:
        async with announce_partial_images(store, "att_1", most) as show:
            for index, text in enumerate(encoded):
                show(PartialPicture(index=index, encoded=text))
            return "the finished picture"

    answer: str = await ActivityEnvironment(client=run).run(activity)
    return answer


async def test_requested_number_of_partial_images_is_published_in_order() -> None:
    store, run = Store(), Run()
    store.open.set()
    assert await announce(store, run, ENCODED, ENCODED, ENCODED, ENCODED, most=2) == "the finished picture"
    assert run.indexes == [0, 1]


async def test_partial_image_that_fails_is_skipped() -> None:
    store, run = Store(), Run(failing=1)
    store.open.set()
    assert await announce(store, run, ENCODED, "!", ENCODED) == "the finished picture"
    assert run.indexes == [2]


async def test_too_large_partial_image_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_saving, "_MAX_ENCODED", len(ENCODED))
    store, run = Store(), Run()
    store.open.set()
    larger = base64.b64encode(make_picture("PNG", (64, 64))).decode()
    assert len(larger) > len(ENCODED)
    assert await announce(store, run, larger, ENCODED) == "the finished picture"
    assert run.indexes == [1]


async def test_store_that_hangs_does_not_delay_the_paid_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_saving, "_PATIENCE_SECONDS", 0.01)
    run = Run()
    assert await announce(Store(), run, ENCODED) == "the finished picture"
    assert run.indexes == []


async def test_failed_call_raises_its_error_after_publishing() -> None:
    store, run = Store(), Run()
    store.open.set()

    async def activity() -> None:
        async with announce_partial_images(store, "att_1", 1) as show:  # type: ignore[arg-type]  # all that is used of it
            show(PartialPicture(index=0, encoded=ENCODED))
            raise ValueError("the stream broke")

    with pytest.raises(ValueError, match="the stream broke"):
        await ActivityEnvironment(client=run).run(activity)  # type: ignore[arg-type]  # the same
    assert run.indexes == [0]
