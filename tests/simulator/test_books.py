"""The books: every request, in order, with what was paid; in memory, over HTTP and in a file that outlives a restart."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI

from simulator.http import StartupError
from simulator.server import Simulator


async def test_entry_tells_what_was_asked_and_paid(client: AsyncOpenAI, simulator: Simulator) -> None:
    """A paid request is an entry with the client's id, the effective options, true usage and the list price."""
    await client.images.generate(
        model="gpt-image-1", prompt="abcd", n=2, size="auto", extra_headers={"X-Client-Request-Id": "run-1:1"}
    )
    [entry] = simulator.books.entries
    assert entry.model_dump(exclude={"time", "request_id", "api_key_id"}) == {
        "project_id": "proj_simulator",
        "client_request_id": "run-1:1",
        "client_request_id_repeated": False,
        "endpoint": "generations",
        "model": "gpt-image-1",
        "size": "1024x1024",
        "quality": "medium",
        "n": 2,
        "partial_images": None,
        "prompt_sha256": hashlib.sha256(b"abcd").hexdigest(),
        "fault": None,
        "paid": True,
        "status": 200,
        "error_code": None,
        "usage": {
            "input_tokens": 14,
            "input_tokens_details": {"text_tokens": 14, "image_tokens": 0},
            "output_tokens": 2112,
            "total_tokens": 2126,
        },
        "list_price_micro_usd": 84_550,  # 14 * 5 + 2112 * 40
        "batch_id": None,
        "custom_id": None,
    }


async def test_books_over_http_with_totals(client: AsyncOpenAI, simulator: Simulator) -> None:
    """The totals count what was paid: pictures, tokens, micro-USD; refused requests count as requests only."""
    await client.images.generate(model="gpt-image-1", prompt="abcd", n=2, quality="low")
    await client.images.generate(model="gpt-image-1-mini", prompt="abcd", quality="low")
    with pytest.raises(APIStatusError):
        await client.images.generate(model="gpt-image-1", prompt="[simulate:overloaded]")
    async with httpx2.AsyncClient() as http:
        shown = (await http.get(f"{simulator.base_url.removesuffix('/v1')}/_simulator/books")).json()
    assert shown["totals"] == {
        "requests": 3,
        "paid": 2,
        "images": 3,
        "input_tokens": 21,
        "output_tokens": 816,
        "list_price_micro_usd": 21_830 + 2_190,  # two pictures at 35 + 10,880, one at 14 + 2,176
    }
    assert shown["in_progress"] == 0
    assert [entry["status"] for entry in shown["entries"]] == [200, 200, 503]
    assert [entry["request_id"] for entry in shown["entries"]] == [
        entry.request_id for entry in simulator.books.entries
    ]


async def test_repeated_client_request_id_is_noted(client: AsyncOpenAI, simulator: Simulator) -> None:
    """A second request with the same client id is carried out, paid, and marked: the provider does not deduplicate."""
    for client_request_id in ("a", "b", "a"):
        headers = {"X-Client-Request-Id": client_request_id, "Idempotency-Key": "same"}
        await client.images.generate(model="gpt-image-1", prompt="abcd", quality="low", extra_headers=headers)
    assert [entry.client_request_id_repeated for entry in simulator.books.entries] == [False, False, True]
    assert len(simulator.books.paid) == 3


async def test_books_survive_a_restart(tmp_path: Path) -> None:
    """A simulator that is started on the same file goes on in the same books."""
    path = tmp_path / "new" / "books.jsonl"

    async def generate_once() -> tuple[Any, ...]:
        async with Simulator(books_path=path) as simulator:
            async with AsyncOpenAI(base_url=simulator.base_url, api_key="a", max_retries=0) as client:
                headers = {"X-Client-Request-Id": "run-1:1"}
                await client.images.generate(
                    model="gpt-image-1", prompt="abcd", quality="low", extra_headers=headers
                )
            return simulator.books.entries

    [before] = await generate_once()
    again, after = await generate_once()
    assert again == before
    assert (before.client_request_id_repeated, after.client_request_id_repeated) == (False, True)
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("content", ["not json\n", '{"request_id": "req_1"}\n'])
def test_file_that_holds_no_books(tmp_path: Path, content: str) -> None:
    """A file with something else in it is not written on: the sentence names the line and the file."""
    path = tmp_path / "books.jsonl"
    path.write_text(content)
    with pytest.raises(StartupError, match=r"Line 1 of .*books\.jsonl is no entry of the books"):
        Simulator(books_path=path)
    assert path.read_text() == content


def test_books_that_cannot_be_kept(tmp_path: Path) -> None:
    """A path that cannot be written is refused before anything is paid."""
    with pytest.raises(StartupError, match="cannot be kept in"):
        Simulator(books_path=tmp_path)


async def test_many_requests_at_once(client: AsyncOpenAI, simulator: Simulator) -> None:
    """Twenty requests at once are twenty entries with twenty ids."""
    prompts = [f"Picture {number % 3}" for number in range(20)]
    await asyncio.gather(
        *(client.images.generate(model="gpt-image-1", prompt=prompt, quality="low") for prompt in prompts)
    )
    assert len({entry.request_id for entry in simulator.books.paid}) == 20
