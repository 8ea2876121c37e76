"""What a picture's first bytes say: its type, its size in pixels, whether it is animated.

Read by hand from the bytes themselves, so that no library allocates anything for a picture that is going to be
refused: a decoder may reserve the whole canvas as soon as it opens a file. Nothing is decoded here, nothing is
limited here (see `imaging.pictures`), and there is no I/O.

Sources: PNG (W3C, third edition) section 5, JPEG (ITU-T T.81) annex B, WebP container specification.
"""

import struct
from typing import NamedTuple

from contracts.images import MediaType

_MOST_PARTS = 1_000
"""Of chunks or segments before the pixels. Real files have some dozens; a crafted one could have millions."""
_PNG_HEADER_LENGTH = 13
_PNG_COLOUR_TYPES = frozenset({0, 2, 3, 4, 6})
_PNG_COLOUR_TYPES_WITH_ALPHA = frozenset({4, 6})
_JPEG_MARKER = 0xFF
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_PIXELS_OR_END = frozenset({0xD9, 0xDA})
_WEBP_ANIMATION, _WEBP_ALPHA = 0x02, 0x10


class NotAPicture(ValueError):
    """The bytes are no picture that is accepted here; the message says why."""


class Header(NamedTuple):
    """What a header says of its picture; `width` and `height` are pixels."""

    media_type: MediaType
    width: int
    height: int
    has_alpha: bool
    is_animated: bool


def read_header(data: bytes) -> Header:
    """Reads the header of a PNG, JPEG or WebP picture.

    Raises:
        NotAPicture: another type, or a header that is damaged or cut off.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _read_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError) as error:
        raise NotAPicture(f"the picture is cut off inside its header, after {len(data):,} bytes") from error
    raise NotAPicture(_describe_other_format(data))


_NEITHER = "the bytes are neither a PNG nor a JPEG nor a WebP picture"
_ISO_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "a HEIC picture, as phones take them",
    ),
}
_SIGNATURES = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"II+\x00", "a TIFF picture"),
    (b"MM\x00+", "a TIFF picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
)
_DOCUMENTS = (
    (b"%pdf-", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"<!doctype html", "a web page (HTML)"),
    (b"<html", "a web page (HTML)"),
)


def _describe_other_format(data: bytes) -> str:
    """What the bytes are instead, by their first few, so that people know what to convert."""
    if not data:
        return f"{_NEITHER}: there are none"
    found = next((name for start, name in _SIGNATURES if data.startswith(start)), None)
    if data[4:8] == b"ftyp":
        # The major brand, and the compatible ones: many HEIC and AVIF files have "mif1" first.
        size = min(int.from_bytes(data[:4], "big"), 256)
        brands = [data[at : at + 4] for at in (8, *range(16, size - 3, 4))]
        found = next((_ISO_BRANDS[brand] for brand in sorted(brands) if brand in _ISO_BRANDS), "a video")
    if found is None:
        text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        found = next((name for start, name in _DOCUMENTS if text.startswith(start)), None)
        if found is None and text.startswith(b"<?xml") and b"<svg" in text:
            found = "an SVG drawing"
    return f"{_NEITHER}, but {found}: convert it to PNG or JPEG" if found else _NEITHER


def _read_png(data: bytes) -> Header:
    length, name, width, height, _, colour_type = struct.unpack_from(">I4sIIBB", data, 8)
    if name != b"IHDR" or length != _PNG_HEADER_LENGTH or colour_type not in _PNG_COLOUR_TYPES:
        raise NotAPicture("the PNG picture has a damaged header")
    names = _png_chunks_before_pixels(data)
    has_alpha = colour_type in _PNG_COLOUR_TYPES_WITH_ALPHA or b"tRNS" in names
    return Header("image/png", width, height, has_alpha, is_animated=b"acTL" in names)


def _png_chunks_before_pixels(data: bytes) -> set[bytes]:
    names, offset = set[bytes](), 8
    for _ in range(_MOST_PARTS):
        length, name = struct.unpack_from(">I4s", data, offset)
        if name == b"IDAT":
            return names
        names.add(name)
        offset += 12 + length
    raise NotAPicture(f"the PNG picture has more than {_MOST_PARTS:,} chunks before its pixels")


def _read_jpeg(data: bytes) -> Header:
    offset = 2
    for _ in range(_MOST_PARTS):
        if data[offset] != _JPEG_MARKER:
            break
        marker = data[offset + 1]
        if marker in _JPEG_FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return Header("image/jpeg", width, height, has_alpha=False, is_animated=False)
        if marker in _JPEG_PIXELS_OR_END:
            break
        if marker == _JPEG_MARKER:  # a fill byte
            offset += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            offset += 2
        else:
            (length,) = struct.unpack_from(">H", data, offset + 2)
            offset += 2 + length
    raise NotAPicture("the JPEG picture has no frame header before its pixels")


def _read_webp(data: bytes) -> Header:
    riff_size, chunk = struct.unpack_from("<I4x4s", data, 4)
    if riff_size + 8 > len(data):
        raise NotAPicture(f"the WebP picture is cut off: {len(data):,} of {riff_size + 8:,} bytes are there")
    if chunk == b"VP8X":
        flags, width, height = data[20], data[24:27], data[27:30]
        return Header(
            "image/webp",
            int.from_bytes(width, "little") + 1,
            int.from_bytes(height, "little") + 1,
            has_alpha=bool(flags & _WEBP_ALPHA),
            is_animated=bool(flags & _WEBP_ANIMATION),
        )
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Header("image/webp", width, height, has_alpha=bool(bits >> 28 & 1), is_animated=False)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("image/webp", width & 0x3FFF, height & 0x3FFF, has_alpha=False, is_animated=False)
    raise NotAPicture("the WebP picture has a damaged header")
