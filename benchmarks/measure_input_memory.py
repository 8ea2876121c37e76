"""`python -m benchmarks.measure_input_memory [CALLS] [PICTURES] [MB] [MIB_OF_BUDGET]`: what edits take in memory. No test here.

So many calls at once, each with so many different pictures, to a provider that draws for five seconds. Shown is how much the
process has grown at its most: with the budget, and without one.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import web

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.input_memory import ByteBudget, hold_inputs
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.calls import FilePart, ProviderCall
from gpt_image_runs.provider.client import ProviderSettings, open_client
from tests.support.files.picture_files import make_picture

MIB = 1024 * 1024
NO_BUDGET = 1 << 50
DRAWS_SECONDS = 5


async def draw(request: web.Request) -> web.Response:
    """Reads the pictures, and takes its time."""
    async for _ in request.content.iter_chunked(MIB):
        pass
    await asyncio.sleep(DRAWS_SECONDS)
    return web.Response(body=b'{"data": [{"b64_json": "QUJD"}]}')


async def serve(port_of: "asyncio.Future[int]") -> None:
    """The provider, in this process: it holds a chunk of each request."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", draw)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port_of.set_result(runner.addresses[0][1])


async def measure(store: ImageStore, uris: list[list[str]], limit: int) -> None:
    """Sends all edits at once and shows what they took."""
    port_of: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await serve(port_of)
    budget = ByteBudget(limit)
    settings = ProviderSettings(api_key="none", base_url=f"http://127.0.0.1:{await port_of}/v1")
    before, began = _forget_the_peak(), time.monotonic()
    async with open_client(settings) as client:

        async def send(number: int) -> None:
            request = ImageRequest.model_validate({"model": "m", "prompt": "a", "images": uris[number]})
            held = await hold_inputs(request, store, budget, 3600.0)
            try:
                parts = [
                    FilePart(data=each.data, media_type=each.media_type) for each in held.hand_over().images
                ]

                def let_go() -> None:
                    parts.clear()
                    held.release()

                call = ProviderCall(
                    request=request,
                    model="m",
                    images=parts,
                    client_request_id=str(number),
                    on_uploaded=let_go,
                )
                await client.send(call)
            finally:
                held.release()

        await asyncio.gather(*map(send, range(len(uris))))
    took = time.monotonic() - began
    shown = "no budget" if limit == NO_BUDGET else f"a budget of {limit // MIB:,} MiB"
    sys.stdout.write(f"{shown}: grew by {(_read('VmHWM') - before) // MIB:,} MiB at most, {took:.1f} s\n")


def _forget_the_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _read("VmRSS")


def _read(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


async def main(calls: int = 8, pictures: int = 4, megabytes: int = 20, budget: int = 256) -> None:
    """Measures both ways, the budget first: the allocator gives back late."""
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore.from_url(Path(folder, "images").as_uri())
        uris: list[list[str]] = []
        for call in range(calls):
            uris.append([])
            for number in range(pictures):
                data = (
                    make_picture("PNG", (8, 8)) + bytes(megabytes * 1_000_000) + f"{call}-{number}".encode()
                )
                uris[-1].append((await store.put_image(data)).uri)
        sys.stdout.write(f"{calls} calls with {pictures} pictures of {megabytes} MB\n")
        await measure(store, uris, budget * MIB)
        await measure(store, uris, NO_BUDGET)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
