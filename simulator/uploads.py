"""Check that uploaded images are what they claim to be. CPU-bound: call it in a thread."""

import io
import struct
import zlib
from typing import NamedTuple

from PIL import Image

from simulator.http import ApiError, refuse, refuse_for_model

MAX_IMAGE_BYTES = 50 * 1024 * 1024
MAX_MASK_BYTES = 4 * 1024 * 1024
MAX_IMAGES = 16
_MAX_PIXELS = 50_000_000
_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)


class Upload(NamedTuple):
    """A file of a multipart body, below its size limit, with its declared content type."""

    param: str
    content_type: str
    content: bytes


class Inputs(NamedTuple):
    """The decoded images of an edit. A generation has none."""

    images: tuple[Image.Image, ...] = ()
    mask: Image.Image | None = None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each image. The mask does not count as input."""
        return [image.size for image in self.images]


def check_uploads(images: list[Upload], mask: Upload | None) -> Inputs:
    """Decode and check the images and the mask.

    Raises:
        ApiError: 400 `invalid_image_file` or `image_too_large`.
    """
    if not images:
        raise refuse("image", "missing_required_parameter", "Missing required parameter: 'image'.")
    if len(images) > MAX_IMAGES:
        message = f"Invalid 'image': at most {MAX_IMAGES} images are allowed, but there are {len(images)}."
        raise refuse("image", "array_above_max_length", message)
    decoded = tuple(_decode(upload) for upload in images)
    return Inputs(decoded, _check_mask(mask, decoded[0].size) if mask else None)


def file_too_large_error(param: str, limit: int) -> ApiError:
    """Build the error for a file that is not below its size limit."""
    message = f"The file '{param}' is too large: it must be below {limit // (1024 * 1024)} MB."
    return refuse_for_model(param, "image_too_large", message)


def _check_mask(mask: Upload, size: tuple[int, int]) -> Image.Image:
    if mask.content_type != "image/png":
        raise _invalid("mask", f"must be a PNG, but is declared as '{mask.content_type}'")
    picture = _decode(mask)
    if not picture.has_transparency_data:
        raise _invalid("mask", "has no alpha channel: its transparent parts mark what to repaint")
    if picture.size != size:
        wanted, got = "{}x{}".format(*size), "{}x{}".format(*picture.size)
        raise _invalid("mask", f"is {got}, but must have the dimensions of the first image, {wanted}")
    return picture


def _decode(upload: Upload) -> Image.Image:
    if upload.content_type not in _FORMATS:
        supported = ", ".join(f"'{name}'" for name in _FORMATS)
        raise _invalid(
            upload.param, f"is declared as '{upload.content_type}'; supported types are {supported}"
        )
    try:
        picture = Image.open(io.BytesIO(upload.content), formats=[_FORMATS[upload.content_type]])
        if picture.width * picture.height > _MAX_PIXELS:
            raise _too_many_pixels(upload.param)
        picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise _too_many_pixels(upload.param) from bomb
    except _UNREADABLE as error:
        raise _invalid(upload.param, f"is not a readable image of type '{upload.content_type}'") from error
    return picture


def _too_many_pixels(param: str) -> ApiError:
    return refuse_for_model(
        param, "image_too_large", f"The file '{param}' has more than {_MAX_PIXELS} pixels."
    )


def _invalid(param: str, what: str) -> ApiError:
    return refuse_for_model(param, "invalid_image_file", f"Invalid image file: '{param}' {what}.")
