"""Store objects in an S3-compatible store. Endpoint and credentials come from the usual AWS_* variables.

Requests are path-style, which every compatible store supports; an endpoint may be plain http. Writes are single
requests: they are atomic, and leave no unfinished multipart uploads, which would be charged unnoticed.
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
_MAX_REASON_LENGTH = 200
_CONNECT_TIMEOUT = timedelta(seconds=5)
# Enough for 50 MB at 1 MB/s.
_REQUEST_TIMEOUT = timedelta(seconds=60)
_MAX_RETRIES = 4
# Bridges a short outage. Longer ones are left to the caller.
_RETRY_TIMEOUT = timedelta(seconds=60)
# No reference can name it, because keys never begin with a dot.
_MARK = ".store-id"


class S3Objects:
    """Objects in a bucket below a prefix. `root` is the URI of both."""

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
                f"The image store {self.root} cannot be used: {_reason(error)}. Check the AWS_* variables."
            ) from error

    @classmethod
    def from_url(cls, url: str) -> "S3Objects":
        """Use the store of a URL such as s3://bucket or s3://bucket/prefix. Nothing is sent yet.

        Raises:
            StoreUnavailable: the URL or an AWS_* variable is not well-formed.
        """
        if "@" in url:  # not shown, because it may contain a secret
            raise StoreUnavailable(
                "The image store's URL must not hold credentials:"
                " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead."
            )
        bucket, _, path = url.removeprefix("s3://").partition("/")
        prefix = path.rstrip("/")
        if not _BUCKET.fullmatch(bucket) or (prefix and not is_key(prefix)):
            raise StoreUnavailable(
                f"The image store's URL {url!r} is not a valid bucket URL: use s3://bucket or s3://bucket/prefix,"
                f" where the prefix has {KEY_RULE}."
            )
        return cls(bucket, prefix)

    def path_of(self, key: str) -> None:
        """Return None: objects are not files on this machine."""

    async def add(self, key: str, data: bytes, media_type: str) -> None:
        """Write an object whose key identifies its content, unless it exists.

        This asks first instead of using a conditional write, because not every compatible store supports those. Concurrent
        writers write the same bytes.
        """
        with self._translate_errors("read"):
            try:
                found = await obstore.head_async(self._store, key)
            except FileNotFoundError:
                found = None
        # An object of another size is damaged, and must be replaced by the picture that was paid for.
        if found is None or found["size"] != len(data):
            await self.replace(key, data, media_type)

    async def replace(self, key: str, data: bytes, media_type: str) -> None:
        """Write an object, replacing an existing one."""
        with self._translate_errors("written"):
            await obstore.put_async(
                self._store, key, data, use_multipart=False, attributes={"Content-Type": media_type}
            )

    async def read(self, key: str, max_bytes: int | None) -> bytes | None:
        """Return an object's bytes, or None if it does not exist. Errors as in `Objects`."""
        with self._translate_errors("read"):
            try:
                result = await obstore.get_async(self._store, key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
            size = result.meta["size"]  # from the headers: the body has not been fetched yet
            if max_bytes is not None and size > max_bytes:
                raise TooLarge(self.root + key, size, max_bytes)
            # Copied off the event loop: it takes some 10 ms for a large picture.
            return await asyncio.to_thread(bytes, await result.bytes_async())

    async def measure(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it does not exist. Errors as in `Objects`."""
        with self._translate_errors("read"):
            try:
                return int((await obstore.head_async(self._store, key))["size"])
            except FileNotFoundError:
                return None

    async def read_piece(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes of an object by a separate request, so that slow readers hold no connection."""
        with self._translate_errors("read"):
            return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def identify(self) -> bytes:
        """Return the content of the object `.store-id`, created if missing.

        It is read again after writing: not every compatible store supports conditional writes, so the last of two concurrent
        writers wins.
        """
        found = await self.find_identity()
        if found is None:
            await self.replace(_MARK, uuid.uuid4().hex.encode(), "text/plain")
            found = await self.find_identity()
        return found or b""

    async def find_identity(self) -> bytes | None:
        """Return the content of the object `.store-id`, or None if missing."""
        return await self.read(_MARK, None)

    async def list_keys(self, folder: str) -> list[str]:
        """Return the keys of all objects below a folder's key, unordered."""
        with self._translate_errors("listed"):
            found = await obstore.list(self._store, folder).collect_async()
            return [meta["path"] for meta in found]

    @contextmanager
    def _translate_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise StoreUnavailable(
                f"The image store {self.root} cannot be {action}: {_reason(error)}."
                " Check the bucket, its endpoint and the AWS_* variables."
            ) from error


def _reason(error: Exception) -> str:
    """Return the store's answer, or else the first line of the library's message."""
    text = str(error)
    if answer := _ANSWER.search(text):
        return f"{answer[1]}, {answer[2].rstrip('.')}"
    if "/latest/api/token" in text:  # the library's last resort: a cloud machine's metadata service
        return "no credentials were found"
    first_line = text.partition("\n")[0].strip().rstrip(".:")
    return first_line if len(first_line) <= _MAX_REASON_LENGTH else first_line[:_MAX_REASON_LENGTH] + "..."
