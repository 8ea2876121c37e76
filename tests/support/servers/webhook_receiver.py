"""A receiver of webhooks behind real HTTP on loopback, which answers as it is told and keeps what it got."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_SECRET = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers 204, or first what `answers` holds: statuses, whole responses, or functions."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    answers: deque[int | web.Response | Answer] = field(default_factory=deque)

    @property
    def host(self) -> str:
        """What the setting NOTIFY_HOSTS has to hold."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it listens, with a token in the path."""
        return f"http://{self.host}/hook?token=t"

    def settings(self) -> dict[str, Any]:
        """What a stack has to be run with so that it may tell this receiver, signed with two secrets."""
        return {
            "notify_hosts": f"{self.host} hooks.example.com",
            "notify_secrets": f"{SECRET} {OTHER_SECRET}",
            "notify_loopback": True,
        }

    async def until(self, count: int, seconds: float = 60) -> list[Received]:
        """Wait for this many requests."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                await asyncio.sleep(0.02)
        return self.received

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path_qs, headers, await request.read()))
        answer = self.answers.popleft() if self.answers else 204
        if isinstance(answer, int):
            return web.Response(status=answer)
        return answer if isinstance(answer, web.Response) else await answer(request)


@asynccontextmanager
async def run_receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port, by HTTPS where a context is given."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver._take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
