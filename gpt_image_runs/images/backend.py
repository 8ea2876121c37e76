"""Define what an image store's backend must provide, and the store's errors."""

from pathlib import Path
from typing import Protocol


class Objects(Protocol):
    """Bytes by key in some place.

    All methods but `path_of` raise StoreUnavailable if the place fails. Keys come from `gpt_image_runs.images.keys`,
    which ensures that they are well-formed.
    """

    @property
    def root(self) -> str:
        """The URI of the place, ending with a slash. Root and key together are a reference."""

    def path_of(self, key: str) -> Path | None:
        """Return the file of an object on this machine, or None if objects are not files."""

    async def add(self, key: str, data: bytes, media_type: str) -> None:
        """Write an object whose key identifies its content, unless it exists."""

    async def replace(self, key: str, data: bytes, media_type: str) -> None:
        """Write an object, replacing an existing one. Readers see either the old or the new one, complete."""

    async def read(self, key: str, max_bytes: int | None) -> bytes | None:
        """Return an object's bytes, or None if it does not exist.

        Raises:
            TooLarge: it has more than `max_bytes`; nothing was read.
            ReferenceRefused: the key leads to something that is not an object.
        """

    async def measure(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it does not exist. Errors as for `read`."""

    async def read_piece(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes of an existing object, fewer if it is shorter or was removed meanwhile."""

    async def identify(self) -> bytes:
        """Return the id of this place, created if it has none yet. A copy of the place has the same id."""

    async def find_identity(self) -> bytes | None:
        """Return the same id without creating it, or None if there is none yet."""

    async def list_keys(self, folder: str) -> list[str]:
        """Return the keys of all objects below a folder's key, unordered."""


class StoreFailure(Exception):
    """The base of the image store's errors."""


class StoreUnavailable(StoreFailure):
    """The store is misconfigured, cannot be reached, or refuses to read or write."""


class ReferenceRefused(StoreFailure, ValueError):
    """The reference leads out of the store, or is not a reference to a picture."""


class NotFound(StoreFailure):
    """The picture does not exist in the store."""


class CorruptImage(StoreFailure):
    """The bytes of a picture do not match the hash in its name."""


class TooLarge(StoreFailure):
    """The picture has more bytes than the caller accepts; nothing was read. `size` is in bytes."""

    def __init__(self, uri: str, size: int, max_bytes: int) -> None:
        super().__init__(f"The picture {uri} has {size:,} bytes, at most {max_bytes:,} are accepted.")
        self.size = size
