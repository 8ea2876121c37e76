"""Links to the pictures of real runs: in the Web UI, on the terminal, and behind them the pictures."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

import worker
from gpt_image_runs.local_stack.processes import choose_port
from gpt_image_runs.settings import Settings, SettingsError
from tests.support.runs.commands import type_command
from tests.support.servers.stack import CONTRACT, Stack, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a-secret-that-is-of-links-and-long-enough"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def linking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run a stack with links and the server behind them."""
    folder, port = tmp_path_factory.mktemp("linking"), choose_port()
    async with run_stack(
        sqlite_url(folder),
        (folder / "images").as_uri(),
        image_links_url=f"http://127.0.0.1:{port}/pictures",
        image_links_secret=SECRET,
        image_links_address=f"127.0.0.1:{port}",
    ) as stack:
        assert stack.settings.image_links_address
        async with worker.serve_links(stack.settings.image_links_address, stack.settings):
            yield stack


async def fetch(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return await response.read()


async def test_run_page_links_each_image_without_the_secret(linking: Stack) -> None:
    """The run's page in the Web UI links each picture; the link gives it, and the secret is nowhere in the history."""
    handle = await linking.start({**CONTRACT, "n": 2, "quality": "low"})
    result = await handle.result()
    page = str(await handle.query("__temporal_workflow_metadata"))
    links = re.findall(r"\]\((http://[^)]+)\), [0-9,]+ bytes", page)

    assert [await fetch(link) for link in links] == [
        await linking.store.read(image["uri"]) for image in result["images"]
    ]
    history = b"".join(event.SerializeToString() for event in await linking.events(handle.id))
    assert links[0].encode() in history
    assert SECRET.encode() not in history
    assert "links" not in result


async def test_run_without_link_settings_shows_store_references(stack: Stack) -> None:
    """Where no links are set, none is in the history, and the page shows the store's own references."""
    handle = await stack.start({**CONTRACT, "quality": "low"})
    result = await handle.result()
    page = str(await handle.query("__temporal_workflow_metadata"))
    history = b"".join(event.SerializeToString() for event in await stack.events(handle.id))

    assert f"({result['images'][0]['uri']})" in page
    assert b'"links"' not in history


async def test_links_command_makes_fresh_links(
    linking: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`links RUN` makes fresh ones at any time, in words and as JSON; without the settings it says what is missing."""
    result = await linking.run({**CONTRACT, "quality": "low"})
    missing = await type_command(linking, tmp_path, "links", result.run_id)
    monkeypatch.setenv("IMAGE_LINKS_URL", linking.settings.image_links_url or "")
    monkeypatch.setenv("IMAGE_LINKS_SECRET", SECRET)
    monkeypatch.setenv("IMAGE_LINKS_DAYS", "1")
    told = await type_command(linking, tmp_path, "links", result.run_id)
    answered = await type_command(linking, tmp_path, "links", result.run_id, "--json")
    (link,) = json.loads(answered.out)["links"]

    assert (missing.status, told.status) == (1, 0)
    assert "IMAGE_LINKS_URL" in missing.err
    assert "good until " in told.out
    shown = told.out.partition("\ngood until")[0].replace("\n", "")
    picture = await linking.store.read(result.images[0].uri)
    assert await fetch(link["url"]) == await fetch(shown) == picture
    assert link["sha256"] == result.images[0].sha256


async def test_worker_with_a_links_address_and_no_secret_does_not_start() -> None:
    """A worker that is to serve pictures and has no secret says so at its start."""
    with pytest.raises(SettingsError, match="nothing can be served there without IMAGE_LINKS_URL"):
        worker.serve_links("127.0.0.1:9465", Settings(image_links_secret=None, image_links_url="https://i"))
