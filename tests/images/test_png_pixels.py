"""A PNG that counts as complete without a decoder is one that a decoder accepts."""

import random
import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gpt_image_runs.images.formats import is_complete_png
from simulator.pictures import Brief, Encoding, draw_picture
from tests.support.files.picture_files import make_picture, png_chunk

HEAD = b"\x89PNG\r\n\x1a\n"
NOISE = random.Random(1).randbytes(3 * 640 * 600)


def make_noise(mode: str, size: tuple[int, int], **options: object) -> bytes:
    file = BytesIO()
    bands = len(Image.new(mode, (1, 1)).getbands())
    Image.frombytes(mode, size, NOISE[: size[0] * size[1] * bands]).save(file, "PNG", **options)
    return file.getvalue()


def build(width: int, height: int, rows: bytes, *more: bytes, header: bytes = b"\x08\x02\0\0\0") -> bytes:
    """Build a PNG with correct checksums."""
    start = png_chunk(b"IHDR", struct.pack(">II", width, height) + header)
    return HEAD + start + b"".join(more) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")


def can_decode(data: bytes) -> bool:
    try:
        with PngImageFile(BytesIO(data)) as image:
            image.verify()
        with PngImageFile(BytesIO(data)) as image:
            image.load()
    except Exception:  # noqa: BLE001 - a decoder fails in many ways
        return False
    return True


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (8, 6), (640, 400)])
def test_complete_png_is_recognized(mode: str, size: tuple[int, int]) -> None:
    """Covers gray and true color, with and without alpha, one row, few bytes, and many chunks."""
    size = (size[0], size[1] // 2 or 1) if mode == "RGBA" else size
    assert is_complete_png(make_noise(mode, size))
    assert is_complete_png(make_picture("PNG", size, mode, colour=200))


def test_simulated_picture_needs_no_decoder() -> None:
    for transparent in (False, True):
        brief = Brief(text="A cup", note="", size=(256, 192), variant=0, transparent=transparent)
        assert is_complete_png(draw_picture(brief, Encoding("png", 100)))


@pytest.mark.parametrize(
    "data",
    [
        make_picture("PNG", mode="P"),
        make_picture("PNG", mode="1"),
        make_picture("PNG", mode="I;16"),
        build(2, 1, b"\0" + bytes(6), header=b"\x08\x02\0\0\1"),
        b"",
        HEAD,
        make_picture("JPEG"),
    ],
    ids=["palette", "one bit", "16 bit", "interlaced", "empty", "only the signature", "JPEG"],
)
def test_other_kinds_of_png_are_left_to_a_decoder(data: bytes) -> None:
    assert not is_complete_png(data)


@pytest.mark.parametrize(
    "data",
    [
        build(2, 2, b"\0" + bytes(6)),
        build(2, 1, (b"\0" + bytes(6)) * 2),
        build(2, 1, b"\5" + bytes(6)),
        build(2, 2, b"\0" + bytes(6) + b"\5" + bytes(6)),
        build(2, 1, b"\0" + bytes(6), png_chunk(b"IHDR", struct.pack(">II", 2, 1) + b"\x08\x02\0\0\0")),
        build(2, 1, b"\0" + bytes(6), png_chunk(b"NEED")),
        build(2, 1, b"\0" + bytes(6)).replace(png_chunk(b"IEND"), b""),
        build(2, 1, b"\0" + bytes(6), png_chunk(b"IDAT", b""), png_chunk(b"tEXt")),
        build(2, 1, b"\0" + bytes(6), header=b"\x08\x02\1\0\0"),
    ],
    ids=[
        "a row too few",
        "a row too many",
        "no such filter",
        "no such filter later",
        "two headers",
        "a chunk that is needed and unknown",
        "no end",
        "pixels in two places",
        "no such compression",
    ],
)
def test_malformed_png_with_correct_checksums_is_not_complete(data: bytes) -> None:
    assert not is_complete_png(data)


@given(st.data())
def test_corrupted_png_is_complete_only_if_it_decodes(data: st.DataObject) -> None:
    picture = bytearray(make_noise("RGB", (9, 7)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(picture) - 1))
        length = data.draw(st.integers(0, 12))
        match data.draw(st.sampled_from(["change", "cut", "repeat", "end"])):
            case "change":
                picture[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del picture[at : at + length]
            case "repeat":
                picture[at:at] = picture[at : at + length]
            case "end":
                del picture[at:]
        if not picture:
            break
    if is_complete_png(bytes(picture)):
        assert can_decode(bytes(picture))


def test_any_changed_byte_is_detected() -> None:
    whole = make_noise("RGBA", (6, 5))
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        assert not is_complete_png(bytes(changed))
