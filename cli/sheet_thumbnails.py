"""The pictures of a contact sheet, read from the store and made small, or why one cannot be shown."""

import asyncio
import hashlib
from typing import Literal, NamedTuple

from contracts.images import ImageRef
from imaging.pictures import NotAPicture
from imaging.store import ImageStore
from imaging.store_errors import NotFound, ReferenceRefused, StoreFailure, StoreUnavailable
from imaging.thumbnails import Thumbnail, make_thumbnail

LARGE_UP_TO, SMALL_UP_TO = 1_000, 10_000
"""Measured: 4.4 KB of page for a large thumbnail of the simulator's and 1.4 KB for a small one, two to three times that
for pictures as rough as photographs. A thousand lines are a page of 6 MB, ten thousand one of 32 MB, which a browser
opens in some seconds; beyond that pictures are named, not shown."""
_LARGE_EDGE, _LARGE_QUALITY = 240, 60
_SMALL_EDGE, _SMALL_QUALITY = 112, 50
_AT_ONCE = 4
"""Pictures in memory: decoded, one of the provider's takes up to 33 MB."""
_MOST_UNANSWERED = 3
"""A store that fails this often in a row is away, and is not waited for thousands of times more."""

Fault = Literal["missing", "damaged", "not read"]


class Shot(NamedTuple):
    """A picture as the sheet shows it. Without a thumbnail, `fault` and the sentence `why` tell what is the matter.

    A picture beyond the last that is embedded has no fault, and no thumbnail either.
    """

    image: ImageRef
    thumbnail: Thumbnail | None = None
    fault: Fault | None = None
    why: str | None = None


class Thumbnailer:
    """Makes the thumbnails of one sheet: the first ones large, then small ones, then none."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._started = 0
        self._unanswered = 0

    async def make_shot(self, image: ImageRef) -> Shot:
        """The picture as it is shown. It raises nothing: a picture that cannot be shown must not stop the sheet."""
        self._started += 1
        place = self._started
        if place > SMALL_UP_TO:
            return Shot(image)
        async with self._slots:
            if self._unanswered >= _MOST_UNANSWERED:
                return Shot(image, fault="not read", why="The image store did not answer any more.")
            try:
                thumbnail = await self._make(image, large=place <= LARGE_UP_TO)
            except StoreUnavailable as error:
                self._unanswered += 1
                return Shot(image, fault="not read", why=str(error))
            except (NotFound, ReferenceRefused) as error:
                return Shot(image, fault="missing", why=str(error))
            except (StoreFailure, NotAPicture) as error:
                return Shot(image, fault="damaged", why=str(error))
            self._unanswered = 0
            return Shot(image, thumbnail)

    async def _make(self, image: ImageRef, *, large: bool) -> Thumbnail:
        data = await self._store.read(image.uri, max_bytes=image.bytes)
        edge, quality = (_LARGE_EDGE, _LARGE_QUALITY) if large else (_SMALL_EDGE, _SMALL_QUALITY)
        return await asyncio.to_thread(_make_checked, data, image, edge, quality)


def _make_checked(data: bytes, image: ImageRef, edge: int, quality: int) -> Thumbnail:
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != image.sha256:
        raise NotAPicture(f"The picture {image.uri} is another one: its sha256 is {sha256}.")
    return make_thumbnail(data, longest_edge=edge, quality=quality)
