"""The pictures that a request brings: fetched, looked at, and refused with every problem at once.

Knows the provider's limits for pictures to edit and for masks. Where pictures lie is the store's business, what a
picture is that of `gpt_image_runs.images.formats`.
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


# Pictures of one request that are read at once: for a moment an object store's client holds each of them twice.
_READS_AT_ONCE = 4


class InputPicture(NamedTuple):
    """A picture as it is sent: a file name, the bytes, and the type that they really are."""

    name: str
    data: bytes
    media_type: MediaType


class Inputs(NamedTuple):
    """Everything that a request brings along, ready to be sent."""

    images: tuple[InputPicture, ...]
    mask: InputPicture | None


class InputsRefused(Exception):
    """Pictures that cannot be sent; `problems` holds all that is wrong with them, the message says it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(describe_problems(problems))
        self.problems = problems


async def load_inputs(request: ImageRequest, store: ImageStore) -> Inputs:
    """Fetches and checks the pictures and the mask of a request, by their headers.

    Raises:
        InputsRefused: something is wrong with at least one of them.
        StoreUnavailable: the store could not be read; trying again may help.
    """
    named = request.inputs()
    # Equal references are read once, whatever their number.
    distinct = {_tell_apart(field, image): (field, image) for field, image in reversed(named)}
    places = asyncio.Semaphore(_READS_AT_ONCE)
    read = await asyncio.gather(*(_load_in_turn(places, *each, store) for each in distinct.values()))
    results = dict(zip(distinct, read, strict=True))
    loaded: dict[str, CheckedPicture] = {}
    problems: list[Problem] = []
    for field, image in named:
        result = results[_tell_apart(field, image)]
        if isinstance(result, Problem):
            problems.append(result.model_copy(update={"field": field}))
        else:
            loaded[field] = result
    problems += check_mask(loaded)
    if problems:
        raise InputsRefused(tuple(problems))
    pictures = {field: _as_input(field, each) for field, each in loaded.items()}
    mask = pictures.pop("mask", None)
    return Inputs(tuple(pictures.values()), mask)


async def measure_inputs(request: ImageRequest, store: ImageStore) -> int:
    """How many bytes `load_inputs` will hold; what it will refuse counts as none.

    Raises:
        StoreUnavailable: the store could not be asked.
    """
    distinct = {_tell_apart(field, image): (field, image) for field, image in request.inputs()}
    return sum(await asyncio.gather(*(_measure(field, image, store) for field, image in distinct.values())))


async def upload_file(path: Path, store: ImageStore, *, owner: str | None = None) -> ImageRef:
    """Puts a local picture of a tenant into the store, after a look at every byte of it.

    Raises:
        InputsRefused: the owner is not a valid tenant, no readable file, too large, or not a picture. The name says nothing: the bytes decide.
        StoreUnavailable: it could not be written.
    """
    if owner is not None and not re.fullmatch(TENANT_PATTERN, owner):
        allowed = "1 to 63 characters of a-z, 0-9, dot, hyphen and underscore, the first a letter or digit"
        raise InputsRefused(
            (Problem(field="tenant", value=describe_value("tenant", owner), allowed=allowed),)
        )
    data = await asyncio.to_thread(_read_file, path)
    return await store.put_image(data, owner=owner)


def _tell_apart(field: str, image: ImageInput) -> tuple[str, str | None, bool]:
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


async def _load_in_turn(
    places: asyncio.Semaphore, field: str, image: ImageInput, store: ImageStore
) -> CheckedPicture | Problem:
    async with places:
        return await _load(field, image, store)


async def _load(field: str, image: ImageInput, store: ImageStore) -> CheckedPicture | Problem:
    """A sound picture, or what is wrong with it."""
    limit = MASK_BYTES_LIMIT if field == "mask" else IMAGE_BYTES_LIMIT
    try:
        if image.is_data_uri:
            return await asyncio.to_thread(examine_data_uri, image.uri, image.sha256, bytes_limit=limit)
        data = await store.read(image.uri, max_bytes=limit - 1)
        return await asyncio.to_thread(examine, data, image.sha256)
    except ReferenceRefused:
        why, allowed = "not in this image store", f"a reference that begins with {store.root}, or a data: URI"
    except NotFound:
        why, allowed = "not found", "a picture that is in the image store (`python starter.py upload FILE`)"
    except TooLarge as error:
        why, allowed = f"{error.size:,} bytes", f"a picture under {limit // MIB} MB"
    except CorruptImage:
        why, allowed = "its bytes do not match its name", "an unharmed picture: upload it again"
    except ValueError as error:
        why, allowed = str(error), PICTURE_RULE
    return Problem(field=field, value=f"{describe_value(field, image.uri)} ({why})", allowed=allowed)


def _as_input(field: str, loaded: CheckedPicture) -> InputPicture:
    media_type = loaded.picture.media_type
    return InputPicture(f"{field.replace('.', '-')}.{EXTENSIONS[media_type]}", loaded.data, media_type)


def _read_file(path: Path) -> bytes:
    """The bytes of a picture's file; raises InputsRefused."""
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
        raise ValueError("no file but a folder or a device")
    if status.st_size >= IMAGE_BYTES_LIMIT:
        raise ValueError(f"{status.st_size:,} bytes large")
