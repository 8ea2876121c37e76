"""The link server over real HTTP, on a local store and on S3."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.images import link_server
from gpt_image_runs.images import link_server as link_connections
from gpt_image_runs.images import signed_links as picture_links
from gpt_image_runs.images.link_server import LinksUnavailable, serve_pictures
from gpt_image_runs.images.signed_links import PictureLinks
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.processes import choose_port
from tests.support.files.picture_files import make_picture

SECRET = "s" * 32


class Site:
    """A store whose pictures are served, and a client."""

    def __init__(self, store: ImageStore, links: PictureLinks, session: aiohttp.ClientSession) -> None:
        self.store = store
        self.links = links
        self.session = session

    def link(self, image: ImageRef, *, days: int = 7) -> str:
        """Create a link that expires in `days` days."""
        made = replace(self.links, life=timedelta(days=days))
        return made.make(image, datetime.now(UTC)).url

    async def get(
        self, url: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        async with self.session.request(method, url, headers=headers) as response:
            told = {name.lower(): value for name, value in response.headers.items()}
            return response.status, await response.read(), told


@pytest_asyncio.fixture
async def site(store: ImageStore) -> AsyncIterator[Site]:
    port = choose_port()
    links = PictureLinks(f"http://127.0.0.1:{port}/pictures", (SECRET,), timedelta(days=7))
    async with serve_pictures(f"127.0.0.1:{port}", store, links), aiohttp.ClientSession() as session:
        yield Site(store, links, session)


@pytest.mark.parametrize(
    ("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
async def test_link_serves_the_stored_picture_with_its_type_and_cache_time(
    site: Site, kind: str, media_type: str
) -> None:
    data = make_picture(kind, (31, 17))
    image = await site.store.put_image(data)
    status, body, headers = await site.get(site.link(image))

    assert (status, body, headers["content-type"]) == (200, data, media_type)
    assert headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert headers["content-disposition"].startswith(f'inline; filename="{image.sha256}.')
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    cached, age, _ = headers["cache-control"].replace("max-age=", "").split(", ")
    assert cached == "private"
    assert 6.9 * 86_400 < int(age) <= 7 * 86_400


async def test_large_picture_is_complete_and_supports_head_and_etag(site: Site) -> None:
    data = make_picture("PNG", (2000, 1500), compress_level=0)
    url = site.link(await site.store.put_image(data))

    assert (await site.get(url))[:2] == (200, data)
    status, body, headers = await site.get(url, "HEAD")
    assert (status, body, int(headers["content-length"])) == (200, b"", len(data))
    status, body, again = await site.get(url, headers={"if-none-match": headers["etag"]})
    assert (status, body, again["etag"]) == (304, b"", headers["etag"])


async def test_link_works_with_and_without_the_path_of_the_base_url(site: Site) -> None:
    """A proxy may strip the path."""
    image = await site.store.put_image(make_picture("PNG", (8, 6)))
    url = site.link(image)
    assert (await site.get(url))[0] == (await site.get(url.replace("/pictures/", "/")))[0] == 200


async def test_changed_expired_and_missing_links_are_refused_uncached(site: Site) -> None:
    image = await site.store.put_image(make_picture("PNG", (8, 6)))
    absent = image.model_copy(update={"sha256": "00" * 32})
    url = site.link(image)
    answers = [
        await site.get(asked)
        for asked in (
            url[:-1] + ("A" if url[-1] != "A" else "B"),
            url.replace(image.sha256, "00" * 32),
            url.partition("?")[0],
            site.link(image, days=-1),
            site.link(absent),
        )
    ]

    assert [status for status, _, _ in answers] == [403, 403, 403, 403, 404]
    assert b"This link is incomplete or was changed" in answers[0][1]
    assert b"This link has expired" in answers[3][1]
    assert answers[4][1] == b"This picture is not in the image store.\n"
    assert {headers["cache-control"] for _, _, headers in answers} == {"no-store"}
    assert {headers["x-content-type-options"] for _, _, headers in answers} == {"nosniff"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(site: Site, method: str) -> None:
    image = await site.store.put_image(make_picture("PNG", (8, 6)))
    status, _, headers = await site.get(site.link(image), method)
    assert (status, headers["allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "documents/receipts/att_1.json",
        "sha256/00/x.png",
        "%2e%2e%2fledger.db",
        "..%5c..%5cx",
        "a.png",
        "0" * 64,
        "0" * 64 + ".txt",
    ],
)
async def test_other_objects_are_not_served_even_with_a_valid_signature(site: Site, path: str) -> None:
    await site.store.put_document("receipts/att_1.json", b"{}")
    signature = picture_links._sign(SECRET, path, "2000000000").decode()
    host = urlsplit(site.links.base_url).netloc
    status, body, _ = await site.get(f"http://{host}/{path}?expires=2000000000&signature={signature}")
    assert status in {403, 404}
    assert b"{}" not in body


async def test_damaged_picture_is_never_served_completely(local_store: ImageStore) -> None:
    """A small one is a 503; of a large one the end is missing."""
    port = choose_port()
    links = PictureLinks(f"http://127.0.0.1:{port}", (SECRET,), timedelta(days=7))
    async with serve_pictures(f"127.0.0.1:{port}", local_store, links), aiohttp.ClientSession() as session:
        site = Site(local_store, links, session)
        for size, compress_level in (((8, 6), 6), ((2000, 1500), 0)):
            image = await local_store.put_image(make_picture("PNG", size, compress_level=compress_level))
            path = local_store.local_path(image.uri)
            assert path
            data = bytearray(path.read_bytes())
            data[-20] ^= 1
            path.chmod(0o600)
            path.write_bytes(data)
            if image.bytes < 1_000_000:
                assert (await site.get(site.link(image)))[0] == 503
            else:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await site.get(site.link(image))


async def test_downloads_above_the_limit_get_503_and_succeed_later(
    local_store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "_MAX_REQUESTS", 1)
    port = choose_port()
    links = PictureLinks(f"http://127.0.0.1:{port}", (SECRET,), timedelta(days=7))
    large = make_picture("PNG", (4000, 3000), compress_level=0)  # more than the sockets' buffers hold
    async with serve_pictures(f"127.0.0.1:{port}", local_store, links), aiohttp.ClientSession() as session:
        site = Site(local_store, links, session)
        url = site.link(await local_store.put_image(large))
        async with session.get(url) as slow:
            status, body, headers = await site.get(url)
            assert (status, headers["retry-after"]) == (503, "5")
            assert b"Too many downloads" in body
            assert await slow.read() == large
        async with asyncio.timeout(60):
            while (await site.get(url))[0] != 200:
                await asyncio.sleep(0.02)


async def test_idle_connection_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connections, "_IDLE_SECONDS", 0.2)
    port = choose_port()
    async with serve_pictures(f"127.0.0.1:{port}", site.store, site.links), asyncio.timeout(60):
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            await reader.read()  # to its end
            writer.close()


async def test_connections_above_the_limit_are_closed(
    local_store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_connections, "_MAX_CONNECTIONS", 2)
    port = choose_port()
    links = PictureLinks(f"http://127.0.0.1:{port}", (SECRET,), timedelta(days=7))
    async with (
        serve_pictures(f"127.0.0.1:{port}", local_store, links),
        aiohttp.ClientSession() as session,
        asyncio.timeout(60),
    ):
        site = Site(local_store, links, session)
        url = site.link(await local_store.put_image(make_picture("PNG", (8, 6))))
        taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        with pytest.raises(aiohttp.ClientConnectionError):
            await site.get(url)
        taken[0][1].close()
        while True:
            try:
                assert (await site.get(url))[0] == 200
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)
        taken[1][1].close()


async def test_input_that_is_not_http_gets_400_and_is_not_logged(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(site.links.base_url)
    for sent in (b"\0\1\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(sent)
        assert b" 400 " in await reader.readline()
        writer.close()
    assert not caplog.records


async def test_unavailable_store_is_a_503_without_its_name(local_store: ImageStore, tmp_path: Path) -> None:
    port = choose_port()
    links = PictureLinks(f"http://127.0.0.1:{port}", (SECRET,), timedelta(days=7))
    async with serve_pictures(f"127.0.0.1:{port}", local_store, links), aiohttp.ClientSession() as session:
        site = Site(local_store, links, session)
        url = site.link(await local_store.put_image(make_picture("PNG", (8, 6))))
        (tmp_path / "store").rename(tmp_path / "away")
        (tmp_path / "store").mkdir()
        status, body, _ = await site.get(url)
    assert status == 503
    assert str(tmp_path).encode() not in body


async def test_taken_port_is_reported_with_its_setting(local_store: ImageStore) -> None:
    address = f"127.0.0.1:{choose_port()}"
    links = PictureLinks("http://x", (SECRET,), timedelta(days=7))
    async with serve_pictures(address, local_store, links):
        with pytest.raises(LinksUnavailable, match=f"IMAGE_LINKS_ADDRESS is {address}, and"):
            async with serve_pictures(address, local_store, links):
                pass
