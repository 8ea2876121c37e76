"""Which bytes are pictures that we take: from their header, or for certain by decoding them.

Pure: bytes in, facts out, no I/O. Both functions belong in a thread when they are called from an event loop: the
second one takes some 3 to 300 ms for a picture of the provider's.
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

_MAX_PARTS = 1_000
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
    for _ in range(_MAX_PARTS):
        length, name = struct.unpack_from(">I4s", data, offset)
        if name == b"IDAT":
            return names
        names.add(name)
        offset += 12 + length
    raise NotAPicture(f"the PNG picture has more than {_MAX_PARTS:,} chunks before its pixels")


def _read_jpeg(data: bytes) -> Header:
    offset = 2
    for _ in range(_MAX_PARTS):
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
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By colour type, where a sample is a byte: grey and true colour, each without and with alpha."""
_PLAIN = b"\x08%c\0\0\0"
"""Of a header, behind the size: eight bits a sample, the colour type, and no interlacing."""
_LAST_FILTER = 4
_FEED, _PIECE = 64 * 1024, 1024 * 1024
"""Bytes that are inflated, and at most made of them, at once."""


def is_whole_png(data: bytes) -> bool:
    """Whether `data` is a PNG of a known kind and all of it is there, unharmed. False means: ask a decoder."""
    try:
        chunks = list(_list_chunks(memoryview(data)))
        (width, height), channels = struct.unpack_from(">II", chunks[0][1]), _count_channels(chunks[0][1])
        pixels = [body for name, body in chunks if name == b"IDAT"]
        return (
            channels is not None
            and _are_in_order([name for name, _ in chunks], len(pixels))
            and _are_whole_rows(pixels, width * channels + 1, height)
        )
    except (struct.error, zlib.error, IndexError, ValueError):
        return False


def _list_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks up to the one that ends the file. Raises where a checksum is wrong or the end is missing."""
    if data[: len(_SIGNATURE)] != _SIGNATURE:
        raise ValueError("no PNG")
    offset, name = len(_SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[offset + 4 : end]) != checksum:
            raise ValueError("a checksum is wrong")
        yield name, data[offset + 8 : end]
        offset = end + 4


def _are_in_order(names: list[bytes], pixels: int) -> bool:
    """One header, in front; the pixels in one stretch; and nothing that a decoder has to know and may not."""
    first = names.index(b"IDAT")
    needed = [name for name in names if name[:1].isupper()]
    return names[first : first + pixels] == [b"IDAT"] * pixels and needed == [
        b"IHDR",
        *[b"IDAT"] * pixels,
        b"IEND",
    ]


def _count_channels(header: memoryview) -> int | None:
    colour_type = header[9]
    return _CHANNELS.get(colour_type) if header[8:] == _PLAIN % colour_type else None


def _are_whole_rows(pixels: list[memoryview], row: int, height: int) -> bool:
    """Whether the compressed stream ends well and holds `height` rows of `row` bytes, each led by a filter that exists."""
    inflater, made = zlib.decompressobj(), 0
    for body in pixels:
        for start in range(0, len(body), _FEED):
            fed: memoryview | bytes = body[start : start + _FEED]
            while fed:
                piece = inflater.decompress(fed, _PIECE)
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

MAX_PIXELS = 50_000_000
"""Six times the largest picture that the provider makes (3840x2160), as much as a full-frame camera makes; decoded,
it takes 200 MB of memory, which a worker can bear."""
MAX_EDGE = 16_384
"""Beyond it only crafted files are found; WebP itself ends at 16,383."""

EXTENSIONS: dict[MediaType, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_MEDIA_TYPES: dict[str, MediaType] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
READERS: dict[MediaType, type[ImageFile]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/webp": WebPImageFile,
}
"""Each type's own reader: `Image.open` would also ask process-wide settings, and warn by process-wide filters."""


class Picture(NamedTuple):
    """What is known of a picture; `width` and `height` are pixels."""

    media_type: MediaType
    width: int
    height: int
    has_alpha: bool


def inspect_picture(data: bytes) -> Picture:
    """Looks at the header alone, in microseconds and without copying.

    Raises:
        NotAPicture: no PNG, JPEG or WebP, a damaged or cut-off header, an animation, or too many pixels.
    """
    header = read_header(data)
    _check_limits(header)
    return Picture(header.media_type, header.width, header.height, header.has_alpha)


def verify_picture(data: bytes) -> Picture:
    """Looks at the whole picture as well, so that what is missing or damaged further down is found.

    Raises:
        NotAPicture: as `inspect_picture`, or the pixels cannot be decoded, or are not those that the header tells of.
    """
    picture = inspect_picture(data)
    if picture.media_type == "image/png" and is_whole_png(data):
        return picture
    try:
        decoded_size = _decode(data, picture.media_type)
    except Exception as error:  # decoders fail in many ways over bytes that nobody vouches for
        raise NotAPicture(f"the {_name(picture.media_type)} picture cannot be decoded: {error}") from error
    if decoded_size != (picture.width, picture.height):
        raise NotAPicture(
            f"the {_name(picture.media_type)} picture says that it is {picture.width}x{picture.height} pixels,"
            f" but decodes to {decoded_size[0]}x{decoded_size[1]}"
        )
    return picture


def media_type_of_name(name: str) -> MediaType | None:
    """The type that a file's name claims, None where it claims none of ours."""
    _, dot, extension = name.rpartition(".")
    return _MEDIA_TYPES.get(extension.lower()) if dot else None


def _check_limits(header: Header) -> None:
    name, width, height = _name(header.media_type), header.width, header.height
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
        # Decoding stops at the last row; only the checksums show that the rest of the file is whole.
        with reader(BytesIO(data)) as image:
            image.verify()
    with reader(BytesIO(data)) as image:
        image.load()
        return image.size


def _name(media_type: MediaType) -> str:
    return {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP"}[media_type]
