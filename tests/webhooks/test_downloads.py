"""Fetching a file by an untrusted URL over real HTTP: allowed hosts, and limits."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from gpt_image_runs.webhooks import downloads
from gpt_image_runs.webhooks.allowlist import Destinations
from gpt_image_runs.webhooks.downloads import Downloader, DownloadFailed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A server with scripted responses. `paths` and `headers` record its requests."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[web.Response] = []
        self.requests: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return self.answers.pop(0)


class LeadsTo(AbstractResolver):
    """A resolver that resolves every name to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, _: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def hosts(text: str | None) -> Destinations:
    return Destinations.read(text, signed=True, loopback=False, setting="IMAGE_URL_HOSTS")


def own(server: Server, max_bytes: int = 1_000) -> Downloader:
    """Build a downloader of a deployment whose provider is this server."""
    allowed = hosts(server.url.removeprefix("http://"))
    return Downloader(allowed, [f"{server.url}/v1"], max_bytes=max_bytes)


async def fail(downloader: Downloader, url: str) -> str:
    with pytest.raises(DownloadFailed) as caught:
        await downloader.fetch(url)
    return str(caught.value)


async def test_file_of_the_providers_own_host_is_fetched_without_credentials(server: Server) -> None:
    server.answers = [web.Response(body=b"a picture")]
    assert await own(server).fetch(f"{server.url}/generated/a.png?sig=1") == b"a picture"
    (request,) = server.requests
    assert request.path_qs == "/generated/a.png?sig=1"
    assert not {"Authorization", "Cookie"} & set(request.headers)


@pytest.mark.parametrize("setting", [None, "img.example.com", "127.0.0.1:1"])
async def test_download_from_a_host_outside_the_setting_is_refused(
    server: Server, setting: str | None
) -> None:
    """Not even from the provider's own host. The message names the setting."""
    message = await fail(Downloader(hosts(setting), [f"{server.url}/v1"]), f"{server.url}/secret.png")
    assert server.url.removeprefix("http://") in message
    assert "IMAGE_URL_HOSTS" in message
    assert "secret" not in message
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://img.example.com/a.png", "an https address"),
        ("https://img.example.com:8443/a.png", "IMAGE_URL_HOSTS"),
        ("https://127.0.0.1/a.png", "a public address, and this one is loopback"),
        ("https://img.example.com/a.png", "resolves to 10.0.0.7, which is not a public address (private)"),
        ("https://user:word@img.example.com/a.png", "not a valid http or https URL"),
        ("file:///etc/passwd", "not a valid http or https URL"),
        ("/a.png", "not a valid http or https URL"),
        ("https://[::1", "not a valid URL"),
        ("https://img.example.com:99999/a.png", "not a valid URL"),
    ],
)
async def test_disallowed_url_is_refused(url: str, words: str) -> None:
    downloader = Downloader(hosts("img.example.com 127.0.0.1"), resolver=LeadsTo("10.0.0.7"))
    assert words in await fail(downloader, url)


async def test_redirect_is_not_followed(server: Server) -> None:
    server.answers = [web.Response(status=302, headers={"Location": f"{server.url}/b.png"})]
    assert "answered 302" in await fail(own(server), f"{server.url}/a.png")
    assert len(server.requests) == 1


async def test_too_large_and_compressed_files_are_refused(server: Server) -> None:
    server.answers = [
        web.Response(body=b"x" * 11),
        web.Response(body=b"x", headers={"Content-Encoding": "gzip"}),
    ]
    assert "sent more than 10 bytes" in await fail(own(server, max_bytes=10), f"{server.url}/a.png")
    assert "compressed" in await fail(own(server), f"{server.url}/a.png")


async def test_temporary_error_is_retried_a_few_times(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_PAUSES_SECONDS", (0.0, 0.0))
    server.answers = [web.Response(status=503), web.Response(status=429), web.Response(body=b"a picture")]
    assert await own(server).fetch(f"{server.url}/a.png") == b"a picture"
    server.answers = [web.Response(status=503) for _ in range(3)]
    assert "answered 503" in await fail(own(server), f"{server.url}/a.png")
    server.answers = [web.Response(status=404)]
    assert "answered 404" in await fail(own(server), f"{server.url}/a.png")
    assert server.answers == []
