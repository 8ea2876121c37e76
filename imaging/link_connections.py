"""The connections of the endpoint behind links: so many at once, and each with so long to ask for something.

They are open files of a worker, which needs its own for what is paid.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

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
