"""Work that is shielded from a cancellation of its workflow."""

import asyncio

from workflows.activity_calls import run_shielded


async def test_cancellation_at_the_moment_of_the_result_does_not_lose_it() -> None:
    recorded = asyncio.Event()

    async def bill() -> str:
        await recorded.wait()
        # Before the task that awaits the bill is resumed.
        asyncio.get_running_loop().call_soon(run.cancel)
        return "the result"

    run = asyncio.ensure_future(run_shielded(bill()))
    await asyncio.sleep(0)
    recorded.set()

    assert await run == "the result"
