"""Small copies of pictures: their proportions, their transparency, and what cannot be copied."""

import io
from typing import Any

import pytest
from PIL import Image

from gpt_image_runs.images.formats import NotAPicture
from gpt_image_runs.images.thumbnails import make_thumbnail


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, kind, **options)
    return encoded.getvalue()


def read(data: bytes, *, longest_edge: int = 100) -> Image.Image:
    """Decode the thumbnail of a picture."""
    thumbnail = make_thumbnail(data, longest_edge=longest_edge, quality=80)
    picture = Image.open(io.BytesIO(thumbnail.data))
    assert (picture.format, picture.size) == ("WEBP", (thumbnail.width, thumbnail.height))
    assert thumbnail.has_alpha is (picture.mode == "RGBA")
    return picture


@pytest.mark.parametrize(
    ("size", "small"),
    [((1024, 1536), (67, 100)), ((3840, 2160), (100, 56)), ((3000, 2), (100, 1)), ((64, 32), (64, 32))],
)
def test_thumbnail_keeps_proportions_and_is_never_enlarged(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    assert read(encode(Image.new("RGB", size, "navy"), "PNG")).size == small


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (encode(Image.new("RGB", (200, 200), "red"), "JPEG"), "RGB"),
        (encode(Image.new("CMYK", (200, 200), (0, 255, 255, 0)), "JPEG"), "RGB"),
        (encode(Image.new("RGB", (200, 200), "red"), "WEBP", lossless=True), "RGB"),
        (encode(Image.new("P", (200, 200), (255, 0, 0)), "PNG"), "RGB"),
        (encode(Image.new("RGBA", (200, 200), (255, 0, 0, 80)), "PNG"), "RGBA"),
        (encode(Image.new("RGBA", (200, 200), (255, 0, 0, 80)), "WEBP", lossless=True), "RGBA"),
    ],
    ids=["jpeg", "cmyk", "webp", "palette", "transparent-png", "transparent-webp"],
)
def test_thumbnail_keeps_colors_and_transparency(data: bytes, mode: str) -> None:
    picture = read(data)
    assert picture.mode == mode
    red, green, blue, *alpha = picture.convert(mode).getpixel((50, 50)) or ()  # type: ignore[misc]
    assert red > 220
    assert max(green, blue) < 40
    assert alpha == ([] if mode == "RGB" else [80])


@pytest.mark.parametrize("length", [4, 40, 300])
def test_truncated_picture_is_refused(length: int) -> None:
    data = encode(Image.effect_noise((200, 200), 80), "PNG")
    with pytest.raises(NotAPicture):
        make_thumbnail(data[:length], longest_edge=100, quality=80)
