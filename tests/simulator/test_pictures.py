"""The simulator's images are complete files of the requested size, format and transparency."""

import base64
import io
from typing import Literal

import pytest
from openai import AsyncOpenAI
from openai.types import ImagesResponse
from PIL import Image, ImageChops, ImageColor

from gpt_image_runs.images.formats import verify_picture
from simulator.drawing import PALETTES, draw_caption
from simulator.pictures import Brief, Encoding, draw_picture, edit_picture, stamp_picture

PNG = Encoding("png", 100)


def decode(answer: ImagesResponse) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(picture.b64_json or "", validate=True)))
        for picture in answer.data or []
    ]


def brief(size: tuple[int, int], text: str = "A red bicycle", *, transparent: bool = False) -> Brief:
    return Brief(text=text, note="Simulated", size=size, variant=0, transparent=transparent)


@pytest.mark.parametrize(
    ("output_format", "pillow_name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")]
)
async def test_image_has_the_requested_size_and_format(
    client: AsyncOpenAI, output_format: Literal["png", "jpeg", "webp"], pillow_name: str
) -> None:
    answer = await client.images.generate(
        model="gpt-image-1",
        prompt="A red bicycle",
        size="1536x1024",
        output_format=output_format,
    )
    [picture] = decode(answer)
    picture.load()
    assert (picture.format, picture.size) == (pillow_name, (1536, 1024))
    assert (answer.output_format, answer.size, answer.background) == (output_format, "1536x1024", "opaque")


async def test_images_of_one_request_differ(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model="gpt-image-1-mini", prompt="A red bicycle", n=4)
    assert len({picture.tobytes() for picture in decode(answer)}) == 4


async def test_transparent_background_has_zero_alpha_around_the_objects(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(
        model="gpt-image-1.5", prompt="A red bicycle", background="transparent", output_format="webp"
    )
    [picture] = decode(answer)
    alpha = picture.convert("RGBA").getchannel("A")
    assert alpha.getpixel((2, 2)) == 0
    assert alpha.getextrema() == (0, 255)
    assert answer.background == "transparent"


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
async def test_output_compression_makes_smaller_files(
    client: AsyncOpenAI, output_format: Literal["jpeg", "webp"]
) -> None:
    answers = [
        await client.images.generate(
            model="gpt-image-1",
            prompt="A bicycle",
            output_format=output_format,
            output_compression=compression,
        )
        for compression in (10, 100)
    ]
    small, large = (len((answer.data or [])[0].b64_json or "") for answer in answers)
    assert small * 2 < large


def test_variants_share_the_palette_but_not_the_objects() -> None:
    first, second = (draw_picture(brief((256, 256))._replace(variant=variant), PNG) for variant in (0, 1))
    assert first != second


def test_prompt_is_drawn_at_the_bottom_in_the_ink_color() -> None:

    inks = {ImageColor.getrgb(palette.ink) for palette in PALETTES}

    def count_ink(text: str) -> int:
        picture = Image.open(io.BytesIO(draw_picture(brief((512, 512), text), PNG))).convert("RGB")
        foot = picture.crop((0, 384, 512, 460))
        return sum(count for count, color in foot.getcolors(512 * 76) or [] if color in inks)

    assert count_ink("A premium product hero shot") > 200
    assert count_ink("") == 0


@pytest.mark.parametrize("text", ["x" * 32_000, "word " * 6_400, "図" * 200, "a\x00b\tc\nd", " "])
def test_any_prompt_is_drawn_within_the_margins(text: str) -> None:
    picture = Image.new("RGBA", (1024, 640))
    draw_caption(picture, text, "Simulated", PALETTES[0], on_card=False)
    box = picture.getbbox()
    assert box is not None
    assert box[0] >= 32
    assert box[1] >= 320
    assert box[2] <= 1024 - 32
    assert box[3] <= 640 - 32


def test_edit_repaints_exactly_where_the_mask_is_transparent() -> None:
    original = Image.new("RGB", (320, 320), (10, 200, 30))
    mask = Image.new("RGBA", (320, 320), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (40, 60, 200, 260))
    edited = Image.open(io.BytesIO(edit_picture(brief((320, 320)), PNG, original, mask))).convert("RGB")
    difference = ImageChops.difference(edited, original).convert("L").point(lambda level: 255 if level else 0)
    assert difference.getbbox() == (40, 60, 200, 260)
    inside = difference.crop((40, 60, 200, 260))
    assert (inside.histogram()[255]) / (160 * 200) > 0.95


def test_edit_without_mask_repaints_everything_but_keeps_the_light() -> None:
    corners = []
    for color in ("black", "white"):
        edited = edit_picture(brief((320, 320)), PNG, Image.new("RGB", (64, 64), color), None)
        picture = Image.open(io.BytesIO(edited)).convert("L")
        assert picture.size == (320, 320)
        corners.append(picture.tobytes()[0])
    dark, light = corners
    # 60% of the difference between black and white, which is 255, is 153.
    assert light - dark == pytest.approx(153, abs=2)
    assert 0 < dark < light < 255


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("transparent", [False, True])
def test_stamp_changes_the_file_but_no_pixel(output_format: str, *, transparent: bool) -> None:
    drawn = draw_picture(brief((320, 256), transparent=transparent), Encoding(output_format, 90))
    stamped = [stamp_picture(drawn, request_id) for request_id in ("req_1", "req_22")]
    assert len({drawn, *stamped}) == 3
    for data in stamped:
        assert verify_picture(data) == verify_picture(drawn)
        assert Image.open(io.BytesIO(data)).tobytes() == Image.open(io.BytesIO(drawn)).tobytes()


async def test_equal_requests_get_different_bytes(client: AsyncOpenAI) -> None:
    """As with the provider, whose images carry their origin."""
    answers = [
        await client.images.generate(model="gpt-image-1", prompt="A red bicycle", quality="low")
        for _ in range(2)
    ]
    assert len({(answer.data or [])[0].b64_json for answer in answers}) == 2
