"""Make small copies of pictures. CPU-bound, some 20 ms for 1024x1024: call it in a thread."""

from io import BytesIO
from typing import NamedTuple

from PIL import Image

from gpt_image_runs.images.formats import READERS, NotAPicture, inspect_picture


class Thumbnail(NamedTuple):
    """A small copy as a WebP file; `width` and `height` are pixels."""

    data: bytes
    width: int
    height: int
    has_alpha: bool


def make_thumbnail(data: bytes, *, longest_edge: int, quality: int) -> Thumbnail:
    """Make a small copy of a PNG, JPEG or WebP picture, with its proportions and transparency.

    It is never enlarged. `longest_edge` is in pixels, `quality` is WebP's, 0 to 100.

    Raises:
        NotAPicture: it cannot be read, or has too many pixels to be read.
    """
    media_type = inspect_picture(data).media_type
    try:
        with READERS[media_type](BytesIO(data)) as picture:
            # A JPEG is decoded at an eighth to a half of its size if that is enough.
            picture.draft("RGB", (longest_edge * 2, longest_edge * 2))
            small = _convert_to_rgb(picture)
    except Exception as error:  # decoders raise all kinds of errors for untrusted bytes
        raise NotAPicture(f"the picture cannot be decoded: {error}") from error
    small.thumbnail((longest_edge, longest_edge), Image.Resampling.LANCZOS, reducing_gap=2)
    encoded = BytesIO()
    small.save(encoded, "WEBP", quality=quality)
    return Thumbnail(encoded.getvalue(), small.width, small.height, has_alpha=small.mode == "RGBA")


def _convert_to_rgb(picture: Image.Image) -> Image.Image:
    """Return the pixels as RGB, or RGBA if some are transparent, which is what WebP supports."""
    picture.load()
    if picture.mode in {"RGB", "RGBA"}:
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
