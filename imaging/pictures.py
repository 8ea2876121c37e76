"""Which bytes are pictures that we take: from their header, or for certain by decoding them.

Pure: bytes in, facts out, no I/O. Both functions belong in a thread when they are called from an event loop: the
second one takes some 3 to 300 ms for a picture of the provider's.
"""

from io import BytesIO
from typing import NamedTuple

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from contracts.images import MediaType
from imaging.headers import Header, NotAPicture, read_header
from imaging.png_pixels import is_whole_png

__all__ = [
    "EXTENSIONS",
    "READERS",
    "NotAPicture",
    "Picture",
    "inspect_picture",
    "media_type_of_name",
    "verify_picture",
]

LARGEST_PIXELS = 50_000_000
"""Six times the largest picture that the provider makes (3840x2160), as much as a full-frame camera makes; decoded,
it takes 200 MB of memory, which a worker can bear."""
LARGEST_EDGE = 16_384
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
    if max(width, height) > LARGEST_EDGE or width * height > LARGEST_PIXELS:
        raise NotAPicture(
            f"the {name} picture has {width}x{height} pixels: at most {LARGEST_PIXELS:,} pixels"
            f" and {LARGEST_EDGE:,} along an edge are accepted"
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
