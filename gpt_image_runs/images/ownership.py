"""Record which tenants own a stored picture: a tenant may edit only what its uploads or runs have made.

The store is content-addressed, so one picture may have several owners. Each is an empty object beside the pictures,
`owners/<2 digits>/<sha256>/<tenant>`, written before the picture's reference is returned to anybody.
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
    """Decides which tenant may use which picture of a store.

    A picture without an owner, such as a file copied into the store by hand, belongs to the tenant "default".
    """

    def __init__(self, store: ImageStore, *, shared: bool = False) -> None:
        self._store = store
        self._shared = shared

    def store_of(self, tenant: str) -> ImageStore:
        """Return the store as a tenant sees it: pictures of others are not found."""
        return self._store if self._shared else _TenantStore(self._store, self, tenant)

    async def may_use(self, tenant: str, sha256: str) -> bool:
        """Return whether a stored picture belongs to the tenant. Raises StoreUnavailable."""
        if await self._store.is_owner(tenant, sha256):
            return True
        if tenant != DEFAULT_TENANT or await self._store.list_owners(sha256):
            return False
        # Record it, so that it stays the default tenant's if others upload the same bytes. A read-only store is fine.
        with suppress(StoreUnavailable):
            await self._store.add_owner(DEFAULT_TENANT, sha256)
        return True


class _TenantStore(ImageStore):
    """A store in which pictures of other tenants are reported as missing."""

    def __init__(self, store: ImageStore, owners: PictureOwners, tenant: str) -> None:
        super().__init__(store.objects)
        self._owners = owners
        self._tenant = tenant

    async def read(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """Return the bytes of one of the tenant's pictures. Errors as for `ImageStore.read`."""
        key = key_of_reference(uri, self.root)
        expected_sha256 = sha256_of_key(key)
        if expected_sha256:
            # Checked before reading, so that the size or damage of a foreign picture is not revealed.
            if await self.objects.measure(key) is not None:
                await self._check_owner(expected_sha256, uri)
            return await super().read(uri, max_bytes=max_bytes)
        data = await super().read(uri, max_bytes=max_bytes)
        await self._check_owner(await asyncio.to_thread(_hash, data), uri)
        return data

    async def measure(self, uri: str) -> int | None:
        """Return the size of one of the tenant's pictures, or None. Errors as for `ImageStore.measure`."""
        size = await super().measure(uri)
        expected_sha256 = sha256_of_key(key_of_reference(uri, self.root))
        if size is None or (
            expected_sha256 and not await self._owners.may_use(self._tenant, expected_sha256)
        ):
            return None
        return size

    async def _check_owner(self, sha256: str, uri: str) -> None:
        if not await self._owners.may_use(self._tenant, sha256):
            raise NotFound(f"There is no picture {uri} in the image store.")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def describe_deleted(store: ImageStore, images: Sequence[ImageRef]) -> tuple[str, ...]:
    """Return a sentence for each picture of this store that is gone.

    Pictures of other stores cannot be checked.

    Raises:
        StoreUnavailable: the store does not respond.
    """
    return tuple([_format_deleted(image) for image in images if await _is_deleted(store, image)])


async def _is_deleted(store: ImageStore, image: ImageRef) -> bool:
    if not image.uri.startswith(store.root):
        return False
    try:
        return await store.find_picture(image.uri.rpartition("/")[2]) is None
    except ReferenceRefused:
        return False


def _format_deleted(image: ImageRef) -> str:
    return (
        f"The picture {image.uri} is no longer in the image store. It was paid for, and the same request_id never buys it again:"
        " submit the request with a new request_id to buy a new picture."
    )
