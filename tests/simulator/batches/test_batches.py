"""The simulator's batches: strict validation, unordered results, half price, and steps only on request."""

import base64
import json
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, AsyncOpenAI, BadRequestError, NotFoundError
from openai.types import Batch

from simulator.batches.faults import BatchFaultKind
from simulator.server import Simulator
from tests.simulator.conftest import MakePicture

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
BODY = {"model": "gpt-image-1", "prompt": "A cup", "size": "1024x1024", "quality": "low"}


def line(custom_id: str, url: str = GENERATIONS, **changed: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {**BODY, **changed}}


async def upload(client: AsyncOpenAI, *lines: Any) -> str:
    content = b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines
    )
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    return file.id


async def create(client: AsyncOpenAI, *lines: Any, url: str = GENERATIONS, **more: Any) -> Batch:
    file_id = await upload(client, *lines)
    return await client.batches.create(
        input_file_id=file_id,
        endpoint=url,  # type: ignore[arg-type]  # one of the two
        completion_window="24h",
        **more,
    )


async def read(client: AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
    """Return the lines of a result file by custom_id, in the file's order."""
    if file_id is None:
        return {}
    content = (await client.files.content(file_id)).content
    lines = [json.loads(each) for each in content.splitlines()]
    return {each["custom_id"]: each for each in lines}


async def test_batch_advances_through_its_states_step_by_step(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    created = await create(client, *(line(f"run-{index}") for index in range(3)))
    [batch] = simulator.batches.all
    seen = [created.status]
    for _ in range(2):
        assert (await client.batches.retrieve(created.id)).status == seen[-1]
        await simulator.batches.advance(batch, lines=2)
        seen.append((await client.batches.retrieve(created.id)).status)
    counts = (await client.batches.retrieve(created.id)).request_counts
    assert counts is not None
    assert (seen, counts.completed, counts.total) == (["validating", "in_progress", "in_progress"], 2, 3)

    await simulator.batches.finish(batch)
    done = await client.batches.retrieve(created.id)
    assert (done.status, done.error_file_id, done.model) == ("completed", None, "gpt-image-1")
    assert done.created_at <= (done.in_progress_at or 0) <= (done.completed_at or 0) < (done.expires_at or 0)
    assert done.usage is not None
    assert done.usage.output_tokens == 3 * 272


async def test_batch_results_are_unordered_with_their_own_usage(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    ids = [f"run-{index}" for index in range(8)]
    created = await create(client, *(line(custom_id) for custom_id in ids))
    await simulator.batches.finish(simulator.batches.all[0])

    done = await client.batches.retrieve(created.id)
    results = await read(client, done.output_file_id)
    assert sorted(results) == ids != list(results)
    for result in results.values():
        assert (result["error"], result["response"]["status_code"]) == (None, 200)
        body = result["response"]["body"]
        assert base64.b64decode(body["data"][0]["b64_json"]).startswith(b"\x89PNG")
        assert body["usage"]["output_tokens"] == 272


async def test_batch_line_costs_half_in_books_and_costs(client: AsyncOpenAI, simulator: Simulator) -> None:
    """272 tokens at 20, 8 at 2.50, exact to the micro-USD."""
    await client.images.generate(**BODY)  # type: ignore[call-overload]  # as the lines have it
    await create(client, line("run-1"))
    await simulator.batches.finish(simulator.batches.all[0])

    alone, in_batch = simulator.books.paid
    assert alone.list_price_micro_usd == 272 * 40 + 8 * 5
    assert in_batch.list_price_micro_usd == 272 * 20 + 8 * 5 // 2
    assert (in_batch.custom_id, in_batch.batch_id) == ("run-1", simulator.batches.all[0].batch_id)
    assert in_batch.usage == alone.usage
    async with httpx2.AsyncClient(headers={"Authorization": "Bearer sk-admin-1"}) as admin:
        answer = await admin.get(
            f"{simulator.base_url}/organization/costs",
            params={"start_time": int(alone.time.timestamp()) - 90_000, "group_by": "line_item"},
        )
    lines = {
        result["line_item"]: result["amount"]["value"]
        for bucket in answer.json()["data"]
        for result in bucket["results"]
    }
    assert lines["gpt-image-1, image_out"] == 2 * lines["gpt-image-1, batch image_out"] == 0.01088


async def test_edit_line_with_data_urls_is_counted_like_a_multipart_edit(
    client: AsyncOpenAI, simulator: Simulator, make_picture: MakePicture
) -> None:
    red, mask = make_picture("RGB", (512, 512), "red"), make_picture("RGBA", (512, 512), (0, 0, 0, 0))
    urls = [f"data:image/png;base64,{base64.b64encode(each).decode()}" for each in (red, mask)]
    sound = line("run-1", EDITS, images=[{"image_url": urls[0]}], mask={"image_url": urls[1]})
    created = await create(
        client,
        sound,
        line("run-2", EDITS),
        line("run-3", EDITS, images=[{"image_url": "https://example.com/a.png"}]),
        line("run-4", EDITS, images=[{"file_id": "file-1"}]),
        url=EDITS,
    )
    await simulator.batches.finish(simulator.batches.all[0])

    done = await client.batches.retrieve(created.id)
    assert list(await read(client, done.output_file_id)) == ["run-1"]
    assert sorted(await read(client, done.error_file_id)) == ["run-2", "run-3", "run-4"]
    [paid] = simulator.books.paid
    assert (paid.endpoint, (paid.usage or {})["input_tokens_details"]["image_tokens"]) == ("edits", 194)


async def test_refused_line_does_not_affect_other_lines(client: AsyncOpenAI, simulator: Simulator) -> None:
    created = await create(
        client,
        line("sound"),
        line("moderated", prompt="[simulate:moderation_blocked]"),
        line("failed", prompt="[simulate:server_error]"),
        line("wrong", size="1x1"),
        line("no-connection", prompt="[simulate:hang]"),
    )
    await simulator.batches.finish(simulator.batches.all[0])

    done = await client.batches.retrieve(created.id)
    assert list(await read(client, done.output_file_id)) == ["sound"]
    errors = await read(client, done.error_file_id)
    told = {
        custom_id: (each["response"]["status_code"], each["response"]["body"]["error"]["code"])
        for custom_id, each in errors.items()
    }
    assert told == {
        "moderated": (400, "moderation_blocked"),
        "failed": (500, "server_error"),
        "wrong": (400, "invalid_value"),
        "no-connection": (400, "unknown_fault"),
    }
    assert len(simulator.books.paid) == 1
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 4)


async def test_expired_batch_keeps_and_charges_finished_lines(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    simulator.batches.script(BatchFaultKind.EXPIRED, lines=2)
    created = await create(client, *(line(f"run-{index}") for index in range(5)))
    await simulator.batches.finish(simulator.batches.all[0])

    done = await client.batches.retrieve(created.id)
    assert done.status == "expired"
    output, errors = await read(client, done.output_file_id), await read(client, done.error_file_id)
    assert (len(output), len(errors)) == (2, 3)
    assert {each["error"]["code"] for each in errors.values()} == {"batch_expired"}
    assert all(each["response"] is None for each in errors.values())
    assert {entry.custom_id for entry in simulator.books.paid} == output.keys()


async def test_cancelled_batch_keeps_and_charges_finished_lines(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    """A second cancel changes nothing."""
    created = await create(client, *(line(f"run-{index}") for index in range(3)))
    [batch] = simulator.batches.all
    await simulator.batches.advance(batch)
    await simulator.batches.advance(batch, lines=1)
    assert (await client.batches.cancel(created.id)).status == "cancelling"
    assert (await client.batches.cancel(created.id)).status == "cancelling"
    await simulator.batches.finish(batch)

    done = await client.batches.retrieve(created.id)
    assert done.status == "cancelled"
    assert len(await read(client, done.output_file_id)) == len(simulator.books.paid) == 1
    errors = await read(client, done.error_file_id)
    assert {each["error"]["code"] for each in errors.values()} == {"batch_cancelled"}


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([line("a"), b"{"], "invalid_json_line", 2),
        ([line("a"), [1]], "invalid_json_line", 2),
        ([line("a"), line("a")], "duplicate_custom_id", 2),
        ([line("a"), line("b", model="gpt-image-2")], "mismatched_model", 2),
        ([line("a", EDITS)], "invalid_url", 1),
        ([{**line("a"), "method": "GET"}], "invalid_method", 1),
        ([{**line("a"), "priority": 1}], "unknown_parameter", 1),
        ([{"custom_id": "a", "method": "POST", "url": GENERATIONS}], "missing_required_parameter", 1),
        ([{**line("a"), "custom_id": 7}], "invalid_value", 1),
        ([line("a", model=None)], "missing_required_parameter", 1),
        ([b"  "], "empty_file", None),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_invalid_line_fails_the_whole_batch_with_code_and_line(
    client: AsyncOpenAI, simulator: Simulator, lines: list[Any], code: str, number: int | None
) -> None:
    created = await create(client, *lines)
    await simulator.batches.finish(simulator.batches.all[0])

    done = await client.batches.retrieve(created.id)
    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert (done.errors.data[0].code, done.errors.data[0].line) == (code, number)
    assert simulator.books.entries == ()


async def test_batch_above_50000_lines_fails(client: AsyncOpenAI, simulator: Simulator) -> None:
    lines = [line(f"run-{index}") for index in range(50_001)]
    for given, status in ((lines[:-1], "in_progress"), (lines, "failed")):
        await create(client, *given)
        batch = simulator.batches.all[-1]
        await simulator.batches.advance(batch)
        assert batch.status == status


SOUND = {"endpoint": GENERATIONS, "completion_window": "24h"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"completion_window": "48h"}, "invalid_value"),
        ({"completion_window": None}, "missing_required_parameter"),
        ({"endpoint": "/v1/responses"}, "invalid_value"),
        ({"input_file_id": None}, "missing_required_parameter"),
        ({"priority": 1}, "unknown_parameter"),
        ({"metadata": []}, "invalid_type"),
        ({"metadata": {"key": 1}}, "invalid_type"),
        ({"metadata": {f"key-{index}": "" for index in range(17)}}, "object_above_max_properties"),
        ({"metadata": {"k" * 65: ""}}, "string_above_max_length"),
        ({"metadata": {"key": "v" * 513}}, "string_above_max_length"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "invalid_value"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_invalid_batch_request_is_refused(
    client: AsyncOpenAI, http: httpx2.AsyncClient, simulator: Simulator, change: dict[str, Any], code: str
) -> None:
    file_id = await upload(client, line("a"))
    answer = await http.post("/batches", json={"input_file_id": file_id, **SOUND, **change})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert simulator.batches.all == ()


async def test_metadata_at_its_limits_is_accepted(client: AsyncOpenAI) -> None:
    """The limits are 16 pairs of 64 and 512 characters."""
    metadata = {f"{index:0>64}": "v" * 512 for index in range(16)}

    assert (await create(client, line("a"), metadata=metadata)).metadata == metadata


async def test_batch_list_is_paged_newest_first(client: AsyncOpenAI) -> None:
    ids = [(await create(client, line("a"))).id for _ in range(5)]

    page = await client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == ids[:-3:-1]
    assert [batch.id async for batch in page] == ids[::-1]
    with pytest.raises(BadRequestError, match="limit"):
        await client.batches.list(limit=101)


async def test_batch_with_lost_reply_is_found_by_metadata(client: AsyncOpenAI, simulator: Simulator) -> None:
    simulator.batches.script(BatchFaultKind.CREATE_REPLY_LOST)
    with pytest.raises(APIConnectionError):
        await create(client, line("a"), metadata={"ours": "7"})

    [found] = [batch async for batch in client.batches.list() if batch.metadata == {"ours": "7"}]
    assert found.id == simulator.batches.all[0].batch_id


async def test_file_is_described_read_and_deleted(client: AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    content = json.dumps(line("a")).encode() + b"\n"
    file_id = await upload(client, line("a"))

    described = await client.files.retrieve(file_id)
    assert (described.bytes, described.purpose, described.filename) == (len(content), "batch", "lines.jsonl")
    assert (await client.files.content(file_id)).content == content
    rest = await http.get(f"/files/{file_id}/content", headers={"Range": "bytes=10-"})
    assert (rest.status_code, rest.content) == (206, content[10:])
    assert (await client.files.delete(file_id)).deleted
    with pytest.raises(NotFoundError):
        await client.files.retrieve(file_id)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"data": {"purpose": "batch"}}, "unsupported_content_type"),
        ({"files": {"file": b"x"}}, "missing_required_parameter"),
        ({"files": {"file": b"x"}, "data": {"purpose": "vision"}}, "invalid_value"),
        ({"files": {"file": b"x"}, "data": {"purpose": "batch", "name": "x"}}, "unknown_parameter"),
        ({"files": {"file": b""}, "data": {"purpose": "batch"}}, "empty_file"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_invalid_upload_is_refused_and_not_stored(
    http: httpx2.AsyncClient, simulator: Simulator, parts: dict[str, Any], code: str
) -> None:
    answer = await http.post("/files", **parts)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert simulator.batches.file_store.files == ()


async def test_file_above_200_mb_is_refused(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    most = 200 * 1024 * 1024
    for size, status in ((most, 200), (most + 1, 400)):
        answer = await http.post("/files", files={"file": b"x" * size}, data={"purpose": "batch"})
        assert answer.status_code == status
    assert len(simulator.batches.file_store.files) == 1


async def test_scripted_faults_remove_output_or_omit_paid_lines(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    simulator.batches.script(BatchFaultKind.OUTPUT_GONE)
    simulator.batches.script(BatchFaultKind.LINES_UNTOLD, lines=1)
    gone, untold = [await create(client, line("a"), line("b")) for _ in range(2)]
    for batch in simulator.batches.all:
        await simulator.batches.finish(batch)

    with pytest.raises(NotFoundError):
        await read(client, (await client.batches.retrieve(gone.id)).output_file_id)
    assert len(await read(client, (await client.batches.retrieve(untold.id)).output_file_id)) == 1
    assert len(simulator.books.paid) == 4


async def test_scripted_download_fault_cuts_one_download_off(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    file_id = await upload(client, line("a"))
    simulator.batches.script(BatchFaultKind.DOWNLOAD_CUT_OFF)

    with pytest.raises(APIConnectionError):
        await client.files.content(file_id)
    assert (await client.files.content(file_id)).content


async def test_batches_advance_when_seen_if_configured() -> None:
    async with (
        Simulator(batches_advance_when_seen=True) as simulator,
        AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client,
    ):
        created = await create(client, line("a"))
        seen = [(await client.batches.retrieve(created.id)).status for _ in range(4)]

    assert seen == ["in_progress", "finalizing", "completed", "completed"]


async def test_batches_are_controlled_over_http(
    client: AsyncOpenAI, http: httpx2.AsyncClient, simulator: Simulator
) -> None:
    root = simulator.base_url.removesuffix("/v1") + "/_simulator"
    queued = await http.post(f"{root}/batch_faults", json={"faults": [{"kind": "expired", "lines": 1}]})
    created = await create(client, line("a"), line("b"))
    steps = [(await http.post(f"{root}/batches/{created.id}/advance")).json() for _ in range(2)]

    assert queued.json() == {"queued": 1}
    assert [step["status"] for step in steps] == ["in_progress", "expired"]
    assert [batch["id"] for batch in (await http.get(f"{root}/batches")).json()["batches"]] == [created.id]
    assert (await http.post(f"{root}/batch_faults", json={"faults": [{"kind": "rain"}]})).status_code == 400
    assert (await http.post(f"{root}/batches/{created.id}/advance", json={"lines": 0})).status_code == 400
