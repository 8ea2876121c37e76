"""What has to hold of a picture to edit and of a mask. Pure: bytes in, a sound picture or a sentence out."""

import base64
import hashlib
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from contracts.problems import Problem
from imaging.pictures import Picture, inspect_picture

MIB = 1024 * 1024
IMAGE_BYTES_LIMIT = 50 * MIB
"""The provider: each picture under 50 MB."""
MASK_BYTES_LIMIT = 4 * MIB
"""The provider's own pages disagree, 4 MB or 50 MB; the smaller one is safe."""

PICTURE_RULE = "a PNG, JPEG or WebP picture, not animated"
_WHITESPACE = re.compile(rb"[\x00-\x20]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class CheckedPicture(NamedTuple):
    """A picture's bytes, and what they turned out to be."""

    data: bytes
    picture: Picture


def examine_data_uri(uri: str, sha256: str | None, *, bytes_limit: int) -> CheckedPicture:
    """Decode and check a picture that travels in the request itself. Errors as for `examine`."""
    data = _decode_data_uri(uri)
    if len(data) >= bytes_limit:
        raise ValueError(f"{len(data):,} bytes, {bytes_limit // MIB} MB or more")
    return examine(data, sha256)


def _decode_data_uri(uri: str) -> bytes:
    """Decode a data: URI as browsers do (RFC 2397, WHATWG Fetch).

    The media type and its parameters say nothing that the bytes do not say. Percent-encoding, whitespace, a missing
    padding and the URL-safe alphabet are accepted.
    """
    head, comma, payload = uri.partition(",")
    if not comma:
        raise ValueError("a data: URI has a comma before its data, as in data:image/png;base64,iVBORw0...")
    data = unquote_to_bytes(payload)
    if not re.search(r";\s*base64\s*$", head, re.IGNORECASE):
        return data
    digits = _WHITESPACE.sub(b"", data).translate(_URL_SAFE).rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError as error:
        raise ValueError("what follows the comma is not base64") from error


def examine(data: bytes, sha256: str | None) -> CheckedPicture:
    """Check a picture's header, and its hash where one is given. Its bytes alone decide about its type.

    Raises:
        ValueError: it is no picture, or another one; the message says why.
    """
    picture = inspect_picture(data)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("its bytes do not have the sha256 that is given")
    return CheckedPicture(data, picture)


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
