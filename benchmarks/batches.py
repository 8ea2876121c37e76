"""Measure the cost of a batch's line by the batch's length: `python -m benchmarks.batches --lines 1000 3000 10000`.

Each batch is a file for `starter.py batch run`. All batches run one after the other on one site, so that the ledger
and Temporal's file grow as they do for users. Cost is the CPU time of all processes for each line. Prints a Markdown
table.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cpu_seconds
from benchmarks.site import BenchSite, open_bench_site

_STARTER = (sys.executable, "starter.py")
_PARTS = ("server", "worker", "simulator")


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """A batch of `lines` lines: its seconds, and the milliseconds of CPU time for each line, by process."""

    lines: int
    seconds: float
    milliseconds: dict[str, float]


def main() -> int:
    """Run each batch and print the cost of its lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    parser.add_argument("--lines", type=int, nargs="+", default=[1000, 3000, 10_000])
    costs = asyncio.run(measure_batches(parser.parse_args().lines))
    sys.stdout.write(format_table(costs))
    return 0


async def measure_batches(sizes: list[int]) -> list[BatchCost]:
    """Run one batch of each size, after a small one that warms the site up."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with open_bench_site(Path(folder), in_flight=50) as site:
            await _run_batch(site, Path(folder), "warm-up", 100)
            return [
                await _run_batch(site, Path(folder), f"batch-{turn}", lines)
                for turn, lines in enumerate(sizes)
            ]


async def _run_batch(site: BenchSite, folder: Path, name: str, lines: int) -> BatchCost:
    file = folder / f"{name}.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for number in range(lines):
            line = {"prompt": "A lighthouse at dawn", "request_id": f"{name}-{number}"}
            out.write(
                json.dumps({"model": "gpt-image-1", "size": "1024x1024", "quality": "low", **line}) + "\n"
            )
    before, began = {part: cpu_seconds(site.pids[part]) for part in _PARTS}, time.monotonic()
    command = await asyncio.create_subprocess_exec(
        *(*_STARTER, "batch", "run", str(file), "--json"),
        env=dict(site.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await command.communicate()
    seconds = time.monotonic() - began
    done = json.loads(output)["done"]
    assert done == lines, f"{done} of {lines} lines succeeded"
    spent = {part: (cpu_seconds(site.pids[part]) - before[part]) * 1000 / lines for part in _PARTS}
    sys.stderr.write(f"{lines:,} lines in {seconds:.0f} s\n")
    return BatchCost(lines=lines, seconds=seconds, milliseconds=spent)


def format_table(costs: list[BatchCost]) -> str:
    """Format a row for each batch. The last column is its cost divided by the first batch's."""
    sums = [sum(cost.milliseconds.values()) for cost in costs]
    rows = [
        f"| {cost.lines:,} | {cost.lines / cost.seconds:.1f} |"
        + "".join(f" {cost.milliseconds[part]:.1f} ms |" for part in _PARTS)
        + f" {in_all:.1f} ms | {in_all / sums[0]:.2f} |"
        for cost, in_all in zip(costs, sums, strict=True)
    ]
    head = [
        "| lines | lines/s | server | worker | provider | CPU per line | vs. first |",
        "| --- " * 7 + "|",
    ]
    return "\n".join([f"Load {os.getloadavg()[0]:.1f} at the end.", "", *head, *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
