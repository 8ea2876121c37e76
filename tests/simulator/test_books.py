"""The books: every request in order with what was paid, in memory, over HTTP and in a file."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI

from simulator.http import StartupError
from simulator.server import Simulator


async def test_entry_records_request_usage_and_list_price(client: AsyncOpenAI, simulator: Simulator) -> None:
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


async def test_book_totals_count_only_paid_requests(client: AsyncOpenAI, simulator: Simulator) -> None:
    """Refused requests count as requests only."""
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


async def test_repeated_client_request_id_is_paid_and_marked(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    """Like the provider, the simulator does not deduplicate."""
    for client_request_id in ("a", "b", "a"):
        headers = {"X-Client-Request-Id": client_request_id, "Idempotency-Key": "same"}
        await client.images.generate(model="gpt-image-1", prompt="abcd", quality="low", extra_headers=headers)
    assert [entry.client_request_id_repeated for entry in simulator.books.entries] == [False, False, True]
    assert len(simulator.books.paid) == 3


async def test_books_file_is_continued_after_restart(tmp_path: Path) -> None:
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
def test_invalid_books_file_is_refused_with_its_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "books.jsonl"
    path.write_text(content)
    with pytest.raises(StartupError, match=r"Line 1 of .*books\.jsonl is not a valid entry of the books"):
        Simulator(books_path=path)
    assert path.read_text() == content


def test_unwritable_books_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be written to"):
        Simulator(books_path=tmp_path)


async def test_concurrent_requests_are_recorded_once_each(client: AsyncOpenAI, simulator: Simulator) -> None:
    prompts = [f"Picture {number % 3}" for number in range(20)]
    await asyncio.gather(
        *(client.images.generate(model="gpt-image-1", prompt=prompt, quality="low") for prompt in prompts)
    )
    assert len({entry.request_id for entry in simulator.books.paid}) == 20
