"""The endpoint behind links to pictures: read-only, one picture at a time, and nothing else of the store.

Speaks HTTP; HTTPS is for what stands before it.
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


_MAX_CONNECTIONS = 256
"""A quarter of the open files that most systems allow a process. One more is hung up on."""
_SILENT_SECONDS = 20
"""For a whole request to come, the first of a connection as well as the next one."""


class _HungUp(asyncio.Protocol):
    """A connection for which there is no place."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


@asynccontextmanager
async def listen(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Answers until the end of the block; gives the port.

    Raises:
        OSError: another program has the port, or the address is none of this host.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_make_logger(),
        shutdown_timeout=5,
        keepalive_timeout=_SILENT_SECONDS,
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
    return _HungUp() if server is None or len(server.connections) >= _MAX_CONNECTIONS else server()


def _make_logger() -> logging.Logger:
    logger = logging.getLogger("link_server.http")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    """Whoever sends what is no HTTP gets a 400; with a traceback for each, anybody could fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_MAX_REQUESTS = 64
"""Downloads, each with some megabytes of memory at most. More are asked to come back."""
_MAX_SECONDS = 600
"""For one download: whoever is slower than this holds a place that others need."""
_SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}


class LinksUnavailable(Exception):
    """Pictures cannot be served where IMAGE_LINKS_ADDRESS says, as a sentence that says what to do."""


class LinkServer:
    """Answers GET and HEAD of links to the pictures of one store."""

    def __init__(self, store: ImageStore, links: PictureLinks) -> None:
        self._store = store
        self._links = links
        self._places = asyncio.Semaphore(_MAX_REQUESTS)

    def make_application(self) -> web.Application:
        """The application: links lie below the path of their base URL, also where a proxy has taken that away."""
        application = web.Application()
        folder = urlsplit(self._links.base_url).path.rstrip("/")
        for path in dict.fromkeys(("/{name}", folder + "/{name}")):
            application.router.add_get(path, self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name, query = request.match_info["name"], request.query
        now = datetime.now(UTC)
        expires = query.get("expires", "")
        fault = self._links.find_fault(name, expires, query.get("signature", ""), now)
        if fault:
            return _say(403, fault)
        if self._places.locked():
            return _say(503, "Too many pictures are being looked at: try again in a few seconds.", retry="5")
        async with self._places:
            try:
                picture = await self._store.find_picture(name)
                if picture is None:
                    return _say(404, "This picture is not in the image store.")
                headers = _describe(name, picture, int(expires) - int(now.timestamp()))
                return await _give(request, picture, headers)
            except StoreFailure as failure:
                log.warning("A picture could not be served.", picture=name, error=str(failure))
                return _say(
                    503, "The image store does not give this picture now: try again later.", retry="30"
                )


def _describe(name: str, picture: StoredPicture, seconds: int) -> dict[str, str]:
    return {
        **_SAFE,
        "etag": f'"{picture.sha256}"',
        "cache-control": f"private, max-age={seconds}, immutable",
        "content-disposition": f'inline; filename="{name}"',
        "content-type": media_type_of_name(name) or "application/octet-stream",
    }


async def _give(request: web.Request, picture: StoredPicture, headers: dict[str, str]) -> web.StreamResponse:
    known = request.if_none_match or ()
    if any(tag.value in {picture.sha256, "*"} for tag in known):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = picture.size
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    pieces = picture.read_pieces()
    first = await anext(pieces, b"")  # what fails now can still be told
    await response.prepare(request)
    try:
        async with asyncio.timeout(_MAX_SECONDS):
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
    except (StoreFailure, TimeoutError) as failure:
        # Less than was promised has been sent: the connection's end tells that it is not whole.
        log.warning("A picture was not served to its end.", error=str(failure) or "too slow")
        if request.transport:
            request.transport.abort()
    return response


def _say(status: int, sentence: str, *, retry: str | None = None) -> web.Response:
    headers = {**_SAFE, "cache-control": "no-store", **({"retry-after": retry} if retry else {})}
    return web.Response(status=status, text=f"{sentence}\n", headers=headers)


@asynccontextmanager
async def serve_pictures(address: str, store: ImageStore, links: PictureLinks) -> AsyncIterator[int]:
    """Serves until the end of the block; gives the port.

    Raises:
        LinksUnavailable: another program has the port, or the address is none of this host.
    """
    host, _, port = address.rpartition(":")
    application = LinkServer(store, links).make_application()
    async with AsyncExitStack() as stack:
        try:
            bound = await stack.enter_async_context(listen(application, host.strip("[]"), int(port)))
        except OSError as error:
            raise LinksUnavailable(
                f"IMAGE_LINKS_ADDRESS is {address}, and pictures cannot be served there ({error.strerror})."
                " Each worker on a host needs a free port of its own, at an address of this host."
            ) from None
        yield bound
