"""Load and check the pictures of a request, reporting every problem at once.

Holds the provider's limits for pictures to edit and for masks.
"""

import asyncio
import base64
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gpt_image_runs.contracts.images import ImageInput, ImageRef, MediaType
from gpt_image_runs.contracts.problems import Problem, describe_problems, describe_value
from gpt_image_runs.contracts.request import TENANT_PATTERN, ImageRequest
from gpt_image_runs.images.backend import CorruptImage, NotFound, ReferenceRefused, TooLarge
from gpt_image_runs.images.formats import EXTENSIONS, Picture, inspect_picture, verify_picture
from gpt_image_runs.images.store import ImageStore

MIB = 1024 * 1024
# The provider's limit: each picture under 50 MB.
IMAGE_BYTES_LIMIT = 50 * MIB
# The provider's pages contradict each other, 4 MB or 50 MB; the smaller one is safe.
MASK_BYTES_LIMIT = 4 * MIB

PICTURE_RULE = "a PNG, JPEG or WebP picture, not animated"
_WHITESPACE = re.compile(rb"[\x00-\x20]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class CheckedPicture(NamedTuple):
    """A picture's bytes, and their properties."""

    data: bytes
    picture: Picture


def check_data_uri(uri: str, sha256: str | None, *, bytes_limit: int) -> CheckedPicture:
    """Decode and check a data: URI of a request. Errors as for `check_picture`."""
    data = _decode_data_uri(uri)
    if len(data) >= bytes_limit:
        raise ValueError(f"{len(data):,} bytes, {bytes_limit // MIB} MB or more")
    return check_picture(data, sha256)


def _decode_data_uri(uri: str) -> bytes:
    """Decode a data: URI as browsers do (RFC 2397, WHATWG Fetch).

    The media type is ignored, because the bytes decide. Percent-encoding, whitespace, a missing
    padding and the URL-safe alphabet are accepted.
    """
    head, comma, payload = uri.partition(",")
    if not comma:
        raise ValueError("a data: URI needs a comma before its data, as in data:image/png;base64,iVBORw0...")
    data = unquote_to_bytes(payload)
    if not re.search(r";\s*base64\s*$", head, re.IGNORECASE):
        return data
    digits = _WHITESPACE.sub(b"", data).translate(_URL_SAFE).rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError as error:
        raise ValueError("what follows the comma is not base64") from error


def check_picture(data: bytes, sha256: str | None) -> CheckedPicture:
    """Check a picture's header, and its hash if one is given. Only the bytes decide about its type.

    Raises:
        ValueError: it is not a picture, or its hash differs; the message says why.
    """
    picture = inspect_picture(data)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("its bytes do not have the given sha256")
    return CheckedPicture(data, picture)


def check_mask(loaded: dict[str, CheckedPicture]) -> list[Problem]:
    """Return the problems of the picture "mask": it must be a PNG with alpha, as large as "images.0"."""
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


# Pictures of one request that are read at once. An object store's client briefly holds each of them twice.
_MAX_CONCURRENT_READS = 4


class InputPicture(NamedTuple):
    """A picture to send: a file name, the bytes, and their actual media type."""

    name: str
    data: bytes
    media_type: MediaType


class Inputs(NamedTuple):
    """All pictures of a request, ready to send."""

    images: tuple[InputPicture, ...]
    mask: InputPicture | None


class InputsRefused(Exception):
    """Some pictures cannot be sent; `problems` lists everything that is wrong."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(describe_problems(problems))
        self.problems = problems


async def load_inputs(request: ImageRequest, store: ImageStore) -> Inputs:
    """Load the pictures and the mask of a request, and check them by their headers.

    Raises:
        InputsRefused: something is wrong with at least one of them.
        StoreUnavailable: the store could not be read; trying again may help.
    """
    named = request.inputs()
    # Equal references are read once.
    distinct = {_get_identity(field, image): (field, image) for field, image in reversed(named)}
    slots = asyncio.Semaphore(_MAX_CONCURRENT_READS)
    read = await asyncio.gather(*(_load_with_limit(slots, *each, store) for each in distinct.values()))
    results = dict(zip(distinct, read, strict=True))
    loaded: dict[str, CheckedPicture] = {}
    problems: list[Problem] = []
    for field, image in named:
        result = results[_get_identity(field, image)]
        if isinstance(result, Problem):
            problems.append(result.model_copy(update={"field": field}))
        else:
            loaded[field] = result
    problems += check_mask(loaded)
    if problems:
        raise InputsRefused(tuple(problems))
    pictures = {field: _to_input_picture(field, each) for field, each in loaded.items()}
    mask = pictures.pop("mask", None)
    return Inputs(tuple(pictures.values()), mask)


async def measure_inputs(request: ImageRequest, store: ImageStore) -> int:
    """Return how many bytes `load_inputs` will hold. Pictures that it will refuse count as zero.

    Raises:
        StoreUnavailable: the store does not respond.
    """
    distinct = {_get_identity(field, image): (field, image) for field, image in request.inputs()}
    return sum(await asyncio.gather(*(_measure(field, image, store) for field, image in distinct.values())))


async def upload_file(path: Path, store: ImageStore, *, owner: str | None = None) -> ImageRef:
    """Verify a local picture of a tenant completely, and put it into the store.

    Raises:
        InputsRefused: the owner is not a valid tenant, or the file is not readable, too large, or not a picture by its
            bytes; its name does not matter.
        StoreUnavailable: it could not be written.
    """
    if owner is not None and not re.fullmatch(TENANT_PATTERN, owner):
        allowed = "1 to 63 characters of a-z, 0-9, dot, hyphen and underscore, the first a letter or digit"
        raise InputsRefused(
            (Problem(field="tenant", value=describe_value("tenant", owner), allowed=allowed),)
        )
    data = await asyncio.to_thread(_read_file, path)
    return await store.put_image(data, owner=owner)


def _get_identity(field: str, image: ImageInput) -> tuple[str, str | None, bool]:
    return image.uri, image.sha256, field == "mask"


async def _measure(field: str, image: ImageInput, store: ImageStore) -> int:
    limit = MASK_BYTES_LIMIT if field == "mask" else IMAGE_BYTES_LIMIT
    if image.is_data_uri:
        size = len(image.uri) * 3 // 4
    else:
        try:
            size = await store.measure(image.uri) or 0
        except ReferenceRefused:
            return 0
    return size if size < limit else 0


async def _load_with_limit(
    slots: asyncio.Semaphore, field: str, image: ImageInput, store: ImageStore
) -> CheckedPicture | Problem:
    async with slots:
        return await _load(field, image, store)


async def _load(field: str, image: ImageInput, store: ImageStore) -> CheckedPicture | Problem:
    """Return a valid picture, or its problem."""
    limit = MASK_BYTES_LIMIT if field == "mask" else IMAGE_BYTES_LIMIT
    try:
        if image.is_data_uri:
            return await asyncio.to_thread(check_data_uri, image.uri, image.sha256, bytes_limit=limit)
        data = await store.read(image.uri, max_bytes=limit - 1)
        return await asyncio.to_thread(check_picture, data, image.sha256)
    except ReferenceRefused:
        why, allowed = "not in this image store", f"a reference that begins with {store.root}, or a data: URI"
    except NotFound:
        why, allowed = "not found", "a picture that is in the image store (`python starter.py upload FILE`)"
    except TooLarge as error:
        why, allowed = f"{error.size:,} bytes", f"a picture under {limit // MIB} MB"
    except CorruptImage:
        why, allowed = "its bytes do not match its name", "an undamaged picture: upload it again"
    except ValueError as error:
        why, allowed = str(error), PICTURE_RULE
    return Problem(field=field, value=f"{describe_value(field, image.uri)} ({why})", allowed=allowed)


def _to_input_picture(field: str, loaded: CheckedPicture) -> InputPicture:
    media_type = loaded.picture.media_type
    return InputPicture(f"{field.replace('.', '-')}.{EXTENSIONS[media_type]}", loaded.data, media_type)


def _read_file(path: Path) -> bytes:
    """Read and verify a picture's file. Raises InputsRefused."""
    rule = f"a file with {PICTURE_RULE}, under {IMAGE_BYTES_LIMIT // MIB} MB"
    try:
        _check_file(path.stat())
        data = path.read_bytes()
        verify_picture(data)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
    except ValueError as error:
        why = str(error)
    else:
        return data
    raise InputsRefused((Problem(field="file", value=f"{str(path)!a} ({why})", allowed=rule),))


def _check_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a folder or a device, not a file")
    if status.st_size >= IMAGE_BYTES_LIMIT:
        raise ValueError(f"{status.st_size:,} bytes large")
