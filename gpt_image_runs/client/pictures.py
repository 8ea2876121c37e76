"""Read a result's images from the image store and check them against their hash."""

import asyncio
import hashlib
from importlib import import_module
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import url2pathname, urlopen

from gpt_image_runs.client.errors import ImageUnavailable
from gpt_image_runs.contracts.images import ImageRef

_DOWNLOAD_SECONDS = 60


async def read_image(image: ImageRef) -> bytes:
    """Read an image from a local image store, from S3, or by an http(s) link.

    Raises:
        ImageUnavailable: it cannot be read here, or its bytes are not those of the result.
    """
    scheme = urlsplit(image.uri).scheme
    if scheme == "s3":
        data = await _read_from_s3(image.uri)
    elif scheme in {"file", "http", "https"}:
        read = _read_file if scheme == "file" else _download
        data = await asyncio.to_thread(read, image)
    else:
        raise ImageUnavailable(
            f"The image {image.uri} is in no store that is known: its reference begins with {scheme!r}, not with file, s3, http or"
            " https.",
            uri=image.uri,
        )
    if await asyncio.to_thread(_hash, data) != image.sha256:
        raise ImageUnavailable(
            f"The bytes of {image.uri} are not the image of the result: their SHA-256 is not {image.sha256}.",
            uri=image.uri,
        )
    return data


def _read_file(image: ImageRef) -> bytes:
    parts = urlsplit(image.uri)
    path = Path(url2pathname(parts.path))
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageUnavailable(
            f"The image {image.uri} cannot be read here ({error.strerror or error}). The workers keep images in a folder of their own"
            " machine: read it there, mount the folder at the same path, or have the workers use a store in S3 (IMAGE_STORE_URL).",
            uri=image.uri,
        ) from error


def _download(image: ImageRef) -> bytes:
    try:
        with urlopen(image.uri, timeout=_DOWNLOAD_SECONDS) as response:  # noqa: S310 - the scheme is http or https
            # One byte more than the image has is enough to see that it is another one.
            data: bytes = response.read(image.bytes + 1)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ImageUnavailable(
            f"The image {image.uri} cannot be downloaded ({reason}). A link ends after some days: make a new one with"
            " `python starter.py links RUN`.",
            uri=image.uri,
        ) from error
    return data


async def _read_from_s3(uri: str) -> bytes:
    try:
        backend = import_module("gpt_image_runs.images.backend")
        store = import_module("gpt_image_runs.images.store")
    except ModuleNotFoundError as error:
        raise ImageUnavailable(
            f"The image {uri} is in S3, and {error.name} is not installed. Install it with `pip install gpt-image-runs[app]`, and set"
            " AWS_* as the workers have them; or read the object with an S3 client of your own.",
            uri=uri,
        ) from error
    root = uri.rpartition("/sha256/")[0]
    try:
        data: bytes = await store.ImageStore.from_url(root).read(uri)
    except backend.StoreFailure as error:
        raise ImageUnavailable(str(error), uri=uri) from error
    return data


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
