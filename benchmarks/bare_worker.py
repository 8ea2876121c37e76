"""Run the baseline's worker with the SDK's default settings: `python -m benchmarks.bare_worker`."""

import asyncio
import os
import signal
import sys

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from benchmarks.bare_workflow import QUEUE, BareRun, first_noop, second_noop, third_noop


async def _run() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter)
    activities = [first_noop, second_noop, third_noop]
    async with Worker(client, task_queue=QUEUE, workflows=[BareRun], activities=activities):
        sys.stderr.write("worker_started\n")
        sys.stderr.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_run())
    os._exit(0)
