"""The client for batches against the simulator, over real HTTP through the real SDK."""

import json
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gpt_image_runs.provider import batch_api as batches
from gpt_image_runs.provider import errors
from gpt_image_runs.provider.batch_api import (
    BatchClient,
    NewBatch,
    ProviderBatch,
    ResultLine,
    open_batch_client,
    split_lines,
)
from gpt_image_runs.provider.sdk import ProviderSettings
from simulator.batches.faults import BatchFaultKind
from simulator.server import Simulator

KEY = "sk-proj-0123456789abcdefghijklmnop"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
LINE = {
    "custom_id": "image:acme:req-1",
    "method": "POST",
    "url": "/v1/images/generations",
    "body": {"model": "gpt-image-1", "prompt": "A cup", "quality": "low"},
}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[BatchClient]:
    async with open_batch_client(ProviderSettings(api_key=KEY, base_url=simulator.base_url)) as opened:
        yield opened


async def create(client: BatchClient, folder: Path, *lines: Any, **metadata: str) -> ProviderBatch:
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines or (LINE,)))
    file_id = await client.upload(path, "lines.jsonl")
    return await client.create(
        NewBatch(file_id=file_id, endpoint="/v1/images/generations", metadata=metadata)
    )


async def test_batch_is_uploaded_created_and_read_to_its_results(
    client: BatchClient, simulator: Simulator, tmp_path: Path
) -> None:
    """A file goes up from disk, its batch is looked at until it has ended, and its results are read line by line."""
    created = await create(client, tmp_path, LINE, {**LINE, "custom_id": "image:acme:req-2"}, ours="1")
    assert (created.status, created.metadata, created.has_ended) == ("validating", {"ours": "1"}, False)
    await simulator.batches.finish(simulator.batches.all[0])

    ended = await client.look(created.batch_id)
    assert (ended.status, ended.has_ended, ended.completed, ended.total) == ("completed", True, 2, 2)
    assert ended.output_file_id is not None
    lines = [json.loads(line.data) async for line in client.read_lines(ended.output_file_id)]
    assert {line["custom_id"] for line in lines} == {"image:acme:req-1", "image:acme:req-2"}


async def test_result_lines_are_read_from_an_offset(
    client: BatchClient, simulator: Simulator, tmp_path: Path
) -> None:
    """From the end of any line the rest is read, and nothing else; from the end of the last there is nothing."""
    lines = [{**LINE, "custom_id": f"image:acme:req-{index}"} for index in range(4)]
    await create(client, tmp_path, *lines)
    await simulator.batches.finish(simulator.batches.all[0])
    [output] = [file for file in simulator.batches.file_store.files if file.purpose == "batch_output"]

    whole = [line async for line in client.read_lines(output.file_id)]
    for index, line in enumerate(whole[:-1]):
        assert [rest async for rest in client.read_lines(output.file_id, line.end)] == whole[index + 1 :]
    with pytest.raises(errors.InvalidRequest):  # 416: there is nothing behind the end
        assert [rest async for rest in client.read_lines(output.file_id, whole[-1].end)]


async def test_result_lines_are_read_from_an_offset_without_range_support() -> None:
    """Where a provider sends the whole file although a part was asked for, the lines before it are read past."""

    async def send_all(_: web.Request) -> web.Response:
        return web.Response(body=b"one\ntwo two\nthree\n")

    app = web.Application()
    app.router.add_get("/v1/files/file-1/content", send_all)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = ProviderSettings(api_key=KEY, base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    try:
        async with open_batch_client(settings) as client:
            rest = [line async for line in client.read_lines("file-1", 4)]
    finally:
        await runner.cleanup()

    assert rest == [ResultLine(b"two two", 12), ResultLine(b"three", 18)]


async def test_a_lost_reply_is_of_unknown_outcome_and_the_batch_is_found(
    client: BatchClient, simulator: Simulator, tmp_path: Path
) -> None:
    """After a lost reply the batch is found by its metadata among many, and where none was created none is found."""
    simulator.batches.script(BatchFaultKind.CREATE_REPLY_LOST)
    with pytest.raises(errors.AnswerLost) as raised:
        await create(client, tmp_path, ours="the lost one", part="1")
    for index in range(101):
        await create(client, tmp_path, ours=f"another {index}")

    assert raised.value.outcome == "unknown"
    found = await client.find({"ours": "the lost one"}, LONG_AGO)
    assert found is not None
    assert found.batch_id == simulator.batches.all[0].batch_id
    assert await client.find({"ours": "the lost one", "part": "2"}, LONG_AGO) is None
    assert await client.find({"ours": "the lost one"}, datetime.now(UTC) + timedelta(hours=1)) is None


async def test_cancelled_batch_ends_and_stays_ended(
    client: BatchClient, simulator: Simulator, tmp_path: Path
) -> None:
    """A batch that runs is told to stop; one that has ended stays as it is, without an error."""
    created = await create(client, tmp_path)
    assert (await client.cancel(created.batch_id)).status == "cancelling"
    await simulator.batches.finish(simulator.batches.all[0])

    assert (await client.cancel(created.batch_id)).status == "cancelled"


async def test_failed_batch_reports_its_errors(
    client: BatchClient, simulator: Simulator, tmp_path: Path
) -> None:
    """A batch that failed its check says why in sentences, with the line."""
    created = await create(client, tmp_path, LINE, LINE)
    await simulator.batches.finish(simulator.batches.all[0])

    ended = await client.look(created.batch_id)
    assert ended.status == "failed"
    assert ended.errors[0].startswith("duplicate_custom_id, line 2: The custom_id")


async def test_missing_file_or_batch_raises_object_gone(client: BatchClient) -> None:
    """A file or a batch that is not there is another failure than an address without an API."""
    with pytest.raises(errors.ObjectGone, match="file-1"):
        assert [line async for line in client.read_lines("file-1")]
    for call in (client.look, client.cancel):
        with pytest.raises(errors.ObjectGone, match="batch_1"):
            await call("batch_1")


async def test_a_refused_batch_is_rejected(client: BatchClient, simulator: Simulator, tmp_path: Path) -> None:
    """What the provider does not create is rejected with its words: here 17 pairs of metadata."""
    with pytest.raises(errors.InvalidRequest, match="at most 16 pairs"):
        await create(client, tmp_path, **{f"key-{index}": "" for index in range(17)})
    assert simulator.batches.all == ()


async def test_failed_transfer_is_never_of_unknown_outcome(tmp_path: Path, unused_port: int) -> None:
    """A broken download is told as such, transient, and not as something that was perhaps paid."""
    async with Simulator() as simulator:
        settings = ProviderSettings(api_key=KEY, base_url=simulator.base_url)
        async with open_batch_client(settings) as client:
            path = tmp_path / "lines.jsonl"
            path.write_text(json.dumps(LINE) * 5)
            file_id = await client.upload(path, "lines.jsonl")
            simulator.batches.script(BatchFaultKind.DOWNLOAD_CUT_OFF)
            with pytest.raises(errors.TransferBroken) as broken:
                assert [line async for line in client.read_lines(file_id)]
    assert (broken.value.outcome, broken.value.retryable) == ("not_sent", True)

    nowhere = ProviderSettings(api_key=KEY, base_url=f"http://127.0.0.1:{unused_port}/v1")
    async with open_batch_client(nowhere) as client:
        with pytest.raises(errors.ConnectionFailed):
            await client.look("batch_1")


async def test_a_key_that_is_refused_stays_out_of_the_message(simulator: Simulator) -> None:
    """The failure of a refused key does not quote it, and asks for another."""
    settings = ProviderSettings(api_key="sk-invalid-0123456789abcdef", base_url=simulator.base_url)
    async with open_batch_client(settings) as client:
        with pytest.raises(errors.AuthenticationFailed) as raised:
            await client.look("batch_1")
    assert "0123456789" not in str(raised.value)


async def test_upload_on_azure_is_refused(tmp_path: Path) -> None:
    """On Azure nothing is sent, and the sentence says why."""
    azure = ProviderSettings(
        api_key=KEY, azure_endpoint="https://ours.openai.azure.com", azure_api_version="2026-05-01"
    )
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(LINE))
    async with open_batch_client(azure) as client:
        with pytest.raises(errors.ProviderNotConfigured, match="not supported on Azure"):
            await client.upload(path, "lines.jsonl")


async def test_a_large_file_is_never_in_memory(client: BatchClient, simulator: Simulator) -> None:
    """Of a result file of 300 MB at most some lines of 3 MB are in memory at any time."""
    output = simulator.batches.file_store.prepare("output.jsonl", "batch_output")
    line = b'{"b64_json": "' + b"x" * 3_000_000 + b'"}\n'
    with output.path.open("wb") as file:
        for _ in range(100):
            file.write(line)
    simulator.batches.file_store.put(output)

    tracemalloc.start()
    try:
        lengths = [len(read.data) async for read in client.read_lines(output.file_id)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert lengths == [len(line) - 1] * 100
    assert peak < 30_000_000


async def chunked(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_lines_are_the_same_however_chunks_are_cut(size: int) -> None:
    """Lines and their ends are the same however the file is cut; empty lines are passed over, a last one needs no newline."""
    data = b"one\n\ntwo two\n \nthree"

    lines = [line async for line in split_lines(chunked(data, size), 10)]
    assert lines == [ResultLine(b"one", 14), ResultLine(b"two two", 23), ResultLine(b"three", 30)]


async def test_line_above_the_limit_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that would fill the memory ends the reading with a sentence."""
    monkeypatch.setattr(batches, "MAX_LINE", 10)
    with pytest.raises(errors.MalformedAnswer, match="longer than 10 bytes"):
        assert [line async for line in split_lines(chunked(b"x" * 20, 4), 0)]
