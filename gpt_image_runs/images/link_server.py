"""Serve pictures by signed links over HTTP: read-only, and nothing else of the store.

HTTPS is up to the proxy in front of it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.formats import media_type_of_name
from gpt_image_runs.images.signed_links import PictureLinks
from gpt_image_runs.images.store import ImageStore, StoredPicture

log = structlog.get_logger("link_server")


# A quarter of the open files that most systems allow a process. Further connections are closed.
_MAX_CONNECTIONS = 256
# Time for a complete request to arrive, the first of a connection or a later one.
_IDLE_SECONDS = 20


class _RejectedConnection(asyncio.Protocol):
    """A connection beyond the limit: it is closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


@asynccontextmanager
async def listen(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the block runs; yield the port.

    Raises:
        OSError: the port is taken, or this host does not have the address.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_get_logger(),
        shutdown_timeout=5,
        keepalive_timeout=_IDLE_SECONDS,
    )
    await runner.setup()
    try:
        listener = await asyncio.get_running_loop().create_server(lambda: _accept(runner), host, port)
        try:
            yield int(listener.sockets[0].getsockname()[1])
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def _accept(runner: web.AppRunner) -> asyncio.Protocol:
    server = runner.server
    return (
        _RejectedConnection() if server is None or len(server.connections) >= _MAX_CONNECTIONS else server()
    )


def _get_logger() -> logging.Logger:
    logger = logging.getLogger("link_server.http")
    logger.addFilter(_is_not_client_noise)
    return logger


def _is_not_client_noise(record: logging.LogRecord) -> bool:
    """Drop errors about input that is not HTTP: with tracebacks, anybody could fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


# Concurrent downloads, each with a few megabytes of memory at most. Further ones get a 503.
_MAX_REQUESTS = 64
# For one download, because a slow client occupies a slot.
_MAX_DOWNLOAD_SECONDS = 600
_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}


class LinksUnavailable(Exception):
    """Pictures cannot be served at IMAGE_LINKS_ADDRESS; the message says what to do."""


class LinkServer:
    """Handles GET and HEAD of links to the pictures of one store."""

    def __init__(self, store: ImageStore, links: PictureLinks) -> None:
        self._store = store
        self._links = links
        self._slots = asyncio.Semaphore(_MAX_REQUESTS)

    def build_application(self) -> web.Application:
        """Build the application. Links work with and without the path of their base URL.

        A proxy may strip that path.
        """
        application = web.Application()
        folder = urlsplit(self._links.base_url).path.rstrip("/")
        for path in dict.fromkeys(("/{name}", folder + "/{name}")):
            application.router.add_get(path, self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name, query = request.match_info["name"], request.query
        now = datetime.now(UTC)
        expires = query.get("expires", "")
        fault = self._links.validate(name, expires, query.get("signature", ""), now)
        if fault:
            return _respond(403, fault)
        if self._slots.locked():
            return _respond(503, "Too many downloads at once: try again in a few seconds.", retry="5")
        async with self._slots:
            try:
                picture = await self._store.find_picture(name)
                if picture is None:
                    return _respond(404, "This picture is not in the image store.")
                headers = _build_headers(name, picture, int(expires) - int(now.timestamp()))
                return await _send_picture(request, picture, headers)
            except StoreFailure as failure:
                log.warning("picture_not_served", picture=name, error=str(failure))
                return _respond(
                    503, "The image store cannot read this picture now: try again later.", retry="30"
                )


def _build_headers(name: str, picture: StoredPicture, seconds: int) -> dict[str, str]:
    return {
        **_SECURITY_HEADERS,
        "etag": f'"{picture.sha256}"',
        "cache-control": f"private, max-age={seconds}, immutable",
        "content-disposition": f'inline; filename="{name}"',
        "content-type": media_type_of_name(name) or "application/octet-stream",
    }


async def _send_picture(
    request: web.Request, picture: StoredPicture, headers: dict[str, str]
) -> web.StreamResponse:
    known = request.if_none_match or ()
    if any(tag.value in {picture.sha256, "*"} for tag in known):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = picture.size
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    pieces = picture.read_pieces()
    first = await anext(pieces, b"")  # an error here can still be reported as a status
    await response.prepare(request)
    try:
        async with asyncio.timeout(_MAX_DOWNLOAD_SECONDS):
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
    except (StoreFailure, TimeoutError) as failure:
        # The headers are sent: closing early tells the client that the body is incomplete.
        log.warning("picture_download_aborted", error=str(failure) or "too slow")
        if request.transport:
            request.transport.abort()
    return response


def _respond(status: int, sentence: str, *, retry: str | None = None) -> web.Response:
    headers = {**_SECURITY_HEADERS, "cache-control": "no-store", **({"retry-after": retry} if retry else {})}
    return web.Response(status=status, text=f"{sentence}\n", headers=headers)


@asynccontextmanager
async def serve_pictures(address: str, store: ImageStore, links: PictureLinks) -> AsyncIterator[int]:
    """Serve pictures while the block runs; yield the port.

    Raises:
        LinksUnavailable: the port is taken, or this host does not have the address.
    """
    host, _, port = address.rpartition(":")
    application = LinkServer(store, links).build_application()
    async with AsyncExitStack() as stack:
        try:
            bound = await stack.enter_async_context(listen(application, host.strip("[]"), int(port)))
        except OSError as error:
            raise LinksUnavailable(
                f"IMAGE_LINKS_ADDRESS is {address}, and pictures cannot be served there ({error.strerror})."
                " Give each worker on a host its own free port, at an address of this host."
            ) from None
        yield bound
