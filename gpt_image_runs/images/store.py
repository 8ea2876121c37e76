"""The image store: pictures by the hash of their content, and small documents by name.

A picture is written once under `sha256/` (a partial one under `partial/`), and checked against its name whenever it
is read. Nothing is ever deleted. Hashing and writing do not block the event loop.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.problems import describe_value
from gpt_image_runs.images.backend import CorruptImage, NotFound, Objects, ReferenceRefused, StoreUnavailable
from gpt_image_runs.images.formats import Picture, inspect_picture
from gpt_image_runs.images.keys import (
    DOCUMENTS,
    PARTIAL_PICTURES,
    PICTURES,
    document_key,
    key_of_reference,
    owner_key,
    picture_key,
    sha256_of_key,
)
from gpt_image_runs.images.local_backend import LocalObjects
from gpt_image_runs.images.s3_backend import S3Objects

PIECE = 1024 * 1024


class StoredPicture:
    """One existing picture. `size` is in bytes."""

    def __init__(self, objects: Objects, key: str, sha256: str, size: int) -> None:
        self._objects = objects
        self._key = key
        self.sha256 = sha256
        self.size = size

    async def read_pieces(self) -> AsyncIterator[bytes]:
        """Yield its bytes, a megabyte at a time. The last piece comes only if the hash of all of them matches.

        Raises:
            CorruptImage: the hash does not match.
            StoreUnavailable: it could not be read.
        """
        found = hashlib.sha256()
        for start in range(0, self.size, PIECE):
            piece = await self._objects.read_piece(self._key, start, min(PIECE, self.size - start))
            found.update(piece)
            if start + PIECE >= self.size and found.hexdigest() != self.sha256:
                raise CorruptImage(f"The picture {self._key} is damaged: its bytes do not match its name.")
            yield piece


_PROBE_FOLDER = "check"
_PROBE_KEY = "check/probe.txt"
_PROBE = b"written by the image store's check\n"
# A user waits for it, and a slower store would be too slow for pictures anyway.
_CHECK_SECONDS = 20


class ImageStore:
    """Pictures and documents in one place, local or S3-compatible. Safe for concurrent tasks."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @property
    def objects(self) -> Objects:
        """The backend."""
        return self._objects

    @classmethod
    def from_url(cls, url: str) -> "ImageStore":
        """Open the store at a URL: file:///folder, or s3://bucket/prefix with the usual AWS_* variables.

        Raises:
            StoreUnavailable: the URL is not that of a store, or its folder cannot be created or written.
        """
        return cls(_open_objects(url))

    @classmethod
    async def find_id_at(cls, url: str) -> str | None:
        """Return the id of the store at a URL, or None if it has none yet. Nothing is created.

        Raises:
            StoreUnavailable: the URL is not that of a store, or the store does not respond.
        """
        objects = LocalObjects.without_opening(url) if url.startswith("file://") else _open_objects(url)
        return _decode_id(await objects.find_identity())

    async def find_or_create_id(self) -> str | None:
        """Return the id of this store, or None if its mark is damaged. A copy of the store has the same id.

        Raises:
            StoreUnavailable: the mark could not be read or written.
        """
        return _decode_id(await self._objects.identify())

    @property
    def root(self) -> str:
        """The URI that every reference into this store begins with."""
        return self._objects.root

    async def put_image(self, data: bytes, *, owner: str | None = None) -> ImageRef:
        """Store a picture durably, once for equal bytes. `owner` is the tenant that may edit it.

        Raises:
            NotAPicture: the header is not that of an accepted picture.
            StoreUnavailable: it could not be written.
        """
        return await self._put(data, PICTURES, owner)

    async def put_partial_image(self, data: bytes, *, owner: str | None = None) -> ImageRef:
        """Store a partial picture, apart from the finished ones. Errors as for `put_image`."""
        return await self._put(data, PARTIAL_PICTURES, owner)

    async def _put(self, data: bytes, folder: str, owner: str | None) -> ImageRef:
        sha256, picture = await asyncio.to_thread(_inspect, data)
        key = picture_key(sha256, picture.media_type, folder)
        adding = self._objects.add(key, data, picture.media_type)
        # The reference is returned after both are written, so their order does not matter.
        await asyncio.gather(adding, *([self.add_owner(owner, sha256)] if owner else []))
        return ImageRef(
            uri=self.root + key,
            sha256=sha256,
            media_type=picture.media_type,
            bytes=len(data),
            width=picture.width,
            height=picture.height,
        )

    async def add_owner(self, tenant: str, sha256: str) -> None:
        """Record that a picture belongs to a tenant. Raises StoreUnavailable."""
        await self._objects.replace(owner_key(sha256, tenant), b"", "text/plain")

    async def is_owner(self, tenant: str, sha256: str) -> bool:
        """Return whether a picture is recorded as the tenant's. Raises StoreUnavailable."""
        return await self._objects.measure(owner_key(sha256, tenant)) is not None

    async def list_owners(self, sha256: str) -> set[str]:
        """Return the recorded owners of a picture. Raises StoreUnavailable."""
        return {key.rpartition("/")[2] for key in await self._objects.list_keys(owner_key(sha256))}

    async def read(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """Return the bytes of a picture, checked against the hash in its name.

        Raises:
            ReferenceRefused: the reference leads out of the store, or not to a picture.
            NotFound: the picture does not exist.
            TooLarge: it has more than `max_bytes`; nothing was read.
            CorruptImage: its bytes have changed since it was written.
            StoreUnavailable: it could not be read.
        """
        key = key_of_reference(uri, self.root)
        data = await self._objects.read(key, max_bytes)
        if data is None:
            raise NotFound(f"There is no picture {uri} in the image store.")
        expected_sha256 = sha256_of_key(key)
        if expected_sha256 and await asyncio.to_thread(_hash, data) != expected_sha256:
            raise CorruptImage(f"The picture {uri} is damaged: its bytes do not match its name.")
        return data

    async def measure(self, uri: str) -> int | None:
        """Return the size of a picture in bytes, or None if it does not exist.

        Raises:
            ReferenceRefused: the reference leads out of the store, or not to a picture.
            StoreUnavailable: the store does not respond.
        """
        return await self._objects.measure(key_of_reference(uri, self.root))

    async def find_picture(self, name: str) -> StoredPicture | None:
        """Return the picture of a name such as "abcdef....png", or None if it does not exist.

        Raises:
            ReferenceRefused: it is not a picture's name.
            StoreUnavailable: the store does not respond.
        """
        key = f"{PICTURES}{name[:2]}/{name}"
        sha256 = sha256_of_key(key)
        if sha256 is None:
            raise ReferenceRefused(f"The name {describe_value('name', name)} is not a picture's name.")
        size = await self._objects.measure(key)
        return None if size is None else StoredPicture(self._objects, key, sha256, size)

    async def put_document(self, key: str, data: bytes) -> None:
        """Store a small document under a name of letters, digits, `._-` and slashes, replacing an earlier one.

        Raises:
            ValueError: the name is not well-formed.
            StoreUnavailable: it could not be written.
        """
        await self._objects.replace(document_key(key), data, "application/json")

    async def read_document(self, key: str) -> bytes | None:
        """Return a document's bytes, or None if it does not exist. Errors as for `put_document`."""
        return await self._objects.read(document_key(key), None)

    async def list_documents(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all documents below a folder ("": all). Errors as for `put_document`."""
        folder = document_key(prefix) if prefix else DOCUMENTS.rstrip("/")
        return sorted(key.removeprefix(DOCUMENTS) for key in await self._objects.list_keys(folder))

    async def check(self) -> None:
        """Write, read and list a probe.

        Raises:
            StoreUnavailable: one of these did not work; the message says which and why.
        """
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._objects.replace(_PROBE_KEY, _PROBE, "text/plain")
                found = await self._objects.read(_PROBE_KEY, None)
                listed = await self._objects.list_keys(_PROBE_FOLDER)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"The image store {self.root} does not respond within {_CHECK_SECONDS} seconds."
            ) from error
        if found != _PROBE or _PROBE_KEY not in listed:
            raise StoreUnavailable(f"The image store {self.root} does not return what was written.")

    def local_path(self, uri: str) -> Path | None:
        """Return the file of a picture on this machine, or None if there is none."""
        try:
            return self._objects.path_of(key_of_reference(uri, self.root))
        except ReferenceRefused:
            return None


def _open_objects(url: str) -> Objects:
    if url.startswith("file://"):
        return LocalObjects.from_url(url)
    if url.startswith("s3://"):
        return S3Objects.from_url(url)
    scheme = url.partition(":")[0]
    raise StoreUnavailable(
        f"The image store's URL begins with {scheme!r}, which is not a supported store:"
        " use file:///folder or s3://bucket/prefix."
    )


def _decode_id(identity: bytes | None) -> str | None:
    return (identity or b"").decode(errors="backslashreplace").strip() or None


def _inspect(data: bytes) -> tuple[str, Picture]:
    return _hash(data), inspect_picture(data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
