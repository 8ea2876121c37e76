"""The simulator's streamed responses, as the real SDK reads them."""

import base64
import io
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from PIL import Image, ImageChops, ImageStat

from simulator.server import Simulator
from tests.simulator.conftest import MakePicture

ASKED: dict[str, Any] = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low"}


async def stream(client: AsyncOpenAI, prompt: str = "abcd", **asked: Any) -> list[Any]:
    """Return the events of one streamed generation."""
    whole = {**ASKED, "partial_images": 2, **asked}
    return [event async for event in await client.images.generate(prompt=prompt, stream=True, **whole)]


def open_picture(event: Any) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(event.b64_json))) as picture:
        return picture.convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).rms)


async def test_stream_partial_images_get_clearer_and_cost_100_tokens_each(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    first, second, last = await stream(client)

    assert [event.type for event in (first, second)] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in (first, second)] == [0, 1]
    assert last.type == "image_generation.completed"
    finished = open_picture(last)
    assert open_picture(first).size == open_picture(second).size == finished.size == (1024, 1024)
    assert difference(open_picture(first), finished) > difference(open_picture(second), finished) > 0
    assert last.usage.output_tokens == 196 + 2 * 100
    assert not hasattr(first, "usage")
    (entry,) = simulator.books.entries
    assert (entry.paid, entry.status, entry.partial_images) == (True, 200, 2)
    assert entry.usage == last.usage.to_dict()
    assert entry.list_price_micro_usd == 35 + 396 * 30  # 7 tokens of text at 5


async def test_stream_partial_image_count_zero_and_max_are_accepted(client: AsyncOpenAI) -> None:
    """Zero partial images are a stream of one event; three are the maximum."""
    assert [event.type for event in await stream(client, partial_images=0)] == ["image_generation.completed"]
    assert len(await stream(client, partial_images=3)) == 4


async def test_stream_with_n_above_one_is_refused_unpaid(client: AsyncOpenAI, simulator: Simulator) -> None:
    with pytest.raises(openai.BadRequestError, match=r"Streaming is only supported with n=1\.") as refused:
        await stream(client, n=2)
    assert (refused.value.code, refused.value.type) == (None, "invalid_request_error")
    assert simulator.books.paid == ()


async def test_edit_stream_uses_image_edit_event_names(
    client: AsyncOpenAI, make_picture: MakePicture
) -> None:
    picture = ("a.png", make_picture("RGB", (64, 64), "red"), "image/png")
    answer = await client.images.edit(
        image=picture,
        prompt="abcd",
        stream=True,
        partial_images=1,
        model="gpt-image-2",
        size="1024x1024",
        quality="low",
    )
    assert [event.type async for event in answer] == ["image_edit.partial_image", "image_edit.completed"]


async def test_stream_usage_omits_output_details(client: AsyncOpenAI, simulator: Simulator) -> None:
    """A gpt-image-1.5 stream reports one sum of output tokens; the books split text and image."""
    *_, last = await stream(client, model="gpt-image-1.5")
    assert last.usage.output_tokens == 272 + 40 + 200
    assert "output_tokens_details" not in last.usage.to_dict()
    (entry,) = simulator.books.entries
    assert entry.usage
    assert entry.usage["output_tokens_details"] == {"image_tokens": 472, "text_tokens": 40}


@pytest.mark.parametrize(
    ("fault", "error", "paid"),
    [
        ("stream_broken", openai.APIConnectionError, True),
        ("stream_broken=2", openai.APIConnectionError, True),
        ("truncated", openai.APIConnectionError, True),
        ("stream_error=1", openai.APIError, False),
        ("stream_error=1,paid=true", openai.APIError, True),
        ("stream_malformed=1", ValueError, True),
        ("rate_limited", openai.RateLimitError, False),
        ("reset_before", openai.APIConnectionError, False),
    ],
)
async def test_stream_fault_raises_in_the_sdk(
    client: AsyncOpenAI, simulator: Simulator, fault: str, error: type[Exception], *, paid: bool
) -> None:
    """The SDK raises for a fault before, between and within events; only the books know what was paid."""
    with pytest.raises(error):
        await stream(client, f"abcd [simulate:{fault}]")
    assert [entry.paid for entry in simulator.books.entries] == [paid]


@pytest.mark.parametrize(
    ("fault", "kinds", "output_tokens"),
    [
        ("stream_ended=1", ["partial_image"], 396),
        ("stream_ended", [], 396),
        ("fewer_partials", ["partial_image", "completed"], 296),
        ("missing_usage", ["partial_image", "partial_image", "completed"], 396),
    ],
)
async def test_incomplete_stream_is_paid(
    client: AsyncOpenAI, simulator: Simulator, fault: str, kinds: list[str], output_tokens: int
) -> None:
    """A stream may end early without an error, or bring fewer images or no usage."""
    events = await stream(client, f"abcd [simulate:{fault}]")
    assert [event.type.removeprefix("image_generation.") for event in events] == kinds
    told = [event for event in events if "usage" in event.to_dict()]
    assert len(told) == (1 if fault == "fewer_partials" else 0)
    (entry,) = simulator.books.entries
    assert entry.usage
    assert (entry.paid, entry.usage["output_tokens"]) == (True, output_tokens)
