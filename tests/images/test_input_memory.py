"""The memory budget for the pictures of edits is never exceeded, is fair, and is released on every path."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.input_memory import ByteBudget, HeldInputs, InputMemoryFull, hold_inputs
from gpt_image_runs.images.inputs import InputsRefused, load_inputs, measure_inputs
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.calls import FilePart
from gpt_image_runs.provider.client import ImageClient
from gpt_image_runs.provider.errors import ProviderFailure
from tests.support.files.picture_files import make_picture
from tests.support.servers.scripted_provider import OK, ScriptedProvider, edit

MIB = 1024 * 1024


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_waiting_request_is_not_overtaken() -> None:
    budget, order = ByteBudget(10), list[str]()

    async def take(name: str, size: int) -> int:
        share = await budget.acquire(size)
        order.append(name)
        return share

    first = await take("first", 6)
    large, small = asyncio.create_task(take("large", 8)), asyncio.create_task(take("small", 2))
    await settle()
    assert (order, budget.held) == (["first"], 6)
    budget.release(first)
    assert (await large, await small) == (8, 2)
    assert order == ["first", "large", "small"]


async def test_request_larger_than_the_budget_is_granted_alone() -> None:
    budget = ByteBudget(10)
    small = await budget.acquire(1)
    huge, next_one = asyncio.create_task(budget.acquire(1000)), asyncio.create_task(budget.acquire(1))
    await settle()
    assert not huge.done()
    budget.release(small)
    share = await huge
    await settle()
    assert not next_one.done()
    budget.release(share)
    assert await next_one == 1


async def test_cancelled_wait_releases_its_place_and_grant() -> None:
    budget = ByteBudget(10)
    share = await budget.acquire(6)
    large, small = asyncio.create_task(budget.acquire(8)), asyncio.create_task(budget.acquire(2))
    await settle()
    large.cancel()
    assert await small == 2
    budget.release(2)
    given = asyncio.create_task(budget.acquire(10))
    await settle()
    budget.release(share)
    given.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given
    assert budget.held == 0


@pytest.mark.parametrize("seed", range(5))
async def test_budget_is_never_exceeded_under_random_load(seed: int) -> None:
    """Hundreds of tasks, some larger than the budget, some canceled: each is served, and all is released."""
    dice, budget = random.Random(seed), ByteBudget(100)
    held = served = 0

    async def work(size: int) -> None:
        nonlocal held, served
        share = await budget.acquire(size)
        try:
            held += share
            assert held <= budget.held <= 100
            assert size <= 100 or held == share
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            served += 1
        finally:
            held -= share
            budget.release(share)

    tasks = [asyncio.create_task(work(dice.choice([1, 30, 60, 100, 500]))) for _ in range(400)]
    doomed = dice.sample(tasks, 100)
    async with asyncio.timeout(60):
        for task in doomed:
            await asyncio.sleep(0)
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
    assert served >= 300
    assert budget.held == held == 0


class CountingStore:
    """A store that counts the bytes of its pictures that are still referenced, and their reads."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self.alive = self.peak = 0
        self.reads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """As `ImageStore.read`."""
        self.reads.append(uri)
        store = self

        class Counted(bytes):
            def __del__(self) -> None:
                store.alive -= len(self)

        data = Counted(await self._store.read(uri, max_bytes=max_bytes))
        self.alive += len(data)
        self.peak = max(self.peak, self.alive)
        return data


def request_edit(*uris: str, **fields: Any) -> ImageRequest:
    return ImageRequest.model_validate(
        {"model": "gpt-image-2", "prompt": "a", "images": list(uris), **fields}
    )


async def put_large(store: ImageStore, size: int, mark: int) -> str:
    """Store a valid picture of about `size` bytes."""
    picture = make_picture("PNG", (8, 8)) + bytes(size) + mark.to_bytes(4, "big")
    return (await store.put_image(picture)).uri


async def test_equal_references_are_read_once_and_sent_each_time(local_store: ImageStore) -> None:
    store: Any = CountingStore(local_store)
    uri, other = await put_large(local_store, MIB, 1), await put_large(local_store, MIB, 2)
    request = request_edit(*[uri] * 15, other)

    size = await measure_inputs(request, store)
    inputs = await load_inputs(request, store)

    assert sorted(store.reads) == sorted([uri, other])
    assert len(inputs.images) == 16
    assert [image.name for image in inputs.images[:2]] == ["images-0.png", "images-1.png"]
    assert store.alive == size < 2.1 * MIB

    missing = uri.replace(uri[-20:-4], "0" * 16)
    with pytest.raises(InputsRefused) as refused:
        await load_inputs(request_edit(missing, uri, missing), store)
    assert [problem.field for problem in refused.value.problems] == ["images.0", "images.2"]


async def test_refused_references_are_measured_as_zero(store: ImageStore) -> None:
    """A data: URI counts with its decoded size."""
    uri = await put_large(store, 1000, 1)
    size = (await load_inputs(request_edit(uri), store)).images[0].data
    missing = uri.replace(uri[-20:-4], "0" * 16)
    assert await measure_inputs(request_edit(uri, "file:///etc/passwd", missing), store) == len(size)
    data = "data:image/png;base64," + "A" * 4000
    assert 3000 <= await measure_inputs(request_edit(data), store) < 3100


async def test_refused_pictures_release_their_share(local_store: ImageStore) -> None:
    budget = ByteBudget(MIB)
    uri = await put_large(local_store, 1000, 1)
    with pytest.raises(InputsRefused):
        await hold_inputs(request_edit({"uri": uri, "sha256": "0" * 64}), local_store, budget, 1.0)  # type: ignore[arg-type]
    assert budget.held == 0


async def test_full_budget_raises_after_the_timeout_without_reading(local_store: ImageStore) -> None:
    budget, store = ByteBudget(MIB), CountingStore(local_store)
    uri = await put_large(local_store, 1000, 1)
    share = await budget.acquire(MIB)
    with pytest.raises(InputMemoryFull, match="INPUT_MEMORY_MIB"):
        await hold_inputs(request_edit(uri), store, budget, 0.05)  # type: ignore[arg-type]
    budget.release(share)
    assert (store.reads, budget.held) == ([], 0)
    held = await hold_inputs(request_edit(uri), local_store, budget, 1.0)
    assert budget.held > 1000
    held.release()
    held.release()
    assert budget.held == 0


async def test_concurrent_edits_stay_within_the_budget(
    provider: ScriptedProvider, client: ImageClient, local_store: ImageStore
) -> None:
    """Run twelve edits of 4 MiB with room for two: the budget holds while all wait for the provider at once."""
    budget, store = ByteBudget(9 * MIB), CountingStore(local_store)
    uris = [await put_large(local_store, 2 * MIB, number) for number in range(24)]
    drawing, all_there = 0, asyncio.Event()
    held_while_drawing: list[int] = []

    async def draw(_: web.Request) -> web.Response:
        nonlocal drawing
        drawing += 1
        if drawing == 12:
            held_while_drawing.append(store.alive)
            all_there.set()
        await all_there.wait()
        return web.Response(body=OK)

    provider.handler = draw

    async def send(number: int) -> bytes:
        request = request_edit(*uris[2 * number : 2 * number + 2])
        held = await hold_inputs(request, store, budget, 60.0)  # type: ignore[arg-type]
        try:
            return await _send(client, held)
        finally:
            held.release()

    async with asyncio.timeout(60):
        bodies = await asyncio.gather(*(send(number) for number in range(12)))

    assert bodies == [OK] * 12
    sent = sorted(part[3] for received in provider.received for part in received.parts if part[1])
    assert sent == sorted([await local_store.read(uri) for uri in uris])
    assert 4 * MIB < store.peak <= 9 * MIB
    assert held_while_drawing == [0]
    assert (budget.held, store.alive) == (0, 0)


async def _send(client: ImageClient, held: HeldInputs) -> bytes:
    """Send as the activity does."""
    parts = [FilePart(data=each.data, media_type=each.media_type) for each in held.hand_over().images]

    def let_go() -> None:
        parts.clear()
        held.release()

    call = edit(())
    raw = await client.send(
        type(call)(
            request=call.request,
            model=call.model,
            images=parts,
            client_request_id=call.client_request_id,
            on_uploaded=let_go,
        )
    )
    return raw.body


async def test_failed_upload_releases_its_share(client: ImageClient, local_store: ImageStore) -> None:
    """The provider disconnects before anything is sent."""
    await client.close()
    budget = ByteBudget(MIB)
    uri = await put_large(local_store, 1000, 1)
    held = await hold_inputs(request_edit(uri), local_store, budget, 1.0)
    with pytest.raises(ProviderFailure):
        await _send(client, held)
    held.release()
    assert budget.held == 0
