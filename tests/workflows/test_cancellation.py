"""A bill that is being written is not given up."""

import asyncio

from workflows.activity_calls import run_shielded


async def test_a_cancellation_at_the_moment_of_the_record() -> None:
    """A cancellation that comes in the very moment in which the bill is recorded does not take the result away."""
    recorded = asyncio.Event()

    async def bill() -> str:
        await recorded.wait()
        # Before the run hears that its bill is recorded.
        asyncio.get_running_loop().call_soon(run.cancel)
        return "the result"

    run = asyncio.ensure_future(run_shielded(bill()))
    await asyncio.sleep(0)
    recorded.set()

    assert await run == "the result"
