"""Whether a PNG is whole, told without a decoder: every checksum, and every byte of its pixels.

What a decoder would do beyond this (undoing the filters, making an image of it) cannot fail any more, takes two thirds of
its time and the memory of the whole canvas. Only the kinds that providers make are known here: of any other, and of what
seems wrong, a real decoder has to judge. Source: PNG (W3C, third edition), sections 5, 7, 9 and 10.
"""

import struct
import zlib
from collections.abc import Iterator

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
