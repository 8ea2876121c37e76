"""What the image store promises on S3 alone: how it looks from outside, and what it says when S3 fails."""

import uuid

import pytest

from gpt_image_runs.images.backend import CorruptImage, ReferenceRefused, StoreUnavailable
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_picture
from tests.support.servers.s3_server import BUCKET, s3_client, s3_environment

PICTURE = make_picture("PNG", (8, 6))
ABSENT = "sha256/00/" + "00" * 32 + ".png"


async def test_s3_from_outside(s3_store: ImageStore, s3_url: str) -> None:
    """The bucket holds a picture once, below the prefix, with its media type, however often it is put."""
    image = await s3_store.put_image(PICTURE)
    key = image.uri.removeprefix(f"s3://{BUCKET}/")
    bucket = s3_client(s3_url)
    first = bucket.head_object(Bucket=BUCKET, Key=key)
    bucket.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": [{"Key": "seen", "Value": "yes"}]})
    await s3_store.put_image(PICTURE)
    tags = bucket.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
    assert first["ContentType"] == "image/png"
    assert tags == [{"Key": "seen", "Value": "yes"}]  # another write would have taken the tag away


async def test_s3_damage(s3_store: ImageStore, s3_url: str) -> None:
    """A picture that was changed in the bucket is not given out, and one cut short is written again."""
    image = await s3_store.put_image(PICTURE)
    key = image.uri.removeprefix(f"s3://{BUCKET}/")
    s3_client(s3_url).put_object(Bucket=BUCKET, Key=key, Body=PICTURE[:-1])
    with pytest.raises(CorruptImage, match="damaged"):
        await s3_store.read(image.uri)
    await s3_store.put_image(PICTURE)
    assert await s3_store.read(image.uri) == PICTURE


async def test_s3_other_bucket(s3_store: ImageStore, s3_url: str) -> None:
    """A picture in another bucket of the same server, or below another prefix, is out of reach."""
    bucket = f"other-{uuid.uuid4().hex}"
    client = s3_client(s3_url)
    client.create_bucket(Bucket=bucket)
    for name in (bucket, BUCKET):
        client.put_object(Bucket=name, Key="cat.png", Body=PICTURE)
        with pytest.raises(ReferenceRefused, match="outside"):
            await s3_store.read(f"s3://{name}/cat.png")


async def test_s3_without_bucket(s3_store: ImageStore) -> None:
    """A bucket that is not there is no missing picture but a store that does not work."""
    missing = ImageStore.from_url(f"s3://missing-{uuid.uuid4().hex}")
    for attempt in (missing.read(missing.root + ABSENT), missing.put_image(PICTURE), missing.check()):
        with pytest.raises(StoreUnavailable, match="NoSuchBucket, The specified bucket does not exist"):
            await attempt


async def test_s3_unreachable(s3_url: str, unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is told by one sentence that names its address."""
    for name, value in s3_environment(f"http://127.0.0.1:{unused_port}").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreUnavailable, match=f"cannot be written: .*127.0.0.1:{unused_port}") as refusal:
        await ImageStore.from_url(f"s3://{BUCKET}").check()
    assert "\n" not in str(refusal.value)


async def test_s3_without_credentials(
    s3_store: ImageStore, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no credentials are set, and the machine has none to offer, that is what is said."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{unused_port}")
    with pytest.raises(StoreUnavailable, match="cannot be written: no credentials were found"):
        await ImageStore.from_url(s3_store.root).check()


async def test_s3_has_no_paths(s3_store: ImageStore) -> None:
    """A picture on S3 is no file on this machine."""
    assert s3_store.local_path((await s3_store.put_image(PICTURE)).uri) is None
