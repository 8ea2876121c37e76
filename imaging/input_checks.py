"""What has to hold of a picture to edit and of a mask. Pure: bytes in, a sound picture or a sentence out."""

import base64
import hashlib
from typing import NamedTuple

from contracts.images import MediaType
from contracts.problems import Problem
from imaging.pictures import EXTENSIONS, Picture, inspect_picture

MIB = 1024 * 1024
IMAGE_BYTES_LIMIT = 50 * MIB
"""The provider: each picture under 50 MB."""
MASK_BYTES_LIMIT = 4 * MIB
"""The provider's own pages disagree, 4 MB or 50 MB; the smaller one is safe."""

PICTURE_RULE = "a PNG, JPEG or WebP picture of the type that its name claims, not animated"
_DATA_URI_TYPES: dict[str, MediaType] = {f"data:{media_type};base64": media_type for media_type in EXTENSIONS}


class CheckedPicture(NamedTuple):
    """A picture's bytes, and what they turned out to be."""

    data: bytes
    picture: Picture


def examine_data_uri(uri: str, sha256: str | None, *, bytes_limit: int) -> CheckedPicture:
    """Decodes and checks a picture that travels in the request itself. Errors as for `examine`."""
    head, _, payload = uri.partition(",")
    claimed = _DATA_URI_TYPES.get(head)
    if claimed is None:
        raise ValueError("a data: URI begins with data:image/png;base64, or the same with jpeg or webp")
    try:
        data = base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise ValueError("what follows the comma is not base64") from error
    if len(data) >= bytes_limit:
        raise ValueError(f"{len(data):,} bytes, {bytes_limit // MIB} MB or more")
    return examine(data, claimed, sha256)


def examine(data: bytes, claimed: MediaType | None, sha256: str | None) -> CheckedPicture:
    """Checks a picture against the type that it claims and the hash that was given, where there are any.

    Raises:
        ValueError: it is no picture, or another one; the message says why.
    """
    picture = inspect_picture(data)
    check_claim(picture, claimed)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("its bytes do not have the sha256 that is given")
    return CheckedPicture(data, picture)


def check_claim(picture: Picture, claimed: MediaType | None) -> None:
    """Raises a ValueError where the bytes are of another type than their name or URI says."""
    if claimed and claimed != picture.media_type:
        raise ValueError(f"it claims to be {claimed}, but its bytes are {picture.media_type}")


def check_mask(loaded: dict[str, CheckedPicture]) -> list[Problem]:
    """What is wrong with the picture "mask": a PNG with alpha, of the size of the picture "images.0"."""
    if "mask" not in loaded:
        return []
    mask = loaded["mask"].picture
    problems = []
    if mask.media_type != "image/png" or not mask.has_alpha:
        alpha = "with" if mask.has_alpha else "without"
        value = f"{mask.media_type} {alpha} an alpha channel"
        problems.append(Problem(field="mask", value=value, allowed="a PNG picture with an alpha channel"))
    if "images.0" in loaded:
        first = loaded["images.0"].picture
        if (mask.width, mask.height) != (first.width, first.height):
            value = f"{mask.width}x{mask.height} pixels"
            allowed = f"{first.width}x{first.height} pixels, the size of the first picture"
            problems.append(Problem(field="mask", value=value, allowed=allowed))
    return problems
