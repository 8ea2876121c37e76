"""A picture of the store that is given out piece by piece: in little memory, and never whole where it is damaged."""

import hashlib
from collections.abc import AsyncIterator

from imaging.objects import Objects
from imaging.store_errors import CorruptImage

PIECE = 1024 * 1024


class StoredPicture:
    """One picture that is there. `size` is in bytes."""

    def __init__(self, objects: Objects, key: str, sha256: str, size: int) -> None:
        self._objects = objects
        self._key = key
        self.sha256 = sha256
        self.size = size

    async def read_pieces(self) -> AsyncIterator[bytes]:
        """Its bytes, a megabyte at a time. The last of them comes once all are known to be what was stored.

        Raises:
            CorruptImage: they are not.
            StoreUnavailable: it could not be read.
        """
        found = hashlib.sha256()
        for start in range(0, self.size, PIECE):
            piece = await self._objects.read_piece(self._key, start, min(PIECE, self.size - start))
            found.update(piece)
            if start + PIECE >= self.size and found.hexdigest() != self.sha256:
                raise CorruptImage(f"The picture {self._key} is damaged: its bytes do not match its name.")
            yield piece
