"""Measure how much of the provider's limit is reached, and how often it is exceeded.

`python -m benchmarks.saturation --limit 250` uses two worker processes, a real Temporal server, a ledger on files,
and a provider that enforces its limit. Runs of varying `n` are started faster than the limit allows, so that there is
always more work. The measurement begins when the burst of an idle queue has left the provider's window, and ends when
no more runs are started. The exit status is 0 if at least 0.97 of the limit is reached, at most 1 % of calls are
answered 429 and no run has failed, otherwise 1.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.common import Priority

from benchmarks.saturation.figures import Figures, measure
from benchmarks.saturation.site import Site, open_site
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts import names as priorities

MIN_REACHED = 0.97
MAX_REFUSED = 0.01
WORKERS = 2
LATENCY_SECONDS = 2.0
RAMP = timedelta(seconds=70)
_OVERLOAD_FACTOR = 1.15
_BURST_SECONDS = 8
_TENANTS = ("acme", "globex", "initech")
_MAX_CONCURRENT_STARTS = 16
_LARGE_LIMIT = 1000


def main() -> int:
    """Measure each limit and print the results."""
    options = _read_options()
    results = [asyncio.run(_measure(limit, options.seconds)) for limit in options.limit]
    return 0 if all(results) else 1


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saturation", description=__doc__)
    parser.add_argument("--limit", type=int, nargs="+", default=[250, 1500], help="images per minute")
    parser.add_argument("--seconds", type=int, default=120, help="length of the measurement (default: 120)")
    return parser.parse_args()


async def _measure(limit: int, seconds: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="saturation-") as folder:
        async with open_site(
            Path(folder), images_per_minute=limit, latency_seconds=LATENCY_SECONDS, workers=WORKERS
        ) as site:
            _print(f"{limit} images a minute, {WORKERS} workers: measuring for {seconds} s ...")
            start, end = await _saturate(site, limit, timedelta(seconds=seconds))
            await site.stop_workers()
            failed = (await site.client.count_workflows("ExecutionStatus = 'Failed'")).count
            figures = measure(site.read_books(), limit=limit, start=start, end=end)
    _print_results(figures, failed)
    return figures.reached >= MIN_REACHED and figures.refused_share <= MAX_REFUSED and not failed


async def _saturate(site: Site, limit: int, length: timedelta) -> tuple[datetime, datetime]:
    """Start more than the limit for the whole measurement; return its start and end."""
    feeding = asyncio.create_task(_feed(site.client, limit))
    try:
        while not (books := site.read_books()):
            await asyncio.sleep(0.1)
        start = books[0].time + RAMP
        while datetime.now(UTC) < start + length:
            if feeding.done():
                feeding.result()
            await asyncio.sleep(0.5)
    finally:
        feeding.cancel()
    return start, start + length


async def _feed(client: Client, limit: int) -> None:
    """Start some seconds' work at once, then forever slightly more than the provider executes."""
    loop, images = asyncio.get_running_loop(), 0
    began, gate = loop.time(), asyncio.Semaphore(_MAX_CONCURRENT_STARTS)
    async with asyncio.TaskGroup() as starts:
        for number, n in enumerate(_list_counts(limit)):
            due = began + (images * 60 / limit - _BURST_SECONDS) / _OVERLOAD_FACTOR
            await asyncio.sleep(max(0.0, due - loop.time()))
            await gate.acquire()
            starts.create_task(_start(client, number, n)).add_done_callback(lambda _: gate.release())
            images += n


def _list_counts(limit: int) -> Iterator[int]:
    """Yield each run's `n`: one to four, or up to ten for the limit of a large account."""
    rng = random.Random(limit)
    while True:
        yield rng.randint(1, 4 if limit < _LARGE_LIMIT else 10)


async def _start(client: Client, number: int, n: int) -> None:
    tenant = _TENANTS[number % len(_TENANTS)]
    await client.start_workflow(
        names.WORKFLOW,
        {
            "model": "gpt-image-2",
            "prompt": "Cups",  # few different images, so that the provider draws each once
            "tenant": tenant,
            "size": "816x816",
            "quality": "low",
            "output_format": "jpeg",
            "output_compression": 30,
            "n": n,
        },
        id=names.run_id_for(tenant, f"saturation-{number}"),
        task_queue=names.RUNS_QUEUE,
        priority=Priority(priority_key=priorities.PRIORITY_BATCH, fairness_key=tenant),
    )


def _print_results(figures: Figures, failed: int) -> None:
    shares = ", ".join(f"{worker} {images} images" for worker, images in figures.images_by_worker.items())
    _print(
        f"  reached {figures.reached:.4f} of the limit: {figures.images} images in {figures.seconds:.0f} s"
        f" ({figures.images / figures.seconds * 60:.1f} a minute)\n"
        f"  answered 429: {figures.refused} of {figures.calls} calls ({figures.refused_share:.2%})\n"
        f"  busiest 60 s: {figures.busiest_minute} images requested\n"
        f"  {shares}; failed runs: {failed}; load {os.getloadavg()[0]:.1f}"
    )


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
