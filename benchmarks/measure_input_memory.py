"""Measure the memory that edits take: `python -m benchmarks.measure_input_memory [CALLS] [IMAGES] [MB] [MIB_OF_BUDGET]`.

Sends CALLS calls at once, each with its own images, to a provider that responds after five seconds. Prints by how
much the process grew at its peak, with the budget and without one. Not a test.
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
RESPONSE_SECONDS = 5


async def draw(request: web.Request) -> web.Response:
    """Read the images, then respond after a delay."""
    async for _ in request.content.iter_chunked(MIB):
        pass
    await asyncio.sleep(RESPONSE_SECONDS)
    return web.Response(body=b'{"data": [{"b64_json": "QUJD"}]}')


async def serve(port_of: "asyncio.Future[int]") -> None:
    """Serve the provider in this process. It holds one chunk of each request."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", draw)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port_of.set_result(runner.addresses[0][1])


async def measure(store: ImageStore, uris: list[list[str]], limit: int) -> None:
    """Send all edits at once and print what they took."""
    port_of: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await serve(port_of)
    budget = ByteBudget(limit)
    settings = ProviderSettings(api_key="none", base_url=f"http://127.0.0.1:{await port_of}/v1")
    before, began = _reset_peak_memory(), time.monotonic()
    async with open_client(settings) as client:

        async def send(number: int) -> None:
            request = ImageRequest.model_validate({"model": "m", "prompt": "a", "images": uris[number]})
            held = await hold_inputs(request, store, budget, 3600.0)
            try:
                parts = [
                    FilePart(data=each.data, media_type=each.media_type) for each in held.hand_over().images
                ]

                def release_parts() -> None:
                    parts.clear()
                    held.release()

                call = ProviderCall(
                    request=request,
                    model="m",
                    images=parts,
                    client_request_id=str(number),
                    on_uploaded=release_parts,
                )
                await client.send(call)
            finally:
                held.release()

        await asyncio.gather(*map(send, range(len(uris))))
    took = time.monotonic() - began
    shown = "no budget" if limit == NO_BUDGET else f"a budget of {limit // MIB:,} MiB"
    sys.stdout.write(f"{shown}: grew by {(_read('VmHWM') - before) // MIB:,} MiB at most, {took:.1f} s\n")


def _reset_peak_memory() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _read("VmRSS")


def _read(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


async def main(calls: int = 8, images: int = 4, megabytes: int = 20, budget: int = 256) -> None:
    """Measure with the budget first, because the allocator returns memory late."""
    with tempfile.TemporaryDirectory() as folder:
        store = ImageStore.from_url(Path(folder, "images").as_uri())
        uris: list[list[str]] = []
        for call in range(calls):
            uris.append([])
            for number in range(images):
                data = (
                    make_picture("PNG", (8, 8)) + bytes(megabytes * 1_000_000) + f"{call}-{number}".encode()
                )
                uris[-1].append((await store.put_image(data)).uri)
        sys.stdout.write(f"{calls} calls with {images} images of {megabytes} MB\n")
        await measure(store, uris, budget * MIB)
        await measure(store, uris, NO_BUDGET)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
