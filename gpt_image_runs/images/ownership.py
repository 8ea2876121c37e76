"""Whose pictures lie in the image store: a tenant edits what its own uploads or runs have made, and nothing else.

The store is content-addressed, so one picture may have several owners. Each is an empty object beside the pictures,
`owners/<2 digits>/<sha256>/<tenant>`, written before anybody hears of the picture.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.images.backend import NotFound, ReferenceRefused, StoreUnavailable
from gpt_image_runs.images.keys import key_of_reference, sha256_of_key
from gpt_image_runs.images.store import ImageStore

DEFAULT_TENANT = "default"


class PictureOwners:
    """Who may use which picture of a store.

    A picture without an owner, such as a file that somebody has copied into the store, belongs to the tenant "default".
    """

    def __init__(self, store: ImageStore, *, shared: bool = False) -> None:
        self._store = store
        self._shared = shared

    def store_of(self, tenant: str) -> ImageStore:
        """The store as a tenant sees it: pictures of others are not found."""
        return self._store if self._shared else _TenantStore(self._store, self, tenant)

    async def may_use(self, tenant: str, sha256: str) -> bool:
        """Whether a picture that is in the store is one of the tenant's. Raises StoreUnavailable."""
        if await self._store.is_owner(tenant, sha256):
            return True
        if tenant != DEFAULT_TENANT or await self._store.list_owners(sha256):
            return False
        # It stays the default tenant's, whoever uploads the same bytes later. A store that can only be read will do.
        with suppress(StoreUnavailable):
            await self._store.add_owner(DEFAULT_TENANT, sha256)
        return True


class _TenantStore(ImageStore):
    """A store whose pictures of other tenants are not found, in the words of a picture that is not there."""

    def __init__(self, store: ImageStore, owners: PictureOwners, tenant: str) -> None:
        super().__init__(store.objects)
        self._owners = owners
        self._tenant = tenant

    async def read(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """The bytes of a picture of the tenant's. Errors as for `ImageStore.read`."""
        key = key_of_reference(uri, self.root)
        promised = sha256_of_key(key)
        if promised:
            # Before it is read: how large or how damaged a picture of somebody else is, is not told either.
            if await self.objects.measure(key) is not None:
                await self._refuse_foreign(promised, uri)
            return await super().read(uri, max_bytes=max_bytes)
        data = await super().read(uri, max_bytes=max_bytes)
        await self._refuse_foreign(await asyncio.to_thread(_hash, data), uri)
        return data

    async def measure(self, uri: str) -> int | None:
        """The bytes of a picture of the tenant's, None for any other. Errors as for `ImageStore.measure`."""
        size = await super().measure(uri)
        promised = sha256_of_key(key_of_reference(uri, self.root))
        if size is None or (promised and not await self._owners.may_use(self._tenant, promised)):
            return None
        return size

    async def _refuse_foreign(self, sha256: str, uri: str) -> None:
        if not await self._owners.may_use(self._tenant, sha256):
            raise NotFound(f"There is no picture {uri} in the image store.")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def describe_deleted(store: ImageStore, images: Sequence[ImageRef]) -> tuple[str, ...]:
    """Return a sentence for each picture of this store that is gone. Pictures of other stores cannot be checked.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    return tuple([_describe(image) for image in images if await _is_deleted(store, image)])


async def _is_deleted(store: ImageStore, image: ImageRef) -> bool:
    if not image.uri.startswith(store.root):
        return False
    try:
        return await store.find_picture(image.uri.rpartition("/")[2]) is None
    except ReferenceRefused:
        return False


def _describe(image: ImageRef) -> str:
    return (
        f"The picture {image.uri} is not in the image store any more. It was paid for, and its request id never buys it again:"
        " submit the same request with a new request_id for a new picture, which is paid for anew."
    )
