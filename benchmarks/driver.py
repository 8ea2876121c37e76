"""Drive one contestant: `python -m benchmarks.driver NAME`. Laps arrive as JSON lines on stdin.

Each `Lap` is answered by one JSON line, a `LapTimes`, when all of its runs have ended.
"""

import asyncio
import os
import sys
import time

from benchmarks.contestants import CONTESTANTS, RunOne
from benchmarks.laps import Lap, LapTimes, read_line, write_line


async def _drive(name: str) -> None:
    async with CONTESTANTS[name]() as run_one:
        write_line(sys.stdout, {"ready": name})
        while line := await asyncio.to_thread(sys.stdin.readline):
            write_line(sys.stdout, vars(await _run_lap(run_one, Lap(**read_line(line)))))


async def _run_lap(run_one: RunOne, lap: Lap) -> LapTimes:
    gate = asyncio.Semaphore(lap.in_flight)
    latencies: list[float] = []

    async def run() -> None:
        async with gate:
            started = time.perf_counter()
            await run_one(lap.payload)
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(run() for _ in range(lap.runs)))
    return LapTimes(seconds=time.perf_counter() - started, latencies=latencies)


if __name__ == "__main__":
    asyncio.run(_drive(sys.argv[1]))
    os._exit(0)
