"""Objects in an S3-compatible store, by its URL. Endpoint and credentials come from the usual AWS_* variables.

Requests are path-style, which every compatible store understands; an endpoint may be plain http. Writes are single
requests: they are atomic, and leave no unfinished upload behind that would be paid for unseen.
"""

import asyncio
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gpt_image_runs.images.backend import StoreUnavailable, TooLarge
from gpt_image_runs.images.keys import KEY_RULE, is_key

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ANSWER = re.compile(r"<Code>([^<]{1,100})</Code>\s*<Message>([^<]{1,200})</Message>")
_MAX_REASON = 200
_CONNECT_TIMEOUT = timedelta(seconds=5)
_REQUEST_TIMEOUT = timedelta(seconds=60)
"""Enough for 50 MB at 1 MB/s."""
_MAX_RETRIES = 4
_RETRY_TIMEOUT = timedelta(seconds=60)
"""Rides over a short outage. A longer one is for the caller, who knows what waits on it."""
# No reference can lead to it: the name of a picture never begins with a dot.
_MARK = ".store-id"


class S3Objects:
    """Objects in a bucket, below a prefix; `root` is the URI of both."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.root = f"s3://{bucket}/{prefix}/" if prefix else f"s3://{bucket}/"
        try:
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "allow_http": True,  # used only where the endpoint itself is plain http
                    "connect_timeout": _CONNECT_TIMEOUT,
                    "timeout": _REQUEST_TIMEOUT,
                },
                retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_TIMEOUT},
                virtual_hosted_style_request=False,
            )
        except (BaseError, ValueError) as error:
            raise StoreUnavailable(
                f"The image store {self.root} cannot be used: {_reason(error)}. See to the AWS_* variables."
            ) from error

    @classmethod
    def from_url(cls, url: str) -> "S3Objects":
        """The store of a URL such as s3://bucket or s3://bucket/prefix. Nothing is sent yet.

        Raises:
            StoreUnavailable: the URL or an AWS_* variable is not well-formed.
        """
        if "@" in url:  # not shown: it may hold a secret
            raise StoreUnavailable(
                "The image store's URL must not hold credentials:"
                " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead."
            )
        bucket, _, path = url.removeprefix("s3://").partition("/")
        prefix = path.rstrip("/")
        if not _BUCKET.fullmatch(bucket) or (prefix and not is_key(prefix)):
            raise StoreUnavailable(
                f"The image store's URL {url!r} names no bucket: write s3://bucket or s3://bucket/prefix,"
                f" the prefix being {KEY_RULE}."
            )
        return cls(bucket, prefix)

    def path_of(self, key: str) -> None:
        """None: there is no file on this machine."""

    async def add(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object whose key tells its content, unless it is there already.

        Asking first instead of a conditional write: not every compatible store knows the latter, and where two
        writers meet, both write the same bytes.
        """
        with self._explained("read"):
            try:
                found = await obstore.head_async(self._store, key)
            except FileNotFoundError:
                found = None
        # An object of another size is damaged: it gives way, as what was paid for has to be kept.
        if found is None or found["size"] != len(data):
            await self.replace(key, data, media_type)

    async def replace(self, key: str, data: bytes, media_type: str) -> None:
        """Writes an object, in place of what was there."""
        with self._explained("written"):
            await obstore.put_async(
                self._store, key, data, use_multipart=False, attributes={"Content-Type": media_type}
            )

    async def read(self, key: str, max_bytes: int | None) -> bytes | None:
        """An object's bytes, None where there is none. Errors as in `Objects`."""
        with self._explained("read"):
            try:
                result = await obstore.get_async(self._store, key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
            size = result.meta["size"]  # told in the headers: the body has not been fetched yet
            if max_bytes is not None and size > max_bytes:
                raise TooLarge(self.root + key, size, max_bytes)
            # Copied into Python's own bytes off the event loop: some 10 ms for a large picture.
            return await asyncio.to_thread(bytes, await result.bytes_async())

    async def measure(self, key: str) -> int | None:
        """An object's size in bytes, None where there is none. Errors as in `Objects`."""
        with self._explained("read"):
            try:
                return int((await obstore.head_async(self._store, key))["size"])
            except FileNotFoundError:
                return None

    async def read_piece(self, key: str, start: int, length: int) -> bytes:
        """So many bytes of an object, by a request of their own: a slow reader holds no connection to the store."""
        with self._explained("read"):
            return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def identify(self) -> bytes:
        """Return the content of the object `.store-id`, created where it is missing.

        It is read again after it was written: not every compatible store can write only where nothing is there, and of two
        writers that meet the last one counts.
        """
        found = await self.find_identity()
        if found is None:
            await self.replace(_MARK, uuid.uuid4().hex.encode(), "text/plain")
            found = await self.find_identity()
        return found or b""

    async def find_identity(self) -> bytes | None:
        """Return the content of the object `.store-id`, None where it is missing."""
        return await self.read(_MARK, None)

    async def list_keys(self, folder: str) -> list[str]:
        """The keys of all objects below a folder's key, in no order."""
        with self._explained("listed"):
            found = await obstore.list(self._store, folder).collect_async()
            return [meta["path"] for meta in found]

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise StoreUnavailable(
                f"The image store {self.root} cannot be {action}: {_reason(error)}."
                " See to the bucket, its endpoint and the AWS_* variables."
            ) from error


def _reason(error: Exception) -> str:
    """What the store answered, or else the library's first line: the rest of it is a page of internals."""
    text = str(error)
    if answer := _ANSWER.search(text):
        return f"{answer[1]}, {answer[2].rstrip('.')}"
    if "/latest/api/token" in text:  # where the library looks last: the metadata service of a cloud machine
        return "no credentials were found"
    first_line = text.partition("\n")[0].strip().rstrip(".:")
    return first_line if len(first_line) <= _MAX_REASON else first_line[:_MAX_REASON] + "..."
