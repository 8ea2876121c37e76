"""Which bytes are accepted as pictures, and the properties that are read from them."""

import struct
from collections.abc import Callable

import pytest

from gpt_image_runs.images.formats import (
    NotAPicture,
    Picture,
    inspect_picture,
    media_type_of_name,
    verify_picture,
)
from tests.support.files.picture_files import (
    jpeg_of_size,
    make_animation,
    make_picture,
    png_chunk,
    png_of_size,
    webp_of_size,
)

Look = Callable[[bytes], Picture]
Make = Callable[[int, int], bytes]
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("look", [inspect_picture, verify_picture])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (make_picture("PNG"), Picture("image/png", 8, 6, has_alpha=False)),
        (make_picture("PNG", mode="RGBA"), Picture("image/png", 8, 6, has_alpha=True)),
        (make_picture("PNG", mode="LA"), Picture("image/png", 8, 6, has_alpha=True)),
        (make_picture("PNG", mode="P"), Picture("image/png", 8, 6, has_alpha=False)),
        (make_picture("PNG", mode="P", transparency=0), Picture("image/png", 8, 6, has_alpha=True)),
        (make_picture("JPEG", (31, 17)), Picture("image/jpeg", 31, 17, has_alpha=False)),
        (make_picture("JPEG", (31, 17), progressive=True), Picture("image/jpeg", 31, 17, has_alpha=False)),
        (
            make_picture("JPEG", (31, 17), exif=b"Exif\0\0" + bytes(40)),
            Picture("image/jpeg", 31, 17, has_alpha=False),
        ),
        (make_picture("WEBP", (31, 17)), Picture("image/webp", 31, 17, has_alpha=False)),
        (make_picture("WEBP", (31, 17), lossless=True), Picture("image/webp", 31, 17, has_alpha=False)),
        (
            make_picture("WEBP", (31, 17), "RGBA", lossless=True, exact=True),
            Picture("image/webp", 31, 17, has_alpha=True),
        ),
        (make_picture("WEBP", (31, 17), "RGBA"), Picture("image/webp", 31, 17, has_alpha=True)),
    ],
    ids=lambda value: value.media_type if isinstance(value, Picture) else "",
)
def test_type_size_and_alpha_are_read_by_header_and_by_decoding(
    look: Look, data: bytes, expected: Picture
) -> None:
    assert look(data) == expected


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"GIF89a" + bytes(50), b"BM" + bytes(50), b"<svg/>", b"%PDF-1.7"]
)
def test_bytes_that_are_not_a_picture_are_refused(data: bytes) -> None:
    with pytest.raises(NotAPicture, match="neither a PNG nor a JPEG nor a WebP"):
        inspect_picture(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_picture_is_refused(kind: str) -> None:
    with pytest.raises(NotAPicture, match="animated"):
        inspect_picture(make_animation(kind))


@pytest.mark.parametrize("make", [png_of_size, jpeg_of_size, webp_of_size])
@pytest.mark.parametrize("size", [(16_385, 1), (1, 16_385), (7_072, 7_072)])
def test_header_claiming_too_many_pixels_is_refused(make: Make, size: tuple[int, int]) -> None:
    with pytest.raises(
        NotAPicture, match=f"has {size[0]}x{size[1]} pixels: at most 50,000,000 pixels and 16,384"
    ):
        inspect_picture(make(*size))


@pytest.mark.parametrize("make", [png_of_size, jpeg_of_size, webp_of_size])
@pytest.mark.parametrize("size", [(16_384, 1), (7_071, 7_071), (3_840, 2_160)])
def test_picture_at_the_pixel_limit_is_accepted(make: Make, size: tuple[int, int]) -> None:
    """7,071 x 7,071 is 49,999,041 pixels."""
    picture = inspect_picture(make(*size))
    assert (picture.width, picture.height) == size


@pytest.mark.parametrize("make", [png_of_size, jpeg_of_size])
@pytest.mark.parametrize("size", [(0, 6), (8, 0)])
def test_picture_without_pixels_is_refused(make: Make, size: tuple[int, int]) -> None:
    with pytest.raises(NotAPicture, match="has no pixels"):
        inspect_picture(make(*size))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_header_check_of_truncated_file_is_right_or_refuses(kind: str) -> None:
    """Wherever it is truncated, there is no other error."""
    whole = make_picture(kind, (8, 6))
    for length in range(len(whole)):
        try:
            picture = inspect_picture(whole[:length])
        except NotAPicture:
            continue
        assert (picture.width, picture.height) == (8, 6)


def test_truncated_webp_is_refused_by_its_header() -> None:
    with pytest.raises(NotAPicture, match="cut off: "):
        inspect_picture(make_picture("WEBP", (300, 200))[:-1])


def test_jpeg_tables_are_not_taken_for_frame_headers() -> None:
    tables = b"".join(bytes([0xFF, marker, 0, 12]) + b"\1" * 10 for marker in (0xC4, 0xC8, 0xCC))
    picture = inspect_picture(b"\xff\xd8" + tables + jpeg_of_size(8, 6)[2:])
    assert (picture.width, picture.height) == (8, 6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_pixels_are_found_by_decoding(kind: str) -> None:
    whole = make_picture(kind, (300, 200))
    for missing in (len(whole) // 2, 12):
        with pytest.raises(NotAPicture):
            verify_picture(whole[:-missing])


def test_damage_after_the_last_row_is_found_by_checksums() -> None:
    whole = bytearray(make_picture("PNG", (300, 200)))
    whole[-18] ^= 0xFF
    inspect_picture(bytes(whole))
    with pytest.raises(NotAPicture, match="PNG picture cannot be decoded"):
        verify_picture(bytes(whole))


def test_picture_that_decodes_to_another_size_is_refused() -> None:
    real = make_picture("PNG", (64, 64))
    small = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 8, 2, 0, 0, 0))
    with pytest.raises(NotAPicture, match="claims 8x6 pixels, but decodes to 64x64"):
        verify_picture(PNG_HEAD + small + real[8:])


@pytest.mark.parametrize(
    "data",
    [
        PNG_HEAD + make_picture("JPEG"),
        b"\xff\xd8\xff" + make_picture("PNG"),
        make_picture("PNG")[:8] + make_picture("PNG")[8:].replace(b"IHDR", b"IDAT", 1),
        b"RIFF\x20\0\0\0WEBP" + b"VP8 " + b"\1" * 40,
        b"RIFF\x20\0\0\0WEBP" + make_picture("PNG"),
        b"\xff\xd8\xff\xda\0\2" + jpeg_of_size(8, 6)[2:],
    ],
    ids=["jpeg in png", "png in jpeg", "no IHDR", "no VP8 frame", "png in webp", "scan before frame"],
)
def test_mixed_formats_are_refused(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        inspect_picture(data)


@pytest.mark.parametrize(
    "data",
    [
        PNG_HEAD + make_picture("PNG")[8:33] + png_chunk(b"tEXt") * 1_000_000,
        b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000,
    ],
    ids=["PNG", "JPEG"],
)
def test_header_with_a_million_parts_is_refused_early(data: bytes) -> None:
    with pytest.raises(NotAPicture, match=r"more than 1,000 chunks|no frame header"):
        inspect_picture(data)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("cat.png", "image/png"),
        ("a.b/cat.JPG", "image/jpeg"),
        ("cat.jpeg", "image/jpeg"),
        ("cat.webp", "image/webp"),
        ("cat.gif", None),
        ("png", None),
        ("cat", None),
    ],
)
def test_media_type_of_name_is_found_by_extension(name: str, media_type: str | None) -> None:
    assert media_type_of_name(name) == media_type
