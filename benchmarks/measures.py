"""Measure on a site: throughput in rounds, latency one run at a time, histories, memory."""

import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from benchmarks.bare_workflow import QUEUE, BareRun
from benchmarks.contestants import CONTESTANTS
from benchmarks.laps import Lap, LapResult
from benchmarks.processes import peak_megabytes
from benchmarks.site import GRAINY_SIMULATOR, BenchSite, open_bench_site
from gpt_image_runs.contracts import names

PAYLOAD = {
    "model": "gpt-image-1",
    "prompt": "A lighthouse at dawn",
    "n": 1,
    "size": "1024x1024",
    "quality": "low",
    "output_format": "png",
}
IN_FLIGHT_FOR_MEMORY = 50
_LATENCY_RUNS = 15
_WARM_UP = Lap(runs=20, in_flight=10, payload=PAYLOAD)
_MIN_IMAGE_BYTES = 1_500_000
# The provider's time for each picture while memory is measured: long enough for all to be in flight at
# once.
_SECONDS_IN_FLIGHT = 5.0

Laps = dict[str, list[LapResult]]
ReportProgress = Callable[[str], None]


@dataclass(frozen=True)
class HistorySize:
    """The size of a run's history in Temporal."""

    events: int
    size_bytes: int


async def measure_throughput(
    site: BenchSite, *, rounds: int, runs: int, in_flight: int, report_progress: ReportProgress
) -> tuple[Laps, Laps]:
    """Run laps of every contestant in each round: with many runs in flight, and one at a time."""
    full = Lap(runs=runs, in_flight=in_flight, payload=PAYLOAD)
    single = Lap(runs=_LATENCY_RUNS, in_flight=1, payload=PAYLOAD)
    concurrent: Laps = {name: [] for name in CONTESTANTS}
    sequential: Laps = {name: [] for name in CONTESTANTS}
    for name in CONTESTANTS:
        await site.run_lap(name, _WARM_UP)
    for number in range(1, rounds + 1):
        for name in CONTESTANTS:
            report_progress(f"Round {number} of {rounds}: {name} ...")
            concurrent[name].append(await site.run_lap(name, full))
            sequential[name].append(await site.run_lap(name, single))
    return concurrent, sequential


async def measure_histories(site: BenchSite) -> dict[str, HistorySize]:
    """Run each contestant that has a history once."""
    bare = await site.client.start_workflow(
        BareRun.run, "nothing", id=f"bare-{uuid.uuid4().hex}", task_queue=QUEUE
    )
    run_id = names.run_id_for("default", f"bench-{uuid.uuid4().hex}")
    full = await site.client.start_workflow(names.WORKFLOW, PAYLOAD, id=run_id, task_queue=names.RUNS_QUEUE)
    return {"bare": await _measure_history(bare), "full": await _measure_history(full)}


async def _measure_history(handle: WorkflowHandle[Any, Any]) -> HistorySize:
    await handle.result()
    events: Sequence[Any] = (await handle.fetch_history()).events
    return HistorySize(len(events), sum(event.ByteSize() for event in events))


def _check_sizes(images: Path) -> None:
    sizes = [path.stat().st_size for path in images.rglob("*.png")]
    assert min(sizes, default=0) > _MIN_IMAGE_BYTES, f"images are too small for this measurement: {sizes}"


async def measure_memory() -> dict[str, float]:
    """Return the peak megabytes of a worker and of a process that only uses the SDK.

    Each is measured idle and with 50 images of 2 MB in flight.
    """
    lap = Lap(runs=IN_FLIGHT_FOR_MEMORY, in_flight=IN_FLIGHT_FOR_MEMORY, payload=PAYLOAD)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with open_bench_site(
            Path(folder),
            in_flight=IN_FLIGHT_FOR_MEMORY,
            simulator=(*GRAINY_SIMULATOR, "--latency", str(_SECONDS_IN_FLIGHT)),
        ) as site:
            pids = {"worker": site.pids["worker"], "plain": site.drivers["plain"].pid}
            idle = {f"{name}, idle": peak_megabytes(pid) for name, pid in pids.items()}
            for name in ("full", "plain"):
                await site.run_lap(name, lap)
            _check_sizes(Path(folder) / "images")
            return {**idle, **{name: peak_megabytes(pid) for name, pid in pids.items()}}
