"""Recognize accepted pictures by their header, or verify them by decoding.

Pure: no I/O. CPU-bound: call it in a thread from an event loop. Verifying takes some 3 to 300 ms for a picture of the
provider's.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gpt_image_runs.contracts.images import MediaType

# Chunks or segments before the pixels. Real files have dozens; a crafted one could have millions.
_MAX_HEADER_PARTS = 1_000
_PNG_HEADER_LENGTH = 13
_PNG_COLOR_TYPES = frozenset({0, 2, 3, 4, 6})
_PNG_COLOR_TYPES_WITH_ALPHA = frozenset({4, 6})
_JPEG_MARKER = 0xFF
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_PIXELS_OR_END = frozenset({0xD9, 0xDA})
_WEBP_ANIMATION, _WEBP_ALPHA = 0x02, 0x10


class NotAPicture(ValueError):
    """The bytes are not an accepted picture; the message says why."""


class Header(NamedTuple):
    """The contents of a picture's header; `width` and `height` are pixels."""

    media_type: MediaType
    width: int
    height: int
    has_alpha: bool
    is_animated: bool


def read_header(data: bytes) -> Header:
    """Read the header of a PNG, JPEG or WebP picture.

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
    raise NotAPicture(_describe_unsupported_format(data))


_NOT_ACCEPTED = "the bytes are neither a PNG nor a JPEG nor a WebP picture"
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


def _describe_unsupported_format(data: bytes) -> str:
    """Name the format by its first bytes, so that users know what to convert."""
    if not data:
        return f"{_NOT_ACCEPTED}: they are empty"
    found = next((name for start, name in _SIGNATURES if data.startswith(start)), None)
    if data[4:8] == b"ftyp":
        # The major brand and the compatible ones: many HEIC and AVIF files have "mif1" first.
        size = min(int.from_bytes(data[:4], "big"), 256)
        brands = [data[at : at + 4] for at in (8, *range(16, size - 3, 4))]
        found = next((_ISO_BRANDS[brand] for brand in sorted(brands) if brand in _ISO_BRANDS), "a video")
    if found is None:
        text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        found = next((name for start, name in _DOCUMENTS if text.startswith(start)), None)
        if found is None and text.startswith(b"<?xml") and b"<svg" in text:
            found = "an SVG drawing"
    return f"{_NOT_ACCEPTED}, but {found}: convert it to PNG or JPEG" if found else _NOT_ACCEPTED


def _read_png(data: bytes) -> Header:
    length, name, width, height, _, color_type = struct.unpack_from(">I4sIIBB", data, 8)
    if name != b"IHDR" or length != _PNG_HEADER_LENGTH or color_type not in _PNG_COLOR_TYPES:
        raise NotAPicture("the PNG picture has a damaged header")
    names = _png_chunks_before_pixels(data)
    has_alpha = color_type in _PNG_COLOR_TYPES_WITH_ALPHA or b"tRNS" in names
    return Header("image/png", width, height, has_alpha, is_animated=b"acTL" in names)


def _png_chunks_before_pixels(data: bytes) -> set[bytes]:
    names, offset = set[bytes](), 8
    for _ in range(_MAX_HEADER_PARTS):
        length, name = struct.unpack_from(">I4s", data, offset)
        if name == b"IDAT":
            return names
        names.add(name)
        offset += 12 + length
    raise NotAPicture(f"the PNG picture has more than {_MAX_HEADER_PARTS:,} chunks before its pixels")


def _read_jpeg(data: bytes) -> Header:
    offset = 2
    for _ in range(_MAX_HEADER_PARTS):
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


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# By color type, for 8-bit samples: gray and true color, each without and with alpha.
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
# The header after the size: eight bits a sample, the color type, and no interlacing.
_SIMPLE_FORMAT = b"\x08%c\0\0\0"
_LAST_FILTER = 4
# Bytes that are inflated at once, and the most that one step may produce.
_INPUT_CHUNK, _OUTPUT_CHUNK = 64 * 1024, 1024 * 1024


def is_complete_png(data: bytes) -> bool:
    """Return whether `data` is a complete, undamaged PNG of a simple kind. False: ask a decoder."""
    try:
        chunks = list(_list_chunks(memoryview(data)))
        (width, height), channels = struct.unpack_from(">II", chunks[0][1]), _count_channels(chunks[0][1])
        pixels = [body for name, body in chunks if name == b"IDAT"]
        return (
            channels is not None
            and _are_chunks_in_order([name for name, _ in chunks], len(pixels))
            and _are_rows_complete(pixels, width * channels + 1, height)
        )
    except (struct.error, zlib.error, IndexError, ValueError):
        return False


def _list_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the chunks up to IEND. Raise if a checksum is wrong or the end is missing."""
    if data[: len(_SIGNATURE)] != _SIGNATURE:
        raise ValueError("not a PNG")
    offset, name = len(_SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[offset + 4 : end]) != checksum:
            raise ValueError("a checksum is wrong")
        yield name, data[offset + 8 : end]
        offset = end + 4


def _are_chunks_in_order(names: list[bytes], pixels: int) -> bool:
    """Return whether the chunks are one header, then the pixels without a gap, and no unknown critical chunk."""
    first = names.index(b"IDAT")
    needed = [name for name in names if name[:1].isupper()]
    return names[first : first + pixels] == [b"IDAT"] * pixels and needed == [
        b"IHDR",
        *[b"IDAT"] * pixels,
        b"IEND",
    ]


def _count_channels(header: memoryview) -> int | None:
    color_type = header[9]
    return _CHANNELS.get(color_type) if header[8:] == _SIMPLE_FORMAT % color_type else None


def _are_rows_complete(pixels: list[memoryview], row: int, height: int) -> bool:
    """Return whether the stream holds `height` rows of `row` bytes, each with a valid filter."""
    inflater, made = zlib.decompressobj(), 0
    for body in pixels:
        for start in range(0, len(body), _INPUT_CHUNK):
            fed: memoryview | bytes = body[start : start + _INPUT_CHUNK]
            while fed:
                piece = inflater.decompress(fed, _OUTPUT_CHUNK)
                filters = piece[-made % row :: row]
                if filters and max(filters) > _LAST_FILTER:
                    return False
                made += len(piece)
                if made > row * height:
                    return False
                fed = inflater.unconsumed_tail
    return inflater.eof and made == row * height


__all__ = [
    "EXTENSIONS",
    "READERS",
    "NotAPicture",
    "Picture",
    "inspect_picture",
    "media_type_of_name",
    "verify_picture",
]

# Six times the provider's largest picture (3840x2160), about what a full-frame camera makes. Decoded, it takes
# 200 MB of memory.
MAX_PIXELS = 50_000_000
# Larger edges are only found in crafted files; WebP's maximum is 16,383.
MAX_EDGE = 16_384

EXTENSIONS: dict[MediaType, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_MEDIA_TYPES: dict[str, MediaType] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
# Each type's own reader, because `Image.open` depends on process-wide settings and warning filters.
READERS: dict[MediaType, type[ImageFile]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/webp": WebPImageFile,
}


class Picture(NamedTuple):
    """The properties of a picture; `width` and `height` are pixels."""

    media_type: MediaType
    width: int
    height: int
    has_alpha: bool


def inspect_picture(data: bytes) -> Picture:
    """Check the header only, in microseconds and without copying.

    Raises:
        NotAPicture: not a PNG, JPEG or WebP, a damaged or truncated header, animated, or too many pixels.
    """
    header = read_header(data)
    _check_limits(header)
    return Picture(header.media_type, header.width, header.height, header.has_alpha)


def verify_picture(data: bytes) -> Picture:
    """Check the whole picture, which also finds damage after the header.

    Raises:
        NotAPicture: as `inspect_picture`, or the pixels cannot be decoded, or do not match the header.
    """
    picture = inspect_picture(data)
    if picture.media_type == "image/png" and is_complete_png(data):
        return picture
    try:
        decoded_size = _decode(data, picture.media_type)
    except Exception as error:  # decoders raise all kinds of errors for untrusted bytes
        raise NotAPicture(
            f"the {_get_format_name(picture.media_type)} picture cannot be decoded: {error}"
        ) from error
    if decoded_size != (picture.width, picture.height):
        raise NotAPicture(
            f"the {_get_format_name(picture.media_type)} picture claims {picture.width}x{picture.height} pixels,"
            f" but decodes to {decoded_size[0]}x{decoded_size[1]}"
        )
    return picture


def media_type_of_name(name: str) -> MediaType | None:
    """Return the media type by a file name's extension, or None for any other."""
    _, dot, extension = name.rpartition(".")
    return _MEDIA_TYPES.get(extension.lower()) if dot else None


def _check_limits(header: Header) -> None:
    name, width, height = _get_format_name(header.media_type), header.width, header.height
    if header.is_animated:
        raise NotAPicture(f"the {name} picture is animated: only single pictures are accepted")
    if not width or not height:
        raise NotAPicture(f"the {name} picture has no pixels: its header says {width}x{height}")
    if max(width, height) > MAX_EDGE or width * height > MAX_PIXELS:
        raise NotAPicture(
            f"the {name} picture has {width}x{height} pixels: at most {MAX_PIXELS:,} pixels"
            f" and {MAX_EDGE:,} along an edge are accepted"
        )


def _decode(data: bytes, media_type: MediaType) -> tuple[int, int]:
    reader = READERS[media_type]
    if media_type == "image/png":
        # Decoding stops at the last row; only the checksums cover the rest of the file.
        with reader(BytesIO(data)) as image:
            image.verify()
    with reader(BytesIO(data)) as image:
        image.load()
        return image.size


def _get_format_name(media_type: MediaType) -> str:
    return {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP"}[media_type]
