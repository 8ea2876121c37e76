"""The image store's guarantees on S3: how it looks from outside, and its errors when S3 fails."""

import uuid

import pytest

from gpt_image_runs.images.backend import CorruptImage, ReferenceRefused, StoreUnavailable
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture
from tests.support.servers.s3_server import BUCKET, s3_client, s3_environment

PICTURE = make_picture("PNG", (8, 6))
ABSENT = "sha256/00/" + "00" * 32 + ".png"


async def test_bucket_holds_one_object_with_media_type_below_the_prefix(
    s3_store: ImageStore, s3_url: str
) -> None:
    image = await s3_store.put_image(PICTURE)
    key = image.uri.removeprefix(f"s3://{BUCKET}/")
    bucket = s3_client(s3_url)
    first = bucket.head_object(Bucket=BUCKET, Key=key)
    bucket.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": [{"Key": "seen", "Value": "yes"}]})
    await s3_store.put_image(PICTURE)
    tags = bucket.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
    assert first["ContentType"] == "image/png"
    assert tags == [{"Key": "seen", "Value": "yes"}]  # another write would have taken the tag away


async def test_damaged_object_is_refused_and_truncated_one_is_rewritten(
    s3_store: ImageStore, s3_url: str
) -> None:
    image = await s3_store.put_image(PICTURE)
    key = image.uri.removeprefix(f"s3://{BUCKET}/")
    s3_client(s3_url).put_object(Bucket=BUCKET, Key=key, Body=PICTURE[:-1])
    with pytest.raises(CorruptImage, match="damaged"):
        await s3_store.read(image.uri)
    await s3_store.put_image(PICTURE)
    assert await s3_store.read(image.uri) == PICTURE


async def test_reference_to_another_bucket_or_prefix_is_refused(s3_store: ImageStore, s3_url: str) -> None:
    bucket = f"other-{uuid.uuid4().hex}"
    client = s3_client(s3_url)
    client.create_bucket(Bucket=bucket)
    for name in (bucket, BUCKET):
        client.put_object(Bucket=name, Key="cat.png", Body=PICTURE)
        with pytest.raises(ReferenceRefused, match="outside"):
            await s3_store.read(f"s3://{name}/cat.png")


async def test_missing_bucket_is_an_unavailable_store(s3_store: ImageStore) -> None:
    missing = ImageStore.from_url(f"s3://missing-{uuid.uuid4().hex}")
    for attempt in (missing.read(missing.root + ABSENT), missing.put_image(PICTURE), missing.check()):
        with pytest.raises(StoreUnavailable, match="NoSuchBucket, The specified bucket does not exist"):
            await attempt


async def test_unreachable_server_is_reported_with_its_address(
    s3_url: str, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment(f"http://127.0.0.1:{unused_port}").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreUnavailable, match=f"cannot be written: .*127.0.0.1:{unused_port}") as refusal:
        await ImageStore.from_url(f"s3://{BUCKET}").check()
    assert "\n" not in str(refusal.value)


async def test_missing_credentials_are_reported(
    s3_store: ImageStore, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{unused_port}")
    with pytest.raises(StoreUnavailable, match="cannot be written: no credentials were found"):
        await ImageStore.from_url(s3_store.root).check()


async def test_picture_on_s3_has_no_local_path(s3_store: ImageStore) -> None:
    assert s3_store.local_path((await s3_store.put_image(PICTURE)).uri) is None
