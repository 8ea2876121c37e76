"""Find pictures that a run was paid for and that are not in the image store any more."""

from collections.abc import Sequence

from contracts.images import ImageRef
from imaging.store import ImageStore
from imaging.store_errors import ReferenceRefused


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
