"""Pictures for tests: real ones by Pillow, and hostile ones by hand."""

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image


def make_picture(
    kind: str = "PNG",
    size: tuple[int, int] = (8, 6),
    mode: str = "RGB",
    *,
    colour: int = 90,
    **options: Any,
) -> bytes:
    """Make an image file of one color."""
    file = BytesIO()
    bands = len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, (colour,) * bands if bands > 1 else colour).save(file, kind, **options)
    return file.getvalue()


def make_animation(kind: str) -> bytes:
    """Make an animation of two frames: APNG or animated WebP."""
    frames = [Image.new("RGB", (8, 6), (shade, 0, 0)) for shade in (10, 200)]
    file = BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def png_chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of_size(width: int, height: int) -> bytes:
    """Make a valid PNG header that claims a size, with hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND")


def jpeg_of_size(width: int, height: int) -> bytes:
    """Make a JPEG up to its frame header, which claims a size."""
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)


def webp_of_size(width: int, height: int) -> bytes:
    """Make an extended WebP that claims a canvas, and nothing else."""
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body)) + body
