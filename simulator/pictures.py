"""Produce encoded images: drawn from a prompt, or edited. CPU-bound: call it in a thread."""

import hashlib
import io
import struct
import zlib
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageChops

from simulator.drawing import PALETTES, draw_caption, draw_scene

_FASTEST_PNG = 1
# How much of the first input shows in the backdrop of an edit without a mask, which repaints everything.
_INPUT_OPACITY = 0.6
_BLUR = (24, 24)


class Brief(NamedTuple):
    """What to draw: `text` and the small `note` are the caption, `size` is in pixels.

    `variant` tells the images of one request apart.
    """

    text: str
    note: str
    size: tuple[int, int]
    variant: int
    transparent: bool


class Encoding(NamedTuple):
    """The file format: png, jpeg or webp. `quality` (0 to 100) applies to jpeg and webp."""

    output_format: str
    quality: int


@lru_cache(maxsize=48)
def draw_picture(brief: Brief, encoding: Encoding) -> bytes:
    """Draw and encode a new image. The same arguments give the same bytes; results are cached."""
    return encode(_draw(brief, on_card=brief.transparent), encoding)


def edit_picture(
    brief: Brief, encoding: Encoding, first_input: Image.Image, mask: Image.Image | None
) -> bytes:
    """Scale the first input to the size, repaint it where the mask is transparent, and encode it.

    Without a mask the whole image is repainted. The mask must have an alpha channel.
    """
    base = _to_rgba(first_input).resize(brief.size, Image.Resampling.BICUBIC)
    if mask is None:
        return encode(_repaint(brief, base), encoding)
    alpha = _to_rgba(mask).getchannel("A").resize(brief.size, Image.Resampling.NEAREST)
    holes = ImageChops.invert(alpha)
    region = holes.getbbox()
    if region is not None:
        size = (region[2] - region[0], region[3] - region[1])
        base.paste(
            _draw(brief._replace(size=size), on_card=brief.transparent), region[:2], holes.crop(region)
        )
    return encode(base, encoding)


def coarsen(data: bytes, encoding: Encoding, step: int) -> bytes:
    """Return a finished image as an intermediate one: very coarse at step 0, finer with each step."""
    with Image.open(io.BytesIO(data)) as finished:
        picture = _to_rgba(finished)
    sides = tuple(max(1, side * 8 * 4**step // max(picture.size)) for side in picture.size)
    coarse = picture.resize((sides[0], sides[1]), Image.Resampling.BOX)
    return encode(coarse.resize(picture.size, Image.Resampling.BICUBIC), encoding)


def encode(picture: Image.Image, encoding: Encoding) -> bytes:
    """Encode an RGBA image. JPEG has no transparency and gets a white background."""
    buffer = io.BytesIO()
    if encoding.output_format == "png":
        _drop_opaque_alpha(picture).save(buffer, "PNG", compress_level=_FASTEST_PNG)
    elif encoding.output_format == "webp":
        picture.save(buffer, "WEBP", quality=encoding.quality, method=0)
    else:
        white = Image.new("RGBA", picture.size, "white")
        Image.alpha_composite(white, picture).convert("RGB").save(buffer, "JPEG", quality=encoding.quality)
    return buffer.getvalue()


def _repaint(brief: Brief, base: Image.Image) -> Image.Image:
    """Draw a new image whose backdrop shows the light and colors of the old one."""
    objects = _draw(brief._replace(transparent=True), on_card=True)
    if brief.transparent:
        return objects
    blurred = base.resize(_BLUR, Image.Resampling.BOX).resize(brief.size, Image.Resampling.BICUBIC)
    backdrop = Image.blend(_draw(brief, on_card=False), blurred, _INPUT_OPACITY)
    backdrop.alpha_composite(objects)
    return backdrop


def _draw(brief: Brief, *, on_card: bool) -> Image.Image:
    seed = int.from_bytes(hashlib.sha256(brief.text.encode()).digest()[:6])
    palette = PALETTES[seed % len(PALETTES)]
    picture = draw_scene(
        brief.size, palette, seed // len(PALETTES) + brief.variant, backdrop=not brief.transparent
    )
    draw_caption(picture, brief.text, brief.note, palette, on_card=on_card)
    return picture


def _to_rgba(picture: Image.Image) -> Image.Image:
    return picture if picture.mode == "RGBA" else picture.convert("RGBA")


def _drop_opaque_alpha(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB") if picture.getchannel("A").getextrema() == (255, 255) else picture


_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_COMMENT = 0xFFFE
_VP8X_BYTES, _HAS_XMP = 10, 0x04


def stamp_picture(picture: bytes, request_id: str) -> bytes:
    """Return the PNG, JPEG or WebP with the request's id in it, as a text chunk, a comment, or XMP."""
    text = f"Simulated by request {request_id}".encode()
    if picture.startswith(b"\x89PNG"):
        return picture.removesuffix(_PNG_END) + _png_chunk(b"tEXt", b"Comment\0" + text) + _PNG_END
    if picture.startswith(b"\xff\xd8"):
        (length,) = struct.unpack_from(">H", picture, 4)  # of the segment that must come first
        end = 4 + length
        return picture[:end] + struct.pack(">HH", _JPEG_COMMENT, 2 + len(text)) + text + picture[end:]
    return _stamp_webp(picture, text)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _stamp_webp(picture: bytes, text: bytes) -> bytes:
    chunks = picture[12:]
    if chunks.startswith(b"VP8X"):
        head, chunks = chunks[: 8 + _VP8X_BYTES], chunks[8 + _VP8X_BYTES :]
    else:
        width, height = _read_webp_size(chunks)
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        head = b"VP8X" + struct.pack("<I", _VP8X_BYTES) + bytes(4) + size
    flags = bytes([head[8] | _HAS_XMP])
    body = b"WEBP" + head[:8] + flags + head[9:] + chunks + _webp_chunk(b"XMP ", text)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _read_webp_size(chunks: bytes) -> tuple[int, int]:
    """Read the size of a lossy image without alpha, the only kind without VP8X that Pillow writes."""
    width, height = struct.unpack_from("<HH", chunks, 14)
    return width & 0x3FFF, height & 0x3FFF
