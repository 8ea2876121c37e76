"""A tenant's own pictures are read, those of other tenants are reported as missing."""

import hashlib

import pytest

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.backend import NotFound, ReferenceRefused
from gpt_image_runs.images.inputs import InputsRefused, load_inputs
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture

CAT = make_picture("PNG", (8, 6))
SHA256 = hashlib.sha256(CAT).hexdigest()


async def reads(owners: PictureOwners, tenant: str, image: ImageRef) -> bool:
    try:
        data = await owners.store_of(tenant).read(image.uri)
    except NotFound:
        return False
    assert data == CAT
    return True


async def test_picture_is_readable_only_by_its_owners(store: ImageStore) -> None:
    """The same bytes from two tenants have two owners."""
    owners = PictureOwners(store)
    image = await store.put_image(CAT, owner="acme")
    assert [await reads(owners, tenant, image) for tenant in ("acme", "evil", "default")] == [
        True,
        False,
        False,
    ]

    await store.put_image(CAT, owner="evil")

    assert await store.list_owners(SHA256) == {"acme", "evil"}
    assert await reads(owners, "evil", image)


async def test_partial_picture_is_readable_only_by_its_owner(store: ImageStore) -> None:
    owners = PictureOwners(store)
    image = await store.put_partial_image(CAT, owner="acme")

    assert [await reads(owners, tenant, image) for tenant in ("acme", "evil")] == [True, False]


async def test_foreign_picture_is_refused_like_a_missing_one(store: ImageStore) -> None:
    """The error does not reveal that it exists, how large it is, or that it is damaged."""
    owners = PictureOwners(store)
    foreign = await store.put_image(CAT, owner="acme")
    damaged = f"{store.root}sha256/00/{'0' * 64}.png"
    await store.objects.replace(damaged.removeprefix(store.root), b"x" * 100, "image/png")
    await store.add_owner("acme", "0" * 64)
    unknown = f"{store.root}sha256/11/{'1' * 64}.png"
    answers = []
    for uri in (foreign.uri, damaged, unknown):
        request = ImageRequest.model_validate(
            {"model": "gpt-image-2", "prompt": "x", "tenant": "evil", "images": [{"uri": uri}]}
        )
        with pytest.raises(InputsRefused) as refused:
            await load_inputs(request, owners.store_of(request.tenant))
        (problem,) = refused.value.problems
        answers.append((problem.value.rpartition("(")[2], problem.allowed))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == "not found)"


async def test_picture_stored_by_hand_belongs_to_the_owners_of_its_bytes(local_store: ImageStore) -> None:
    owners = PictureOwners(local_store)
    await local_store.put_image(CAT, owner="acme")
    await local_store.objects.replace("cat.png", CAT, "image/png")

    assert await owners.store_of("acme").read(local_store.root + "cat.png") == CAT
    with pytest.raises(NotFound):
        await owners.store_of("evil").read(local_store.root + "cat.png")


async def test_picture_without_owner_belongs_to_the_default_tenant(store: ImageStore) -> None:
    """Somebody copied it into the store. It stays the default tenant's after another one uploads the same bytes."""
    owners = PictureOwners(store)
    image = await store.put_image(CAT)

    assert [await reads(owners, tenant, image) for tenant in ("evil", "default")] == [False, True]
    await store.put_image(CAT, owner="acme")
    assert [await reads(owners, tenant, image) for tenant in ("evil", "default", "acme")] == [
        False,
        True,
        True,
    ]


async def test_missing_picture_gets_no_owner(store: ImageStore) -> None:
    with pytest.raises(NotFound):
        await PictureOwners(store).store_of("default").read(f"{store.root}sha256/{SHA256[:2]}/{SHA256}.png")
    assert await store.list_owners(SHA256) == set()


async def test_shared_store_is_readable_by_every_tenant(store: ImageStore) -> None:
    image = await store.put_image(CAT, owner="acme")
    assert await reads(PictureOwners(store, shared=True), "evil", image)


@pytest.mark.parametrize("tenant", ["..", "a/b", "Acme", "a" * 64])
async def test_invalid_tenant_cannot_own_a_picture(store: ImageStore, tenant: str) -> None:
    """It would become part of a path."""
    with pytest.raises(ValueError, match="is not a valid tenant"):
        await store.put_image(CAT, owner=tenant)


async def test_owner_mark_cannot_be_referenced(store: ImageStore) -> None:
    await store.put_image(CAT, owner="acme")
    with pytest.raises(ReferenceRefused):
        await store.read(f"{store.root}owners/{SHA256[:2]}/{SHA256}/acme")
