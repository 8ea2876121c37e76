"""Announcements beside a call that is paid for."""

import asyncio
import base64
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.provider_call import image_saving as partial_images
from activities.provider_call.image_saving import announce_partial_images
from gpt_image_runs.contracts.images import ImageRef, PartialImage
from gpt_image_runs.provider.calls import PartialPicture
from tests.support.files.picture_files import make_picture

ENCODED = base64.b64encode(make_picture("PNG", (16, 16))).decode()


class Store:
    """Keeps pictures once it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def put_partial_image(self, data: bytes, *, owner: str | None = None) -> ImageRef:
        del owner
        await self.open.wait()
        return ImageRef(
            uri="s3://a", sha256="a", media_type="image/png", bytes=len(data), width=16, height=16
        )


class Run:
    """Takes signals, and where `failing` says so, none."""

    def __init__(self, *, failing: int = 0) -> None:
        self.told: list[int] = []
        self.failing = failing

    def get_workflow_handle(self, *_: Any, **__: Any) -> "Run":
        return self

    async def signal(self, _: str, partial: PartialImage, **__: Any) -> None:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("a defect")
        self.told.append(partial.index)


async def announce(store: Any, run: Any, *encoded: str, most: int = 3) -> str:
    async def activity() -> str:
        async with announce_partial_images(store, "att_1", most) as show:
            for index, text in enumerate(encoded):
                show(PartialPicture(index=index, encoded=text))
            return "the finished picture"

    answer: str = await ActivityEnvironment(client=run).run(activity)
    return answer


async def test_what_is_shown_is_told_before_the_call_ends() -> None:
    """Each picture is told in order, as many as were asked for, and no more."""
    store, run = Store(), Run()
    store.open.set()
    assert await announce(store, run, ENCODED, ENCODED, ENCODED, ENCODED, most=2) == "the finished picture"
    assert run.told == [0, 1]


async def test_one_that_fails_keeps_back_no_other() -> None:
    """What is no picture or cannot be told is passed over; the next one is told."""
    store, run = Store(), Run(failing=1)
    store.open.set()
    assert await announce(store, run, ENCODED, "!", ENCODED) == "the finished picture"
    assert run.told == [2]


async def test_one_that_is_too_large_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial picture beyond all measure is passed over; the next one is told."""
    monkeypatch.setattr(partial_images, "_MAX_ENCODED", len(ENCODED))
    store, run = Store(), Run()
    store.open.set()
    larger = base64.b64encode(make_picture("PNG", (64, 64))).decode()
    assert len(larger) > len(ENCODED)
    assert await announce(store, run, larger, ENCODED) == "the finished picture"
    assert run.told == [1]


async def test_what_cannot_be_told_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer keeps no paid answer back."""
    monkeypatch.setattr(partial_images, "_PATIENCE_SECONDS", 0.01)
    run = Run()
    assert await announce(Store(), run, ENCODED) == "the finished picture"
    assert run.told == []


async def test_a_call_that_fails_fails_as_it_did() -> None:
    """The failure of the call is not hidden by what is still to be told."""
    store, run = Store(), Run()
    store.open.set()

    async def activity() -> None:
        async with announce_partial_images(store, "att_1", 1) as show:  # type: ignore[arg-type]  # all that is used of it
            show(PartialPicture(index=0, encoded=ENCODED))
            raise ValueError("the stream broke")

    with pytest.raises(ValueError, match="the stream broke"):
        await ActivityEnvironment(client=run).run(activity)  # type: ignore[arg-type]  # the same
    assert run.told == [0]
