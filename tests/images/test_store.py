"""The image store's guarantees, on a local folder and on S3."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from gpt_image_runs.images.backend import NotFound, ReferenceRefused, StoreUnavailable, TooLarge
from gpt_image_runs.images.formats import NotAPicture
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture

PICTURE = make_picture("PNG", (8, 6))
ABSENT = "sha256/00/" + "00" * 32 + ".png"


@pytest.mark.parametrize(
    ("kind", "media_type", "extension"),
    [("PNG", "image/png", "png"), ("JPEG", "image/jpeg", "jpg"), ("WEBP", "image/webp", "webp")],
)
async def test_picture_is_stored_under_its_hash_and_read_back(
    store: ImageStore, kind: str, media_type: str, extension: str
) -> None:
    data = make_picture(kind, (31, 17))
    sha256 = hashlib.sha256(data).hexdigest()
    image = await store.put_image(data)
    assert image.uri == f"{store.root}sha256/{sha256[:2]}/{sha256}.{extension}"
    assert (image.sha256, image.media_type, image.bytes) == (sha256, media_type, len(data))
    assert (image.width, image.height) == (31, 17)
    assert await store.read(image.uri) == data


async def test_bytes_that_are_not_a_picture_are_not_stored(store: ImageStore) -> None:
    with pytest.raises(NotAPicture):
        await store.put_image(b"no picture")


async def test_concurrent_puts_of_equal_pictures_succeed(store: ImageStore) -> None:
    pictures = [make_picture("PNG", (9, 9), colour=shade) for shade in range(5)]
    images = await asyncio.gather(*(store.put_image(pictures[number % 5]) for number in range(40)))
    assert len({image.uri for image in images}) == 5
    assert [await store.read(image.uri) for image in images[:5]] == pictures


async def test_picture_of_several_megabytes_is_read_back(store: ImageStore) -> None:
    data = make_picture("PNG", (2000, 1500), compress_level=0)
    assert len(data) > 9_000_000
    assert await store.read((await store.put_image(data)).uri) == data


async def test_missing_picture_raises_not_found(store: ImageStore) -> None:
    with pytest.raises(NotFound, match="There is no picture"):
        await store.read(store.root + ABSENT)


async def test_picture_above_max_bytes_is_refused_with_its_size(store: ImageStore) -> None:
    image = await store.put_image(PICTURE)
    assert await store.read(image.uri, max_bytes=len(PICTURE)) == PICTURE
    with pytest.raises(TooLarge) as refusal:
        await store.read(image.uri, max_bytes=len(PICTURE) - 1)
    assert refusal.value.size == len(PICTURE)


async def test_partial_pictures_are_separate_objects(store: ImageStore) -> None:
    """Their prefix may have a lifecycle rule."""
    finished, partial = await store.put_image(PICTURE), await store.put_partial_image(PICTURE)
    assert (partial.sha256, partial.media_type, partial.bytes) == (
        finished.sha256,
        finished.media_type,
        finished.bytes,
    )
    assert partial.uri == finished.uri.replace("/sha256/", "/partial/")
    assert await store.read(partial.uri) == PICTURE


@pytest.mark.parametrize(
    "reference",
    [
        "",
        ".",
        "..",
        "../secret.png",
        "a/../../secret.png",
        "sha256/../secret.png",
        "%2e%2e/secret.png",
        "a%2fb.png",
        "a\\b.png",
        "a.png?version=1",
        "a.png#part",
        "/etc/passwd",
        "a//b.png",
        "a/",
        ".partial/x",
        "a b.png",
        "a\0.png",
        "a\n.png",
        "ä.png",
        "x" * 201,
        "/".join(["x"] * 400),
        "documents/receipt.json",
        "sha256/ab/cat.png",
        "partial/ab/cat.png",
        "sha256/00/" + "11" * 32 + ".png",
        "sha256/00/" + "00" * 32 + ".gif",
    ],
)
async def test_reference_without_a_plain_picture_name_is_refused(store: ImageStore, reference: str) -> None:
    with pytest.raises(ReferenceRefused):
        await store.read(store.root + reference)


@pytest.mark.parametrize(
    "reference",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "s3://other-bucket/a.png",
        "s3://pictures-of-others/a.png",
        "http://169.254.169.254/latest/meta-data",
        "data:image/png;base64,AAAA",
        "",
    ],
)
async def test_reference_outside_of_the_root_is_refused(store: ImageStore, reference: str) -> None:
    with pytest.raises(ReferenceRefused, match=r"is outside of this image store, (file|s3)://"):
        await store.read(reference)


async def test_root_with_the_same_prefix_is_another_root(store: ImageStore) -> None:
    with pytest.raises(ReferenceRefused, match="outside"):
        await store.read(store.root.rstrip("/") + "-of-others/a.png")


async def test_documents_are_replaced_listed_and_absent_ones_are_none(store: ImageStore) -> None:
    assert await store.list_documents() == []
    assert await store.read_document("receipts/a/1.json") is None
    for key in ("receipts/ab/2.json", "notes.json", "receipts/a/1.json", "early/0.json"):
        await store.put_document(key, key.encode())
    await store.put_document("notes.json", b"replaced")
    assert await store.read_document("notes.json") == b"replaced"
    assert await store.read_document("receipts/a/1.json") == b"receipts/a/1.json"
    assert await store.list_documents() == [
        "early/0.json",
        "notes.json",
        "receipts/a/1.json",
        "receipts/ab/2.json",
    ]
    assert await store.list_documents("receipts") == ["receipts/a/1.json", "receipts/ab/2.json"]
    assert await store.list_documents("receipts/a") == ["receipts/a/1.json"]
    assert await store.list_documents("nothing") == []
    assert await store.list_documents("notes.json") == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../b", "a b", "a:b", ".a", "a/.b", "-a", "a\n"])
async def test_invalid_document_name_is_refused(store: ImageStore, key: str) -> None:
    with pytest.raises(ValueError, match="is not a valid document name"):
        await store.put_document(key, b"")
    with pytest.raises(ValueError, match="is not a valid document name"):
        await store.read_document(key)


async def test_check_passes_repeatedly_and_leaves_documents(store: ImageStore) -> None:
    await store.check()
    await store.check()
    assert await store.list_documents() == []


async def test_second_store_of_the_same_url_reads_the_picture(store: ImageStore) -> None:
    image = await store.put_image(PICTURE)
    assert await ImageStore.from_url(store.root).read(image.uri) == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "",
        "images",
        "/data/images",
        "ftp://host/images",
        "file://images",
        "file://host/images",
        "file:///",
        "file:///data/../images",
        "file:///data?x=1",
        "s3://",
        "s3:///prefix",
        "s3://Bucket",
        "s3://b",
        "s3://bucket/pre%20fix",
        "s3://bucket/../prefix",
        "s3://bucket?region=x",
    ],
)
def test_invalid_url_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"The image store's URL .* use .*(file:///|s3://)"):
        ImageStore.from_url(url)


def test_credentials_in_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(StoreUnavailable, match="AWS_SECRET_ACCESS_KEY") as refusal:
        ImageStore.from_url("s3://key:hush@bucket/prefix")
    assert "hush" not in str(refusal.value)


async def test_store_id_is_the_same_for_all_who_open_the_store(store: ImageStore) -> None:
    url = store.root.rstrip("/")
    first = await store.find_or_create_id()
    assert first
    assert await ImageStore.from_url(url).find_or_create_id() == first
    assert await ImageStore.find_id_at(url) == first


async def test_looking_for_a_store_id_creates_nothing(store: ImageStore, tmp_path: Path) -> None:
    for url in (f"{store.root}elsewhere", (tmp_path / "missing").as_uri()):
        assert await ImageStore.find_id_at(url) is None
        assert await ImageStore.find_id_at(url) is None
    assert not (tmp_path / "missing").exists()
