"""Fetch a file by an untrusted URL: from allowed hosts only, bounded in size and time.

https to public addresses, without redirects, proxies from the environment, credentials or cookies. The name is
resolved once and the connection goes to the checked result. Exception: pictures may also be fetched from the
provider's own host, which the deployment sends its requests to, also by http and on a private address.
"""

import asyncio
import socket
import ssl
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gpt_image_runs.webhooks.allowlist import Destinations

MAX_BYTES = 64 * 1024 * 1024
TIMEOUT_SECONDS = 60.0
_PAUSES_SECONDS = (1.0, 3.0)
_CHUNK_BYTES = 256 * 1024
_HTTP_OK = 200
_RETRYABLE_STATUSES = {408, 425, 429, *range(500, 600)}


class DownloadFailed(Exception):
    """A file that was not fetched. The message says why, without the URL's path."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Downloader:
    """Fetches files from the hosts of a setting. `own_addresses` are URLs of the provider itself."""

    def __init__(
        self,
        hosts: Destinations,
        own_addresses: Collection[str] = (),
        *,
        max_bytes: int = MAX_BYTES,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = hosts
        self._own = {_origin(urlsplit(address)) for address in own_addresses}
        self._max_bytes = max_bytes
        self._resolver = resolver
        self._tls = tls

    async def fetch(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
        """Return the file at a URL. Retries errors that may be temporary, within the timeout.

        Raises:
            DownloadFailed: it is not allowed, missing, too large, or did not arrive in time.
        """
        where, is_own = self._check(url)
        try:
            async with asyncio.timeout(timeout_seconds), self._open_session(is_own=is_own) as session:
                for pause in _PAUSES_SECONDS:
                    try:
                        return await self._get(session, url, where)
                    except DownloadFailed as failure:
                        if not failure.retryable:
                            raise
                    await asyncio.sleep(pause)
                return await self._get(session, url, where)
        except TimeoutError:
            raise DownloadFailed(f"{where} did not deliver it within {timeout_seconds:g} seconds") from None

    def _check(self, url: str) -> tuple[str, bool]:
        try:
            parts = urlsplit(url)
            origin = _origin(parts)
        except ValueError:
            raise DownloadFailed("it is not a valid URL") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise DownloadFailed("it is not a valid http or https URL")
        host = ascii(parts.netloc.rpartition("@")[2])[1:-1][:300]
        fault = self._hosts.validate(url)
        is_own = origin in self._own and self._hosts.matches(url)
        if fault and not is_own:
            raise DownloadFailed(f"nothing is fetched from {host}; allowed: {fault}")
        return f"{parts.scheme}://{host}", is_own

    async def _get(self, session: aiohttp.ClientSession, url: str, where: str) -> bytes:
        try:
            async with session.get(url, allow_redirects=False) as response:
                if response.status != _HTTP_OK:
                    retryable = response.status in _RETRYABLE_STATUSES
                    raise DownloadFailed(f"{where} answered {response.status}", retryable=retryable)
                if response.headers.get("content-encoding", "identity").lower() != "identity":
                    raise DownloadFailed(f"{where} sent it compressed, which was not requested")
                return await self._read(response, where)
        except (aiohttp.ClientError, OSError) as error:
            raise DownloadFailed(
                f"{where} could not be reached ({type(error).__name__})", retryable=True
            ) from None

    async def _read(self, response: aiohttp.ClientResponse, where: str) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_chunked(_CHUNK_BYTES):
            body += piece
            if len(body) > self._max_bytes:
                raise DownloadFailed(f"{where} sent more than {self._max_bytes:,} bytes")
        return bytes(body)

    def _open_session(self, *, is_own: bool) -> aiohttp.ClientSession:
        inner = self._resolver or aiohttp.ThreadedResolver()
        connector = aiohttp.TCPConnector(
            resolver=inner if is_own else _PublicResolver(self._hosts, inner),
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"user-agent": "gpt-image-runs", "accept-encoding": "identity"},
        )


class _PublicResolver(AbstractResolver):
    """Resolves to public addresses only. A single blocked address blocks the name, as it may be tried next."""

    def __init__(self, hosts: Destinations, inner: AbstractResolver) -> None:
        self._hosts = hosts
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            why = self._hosts.blocked_reason(one["host"])
            if why:
                raise DownloadFailed(
                    f"{host} resolves to {one['host']}, which is not a public address ({why})"
                )
        return found

    async def close(self) -> None:
        await self._inner.close()


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
