"""Whether every picture that the ledger promises lies in the image store, unchanged."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from itertools import chain

from pydantic import TypeAdapter, ValidationError

from billing.database import Database
from billing.findings import Finding, show_value
from billing.stored_pictures import PromisedPictures, read_promised_pictures
from contracts.images import ImageRef
from imaging.store import ImageStore
from imaging.store_errors import StoreFailure, StoreUnavailable

_AT_ONCE = 8
"""Pictures in memory, some 2 MB each and at most as large as their entry says."""
_PAGE = 200
_REFS = TypeAdapter(list[ImageRef])


class PictureCheck:
    """One pass over the pictures of a ledger. `checked` is how many were looked at so far."""

    def __init__(self, database: Database, store: ImageStore, tell: Callable[[int], None]) -> None:
        self._database = database
        self._store = store
        self._tell = tell
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.checked = 0

    async def find(self) -> AsyncIterator[Finding]:
        """Every picture that is not there, or not what its entry says. It ends where the store does not answer any more.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        after = -1
        while page := await asyncio.to_thread(
            read_promised_pictures, self._database, after=after, limit=_PAGE
        ):
            try:
                checked = await asyncio.gather(*(self._check_entry(entry) for entry in page))
            except StoreUnavailable as error:
                yield Finding(what=f"Not all pictures could be checked. {error}")
                return
            for finding in chain.from_iterable(checked):
                yield finding
            after = page[-1].sequence

    async def _check_entry(self, entry: PromisedPictures) -> list[Finding]:
        try:
            images = _REFS.validate_json(entry.images)
        except ValidationError:
            return [
                _describe(entry, "The entry's pictures are no image refs.", found=show_value(entry.images))
            ]
        checks = (self._check_picture(image, entry) for image in images)
        return [finding for finding in await asyncio.gather(*checks) if finding]

    async def _check_picture(self, image: ImageRef, entry: PromisedPictures) -> Finding | None:
        async with self._slots:
            try:
                data = await self._store.read(image.uri, max_bytes=image.bytes)
            except StoreUnavailable:
                raise
            except StoreFailure as failure:
                return _describe(entry, str(failure), expected=f"sha256 {image.sha256}")
            finally:
                self.checked += 1
                self._tell(self.checked)
            sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        if (sha256, len(data)) == (image.sha256, image.bytes):
            return None
        return _describe(
            entry,
            f"The picture {image.uri} is not the one that the entry promises.",
            expected=f"sha256 {image.sha256}, {image.bytes:,} bytes",
            found=f"sha256 {sha256}, {len(data):,} bytes",
        )


def _describe(
    entry: PromisedPictures, what: str, *, expected: str | None = None, found: str | None = None
) -> Finding:
    return Finding(
        what=what,
        tenant=entry.tenant,
        run_id=entry.run_id,
        entry_id=entry.entry_id,
        expected=expected,
        found=found,
    )
