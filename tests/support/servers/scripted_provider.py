"""A real HTTP server that answers what a test says, and calls to send to it. No test here."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.provider.client import FilePart, ProviderCall

KEY = "sk-proj-0123456789abcdefghijklmnop"
OK = b'{"data": [{"b64_json": "QUJD"}]}'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    """One HTTP request as it arrived; `parts` are (name, file name, content type, data) of a multipart body."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    peer: tuple[str, int]
    body: Any = None
    parts: list[tuple[str, str | None, str | None, bytes]] = field(default_factory=list)


@dataclass
class ScriptedProvider:
    """An HTTP server whose every request is answered by `handler`."""

    url: str = ""
    handler: Handler | None = None
    received: list[Received] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Note the request, then let the test's handler answer."""
        self.received.append(await read(request))
        assert self.handler is not None
        return await self.handler(request)

    def answers(self, status: int = 200, body: bytes = OK, headers: dict[str, str] | None = None) -> None:
        """Answer every request the same."""

        async def handler(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=headers)

        self.handler = handler


@asynccontextmanager
async def run_scripted_provider() -> AsyncIterator[ScriptedProvider]:
    """Run a provider on a free port of loopback."""
    provider = ScriptedProvider()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", provider.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    provider.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await web.SockSite(runner, listener).start()
    yield provider
    await runner.cleanup()


async def read(request: web.Request) -> Received:
    peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
    received = Received(request.path, dict(request.query), request.headers, peer)
    if request.content_type == "application/json":
        received.body = await request.json()
    elif request.content_type == "multipart/form-data":
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            content_type = part.headers.get("Content-Type")
            received.parts.append((part.name or "", part.filename, content_type, bytes(await part.read())))
    return received


def call(**fields: Any) -> ProviderCall:
    """Make the smallest generation call, with further parameters."""
    request = ImageRequest.model_validate({"model": "gpt-image-1", "prompt": "a lighthouse", **fields})
    return ProviderCall(request=request, model="gpt-image-2", client_request_id="image:acme:req-1:1")


def edit(images: tuple[FilePart, ...], mask: FilePart | None = None, **fields: Any) -> ProviderCall:
    request = ImageRequest.model_validate(
        {"model": "gpt-image-1", "prompt": "a lighthouse", "images": ["store:a"], **fields}
    )
    return ProviderCall(
        request=request, model="gpt-image-2", images=images, mask=mask, client_request_id="image:acme:req-1:1"
    )


PNG = FilePart(data=b"\x89PNG one", media_type="image/png")
JPEG = FilePart(data=b"\xff\xd8 two", media_type="image/jpeg")
WEBP = FilePart(data=b"RIFF three", media_type="image/webp")
MASK = FilePart(data=b"\x89PNG mask", media_type="image/png")
