"""What a place for bytes has to offer to be an image store: `gpt_image_runs.images.local_backend` and `gpt_image_runs.images.s3_backend` do."""

from pathlib import Path
from typing import Protocol


class Objects(Protocol):
    """Bytes by key, in some place. All methods but `path_of` raise StoreUnavailable where the place fails.

    Keys come from `gpt_image_runs.images.keys`, which has made sure that they are well-formed.
    """

    @property
    def root(self) -> str:
        """The URI of the place, with a slash at its end: root and key together are a reference."""

    def path_of(self, key: str) -> Path | None:
        """The file of an object on this machine, None where objects are no files."""

    async def add(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object whose key tells its content, unless it is there already."""

    async def replace(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object, in place of what was there. Readers see the one or the other, whole."""

    async def read(self, key: str, max_bytes: int | None) -> bytes | None:
        """An object's bytes, None where there is none.

        Raises:
            TooLarge: it has more than `max_bytes`; nothing was read.
            ReferenceRefused: the key leads to something that is no object.
        """

    async def measure(self, key: str) -> int | None:
        """An object's size in bytes, None where there is none. Errors as for `read`."""

    async def read_piece(self, key: str, start: int, length: int) -> bytes:
        """So many bytes of an object that is there. Fewer where it is shorter, or gone meanwhile."""

    async def identify(self) -> bytes:
        """Return what tells this place from others, created where there is none yet. A copy of the place has the same."""

    async def find_identity(self) -> bytes | None:
        """Return the same without creating anything, None where there is none yet."""

    async def list_keys(self, folder: str) -> list[str]:
        """The keys of all objects below a folder's key, in no order."""


class StoreFailure(Exception):
    """Anything that the image store could not do."""


class StoreUnavailable(StoreFailure):
    """The store is not configured well, cannot be reached, or refuses to read or write."""


class ReferenceRefused(StoreFailure, ValueError):
    """The reference leaves the store, or is no reference to a picture at all."""


class NotFound(StoreFailure):
    """There is no such picture in the store."""


class CorruptImage(StoreFailure):
    """The bytes of a picture do not match the hash that is its name."""


class TooLarge(StoreFailure):
    """The picture has more bytes than the caller takes; nothing was read. `size` is in bytes."""

    def __init__(self, uri: str, size: int, max_bytes: int) -> None:
        super().__init__(f"The picture {uri} has {size:,} bytes, at most {max_bytes:,} are accepted.")
        self.size = size
