"""Connections that read a response which arrives before the request was sent completely.

A provider that refuses an edit (429, 413, 401) responds while megabytes of images are still being sent, and closes the
connection. The transport's own connections lose such a response: they do not read while they write, and a failed write closes
the socket with the unread response. A refusal that costs nothing would then look like a lost response that may have been
charged.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import httpcore2
import httpx2

# ruff: noqa: ASYNC109 - the transport's own interface has these parameters


_CUT_SHORT = "upload_cut_short"
# Of a large body so much is written at once: TLS holds a copy of it, and an answer is looked for in between.
_PIECE = 256 * 1024
# What is written in smaller pieces (headers, a prompt) fits into the socket, whoever reads it.
_SMALL = 16 * 1024
_AHEAD = 64 * 1024
_HAPPY_EYEBALLS_SECONDS = 0.25
_REFUSAL = re.compile(rb"HTTP/1\.[01] [345]\d\d ")


def read_early_answers(client: httpx2.AsyncClient) -> None:
    """Make a client use these connections, through proxies too. It must not have connected yet."""
    backend = _Backend()
    # httpcore2 takes a backend, and httpx2 hands none on.
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
        if isinstance(transport, httpx2.AsyncHTTPTransport):
            transport._pool._network_backend = backend  # noqa: SLF001


def was_cut_short(response: httpx2.Response) -> bool:
    """Return whether a response came before its request was sent completely: then the request was not processed."""
    stream = response.extensions.get("network_stream")
    return stream is not None and stream.get_extra_info(_CUT_SHORT) is True


class _Layer(Protocol):
    async def send(self, data: memoryview) -> None: ...

    async def receive(self, max_bytes: int) -> bytes:
        """Return at least one byte, or none at the end."""
        ...


class _Socket:
    """A connected socket. After a failed write, data that was received before can still be read."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self._loop = asyncio.get_running_loop()

    async def send(self, data: memoryview) -> None:
        while data:
            try:
                sent = self.plain.send(data)
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)
            else:
                data = data[sent:]

    async def receive(self, max_bytes: int) -> bytes:
        while True:
            # Nothing is awaited after it: a cancellation loses no bytes.
            with contextlib.suppress(BlockingIOError):
                return self.plain.recv(max_bytes)
            await self._wait(self._loop.add_reader, self._loop.remove_reader)

    async def _wait(self, watch: Callable[..., Any], unwatch: Callable[[int], Any]) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        descriptor = self.plain.fileno()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        watch(descriptor, wake)
        try:
            await ready
        finally:
            unwatch(descriptor)


class _Tls:
    """TLS on top of another layer."""

    def __init__(self, below: _Layer, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._flushing = asyncio.Lock()
        self.engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    async def shake_hands(self) -> None:
        await self._run(self.engine.do_handshake)

    async def send(self, data: memoryview) -> None:
        while data:
            data = data[await self._run(self.engine.write, data) :]

    async def receive(self, max_bytes: int) -> bytes:
        try:
            received: bytes = await self._run(self.engine.read, max_bytes)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # many servers close without a word
            return b""
        return received

    async def _run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._below.receive(_AHEAD)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        async with self._flushing:  # in the order in which it was encrypted
            if self._outgoing.pending:
                await self._below.send(memoryview(self._outgoing.read()))


class _Connection(httpcore2.AsyncNetworkStream):
    """A connection that checks for a response while it writes."""

    def __init__(self, layer: _Layer, plain: socket.socket, engine: ssl.SSLObject | None = None) -> None:
        self._layer = layer
        self._plain = plain
        self._engine = engine
        self._cut_short = False
        self._reading: asyncio.Task[bytes] | None = None
        self._ahead = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return received bytes, none at the end."""
        with _mapped(httpcore2.ReadTimeout, httpcore2.ReadError):
            async with asyncio.timeout(timeout):
                if self._reading:
                    await asyncio.wait({self._reading})
                    reading, self._reading = self._reading, None
                    self._ahead = reading.result()
                    if not self._ahead:
                        return b""
                if self._ahead:
                    data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
                    return data
                return await self._layer.receive(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything, unless the peer refuses the request or closes the connection first: then its response can be read."""
        with _mapped(httpcore2.WriteTimeout, httpcore2.WriteError):
            async with asyncio.timeout(timeout):
                view = memoryview(buffer)
                try:
                    for start in range(0, len(view), _PIECE):
                        await self._write(view[start : start + _PIECE])
                except OSError:
                    self._cut_short = True
                    raise

    async def _write(self, piece: memoryview) -> None:
        if len(piece) < _SMALL and not self._reading:
            await self._layer.send(piece)
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._layer.receive(_AHEAD))
        self._stop_if_refused()
        sending = asyncio.create_task(self._layer.send(piece))
        try:
            await asyncio.wait({sending, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self._stop_if_refused()
            await sending
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait({sending})
            if not sending.cancelled():
                sending.exception()  # looked at, so that nobody complains

    def _stop_if_refused(self) -> None:
        if self._is_refused():
            raise ConnectionAbortedError("The answer came before the request was sent whole.")

    def _is_refused(self) -> bool:
        """Return whether the peer has refused the request or closed the connection. Interim (1xx) responses do not count."""
        if not self._reading or not self._reading.done():
            return False
        if self._reading.cancelled() or self._reading.exception():
            return True
        received = self._reading.result()
        return not received or _REFUSAL.match(received) is not None

    async def aclose(self) -> None:
        """Close the connection."""
        if self._reading:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.exception()  # looked at, so that nobody complains
        self._plain.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Return a connection with TLS on top of this one."""
        tls = _Tls(self._layer, ssl_context, server_hostname)
        try:
            with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                async with asyncio.timeout(timeout):
                    await tls.shake_hands()
        except BaseException:
            await self.aclose()
            raise
        return _Connection(tls, self._plain, tls.engine)

    def get_extra_info(self, info: str) -> Any:
        """Return the transport's standard information, and whether a request was cut short."""
        match info:
            case "ssl_object":
                return self._engine
            case "socket":
                return self._plain
            case "client_addr":
                return self._plain.getsockname()
            case "server_addr":
                return self._plain.getpeername()
            case name if name == _CUT_SHORT:
                return self._cut_short
        return None


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connects as the transport's own backend does."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to whichever of the host's addresses answers first."""
        with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            async with asyncio.timeout(timeout):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol,
                    host,
                    port,
                    local_addr=(local_address, 0) if local_address else None,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
                )
            # The transport closes its socket where a write fails, whatever was received: it is taken from it here.
            plain = transport.get_extra_info("socket").dup()
            transport.abort()
            plain.setblocking(False)
            for option in socket_options or ():
                plain.setsockopt(*option)
        return _Connection(_Socket(plain), plain)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@contextlib.contextmanager
def _mapped(on_timeout: type[Exception], on_error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise on_timeout(error) from error
    except OSError as error:
        raise on_error(error) from error
