"""Answers of real gateways through the whole application: what was paid for is kept, billed, and never bought again."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gpt_image_runs.billing.recovery.receipts import list_receipts_of_run, read_attempt_receipts
from gpt_image_runs.billing.verification.verify import LedgerVerification
from tests.support.files.picture_files import make_picture
from tests.support.runs.commands import type_command
from tests.support.servers.scripted_provider import ScriptedProvider, run_scripted_provider
from tests.support.servers.stack import CONTRACT, Stack, new_run_id, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPORTED = Path(__file__).parents[2] / "provider" / "reported_answers"


@dataclass(frozen=True)
class Site:
    """The application, and a provider that answers what a test says."""

    stack: Stack
    provider: ScriptedProvider

    def answer(self, name: str, status: int = 200) -> None:
        """Answer every request with a reported answer."""
        kind = "text/event-stream" if name.endswith(".sse") else "application/json"
        self.provider.received.clear()
        self.provider.answers(status, (REPORTED / name).read_bytes(), {"Content-Type": kind})

    def answer_json(self, document: Any) -> None:
        """Answer every request with this document."""
        self.provider.received.clear()
        self.provider.answers(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("reported")
    async with (
        run_scripted_provider() as provider,
        run_stack(
            sqlite_url(folder),
            (folder / "images").as_uri(),
            openai_base_url=f"{provider.url}/v1",
            image_url_hosts=f"images.example.com {provider.url.removeprefix('http://')}",
        ) as stack,
    ):
        yield Site(stack, provider)


@pytest.mark.parametrize(
    ("name", "more", "cost"),
    [
        ("02-wrapped_b64.json", {}, "0.166500"),
        ("02-trailing_nl_b64.json", {}, "0.166500"),
        ("04-data_url_b64.json", {}, "0.166500"),
        ("04-data_url_in_url.json", {}, "0.166500"),
        ("06-one_of_two_filtered.json", {"n": 2}, "0.332900"),
        ("11-st_bifrost.sse", {"partial_images": 1}, "0.166500"),
        ("11-st_chunks.sse", {"partial_images": 1}, "0.166500"),
        ("11-st_no_type.sse", {"partial_images": 1}, "0.166500"),
    ],
)
async def test_picture_is_kept_and_billed_by_one_request(
    site: Site, name: str, more: dict[str, Any], cost: str
) -> None:
    site.answer(name)
    result = await site.stack.run({**CONTRACT, **more})

    assert (len(result.images), result.billing.state, result.cost.amount_usd) == (1, "billed", cost)
    assert len(site.provider.received) == 1
    assert any("2 pictures were asked for" in warning for warning in result.warnings) == ("n" in more)


@pytest.mark.parametrize(
    ("usage", "kind", "words"),
    [
        ({"input_tokens": 10, "output_tokens": 4160}, "charge", "billed with 0.166500 USD"),
        ({"input_tokens": 10, "output_tokens": -1}, "hold", "billed as pending"),
        ({"completion_tokens": 4160}, "hold", "billed as pending"),
        ("4160 tokens", "hold", "billed as pending"),
    ],
)
async def test_usage_without_an_image_is_billed_or_held(
    site: Site, usage: Any, kind: str, words: str
) -> None:
    """Billed where it can be priced, else held with the reason: never only exposure at the ceiling."""
    site.answer_json({"data": [{"b64_json": None}], "usage": usage})
    run_id = new_run_id()
    cause = await site.stack.fail(CONTRACT, run_id=run_id)

    (entry,) = site.stack.entries(run_id)
    assert (entry.kind, entry.usage, entry.image_count) == (kind, usage, 0)
    assert (cause.type, len(site.provider.received)) == ("MalformedAnswer", 1)
    assert words in cause.message


async def test_answer_without_usage_and_picture_stays_unknown(site: Site) -> None:
    """Nothing says what was charged: no bill, and its worst case is exposure."""
    site.answer_json({"data": [{"b64_json": None}]})
    run_id = new_run_id()
    cause = await site.stack.fail(CONTRACT, run_id=run_id)

    (attempt,) = site.stack.attempts(run_id)
    assert (attempt.outcome, attempt.error_type) == ("unknown", "MalformedAnswer")
    assert site.stack.entries(run_id) == ()
    assert "It was probably charged." in cause.message


@pytest.mark.parametrize(
    ("name", "kind"), [("19-err_200.json", "RateLimited"), ("19-err_200_mod.json", "ContentRefused")]
)
async def test_error_inside_of_a_success_is_a_refusal(site: Site, name: str, kind: str) -> None:
    """Sent once, not billed and not exposed, under the name of its class."""
    site.answer(name)
    run_id = new_run_id()
    cause = await site.stack.fail(CONTRACT, run_id=run_id)

    (attempt,) = site.stack.attempts(run_id)
    assert (cause.type, attempt.error_type, attempt.outcome) == (kind, kind, "rejected")
    assert len(site.provider.received) == 1
    assert site.stack.entries(run_id) == ()
    assert "charged" not in cause.message


async def test_link_to_a_host_that_is_not_allowed_is_named_and_billed(site: Site) -> None:
    """The failure says which host, and which setting; what was used is on the bill."""
    site.answer("05-url_only.json")
    run_id = new_run_id()
    cause = await site.stack.fail(CONTRACT, run_id=run_id)

    (entry,) = site.stack.entries(run_id)
    assert (cause.type, entry.kind, entry.amount_usd) == ("MalformedAnswer", "charge", "0.166500")
    assert "data[0] has only a url, and nothing is fetched from img.example.net" in cause.message
    assert "IMAGE_URL_HOSTS" in cause.message


async def test_picture_is_fetched_from_an_allowed_host(site: Site) -> None:
    """Two of three links lead to a picture: both are kept, and the third is named in the warning."""
    picture = make_picture("PNG", (16, 16))
    usage = {"input_tokens": 10, "output_tokens": 4160}
    links = [f"{site.provider.url}/pictures/{name}.png" for name in ("a", "b", "gone")]

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response({"data": [{"url": link} for link in links], "usage": usage})
        return web.Response(status=404) if "gone" in request.path else web.Response(body=picture)

    site.provider.handler = handler
    result = await site.stack.run({**CONTRACT, "n": 3})

    assert (len(result.images), result.cost.amount_usd) == (2, "0.166500")
    assert await site.stack.store.read(result.images[0].uri) == picture
    assert f"data[2] has only a url, and {site.provider.url} answered 404" in result.warnings[0]
    (attempt,) = site.stack.attempts(result.run_id)
    assert await site.stack.store.read_document(f"malformed/{attempt.attempt_id}.body")


async def test_kept_body_that_can_be_read_by_now_becomes_a_result_and_a_bill(
    site: Site, tmp_path: Path
) -> None:
    """As after an update: a body that an older worker could not read is stored, settled and billed, once."""
    site.answer_json({"data": [{"b64_json": None}]})
    run_id = new_run_id()
    await site.stack.fail(CONTRACT, run_id=run_id)
    (unread,) = site.stack.attempts(run_id)
    key = f"malformed/{unread.attempt_id}.body"
    await site.stack.store.put_document(key, (REPORTED / "02-wrapped_b64.json").read_bytes())

    first = await type_command(site.stack, tmp_path, "recover", run_id, "--json")
    again = await type_command(site.stack, tmp_path, "recover", run_id)

    assert (first.status, again.status) == (0, 0), first.err
    assert first.document["cost"]["amount_usd"] == "0.166500"
    assert first.document["billing"]["state"] == "billed"
    (image,) = first.document["images"]
    assert image["uri"] in again.out or Path(image["uri"]).name in again.out
    (entry,) = site.stack.entries(run_id)
    assert (entry.attempt_id, entry.amount_usd, entry.image_count) == (unread.attempt_id, "0.166500", 1)
    (attempt,) = site.stack.attempts(run_id)
    assert attempt.outcome == "succeeded"
    # A ledger that is restored from an older copy gets it back from here.
    receipt_names = await list_receipts_of_run(site.stack.store, run_id)
    receipts = [receipt async for receipt in read_attempt_receipts(site.stack.store, receipt_names)]
    assert [receipt and receipt.is_paid for receipt in receipts] == [True]
    result = await site.stack.run(CONTRACT, run_id=run_id)
    assert [image.uri for image in result.images] == [image["uri"]]
    assert len(site.provider.received) == 1
    assert list(LedgerVerification(site.stack.database, lambda _done, _all: None).find()) == []


async def test_kept_body_with_usage_alone_is_billed_and_still_fails(site: Site, tmp_path: Path) -> None:
    """Exposure whose kept answer tells what was charged becomes a bill."""
    site.answer_json({"data": [{"b64_json": None}]})
    run_id = new_run_id()
    await site.stack.fail(CONTRACT, run_id=run_id)
    (unread,) = site.stack.attempts(run_id)
    key = f"malformed/{unread.attempt_id}.body"
    await site.stack.store.put_document(key, (REPORTED / "05-url_only.json").read_bytes())

    ended = await type_command(site.stack, tmp_path, "recover", run_id)

    assert ended.status == 1
    assert "nothing is fetched from img.example.net" in ended.err
    (entry,) = site.stack.entries(run_id)
    assert (entry.kind, entry.amount_usd, entry.image_count) == ("charge", "0.166500", 0)


async def test_link_is_recovered_once_its_host_is_allowed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has its bill and no picture; the picture comes later, and the run has it when it is submitted again."""
    picture = make_picture("PNG", (16, 16))
    place = site.provider.url.replace("127.0.0.1", "localhost")
    usage = {"input_tokens": 10, "output_tokens": 4160}

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response({"data": [{"url": f"{place}/a.png"}], "usage": usage})
        return web.Response(body=picture)

    site.provider.handler = handler
    run_id = new_run_id()
    cause = await site.stack.fail(CONTRACT, run_id=run_id)
    assert "nothing is fetched from localhost" in cause.message
    monkeypatch.setenv("OPENAI_BASE_URL", f"{place}/v1")
    monkeypatch.setenv("IMAGE_URL_HOSTS", place.removeprefix("http://"))
    ended = await type_command(site.stack, tmp_path, "recover", run_id, "--json")

    assert ended.status == 0, ended.err
    (image,) = ended.document["images"]
    assert await site.stack.store.read(image["uri"]) == picture
    site.provider.received.clear()
    result = await site.stack.run(CONTRACT, run_id=run_id)
    assert [image.uri for image in result.images] == [image["uri"]]
    assert (result.cost.amount_usd, result.warnings) == ("0.166500", ())
    assert site.provider.received == []
    assert len(site.stack.entries(run_id)) == 1


async def test_recovery_without_kept_answers_changes_nothing(site: Site, tmp_path: Path) -> None:
    site.answer("02-wrapped_b64.json")
    result = await site.stack.run(CONTRACT)

    ended = await type_command(site.stack, tmp_path, "recover", result.run_id)
    nobody = await type_command(site.stack, tmp_path, "recover", "image:default:nobody")
    unnamed = await type_command(site.stack, tmp_path, "recover")

    assert (ended.status, nobody.status, unnamed.status) == (1, 1, 2)
    assert "No unusable response to the run" in ended.err
    assert "does not know the run image:default:nobody" in nobody.err
