"""Run the benchmark and print Markdown tables: `python -m benchmarks --rounds 5 --runs 150 --in-flight 50`."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.measures import measure_histories, measure_memory, measure_throughput
from benchmarks.site import open_bench_site
from benchmarks.tables import Report, format_report


def main() -> int:
    """Measure everything once and print it."""
    options = _read_options()
    sys.stdout.write(format_report(asyncio.run(_measure(options))))
    return 0


async def _measure(options: argparse.Namespace) -> Report:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    console = Console(stderr=True)
    with console.status("Starting the site ...") as status:
        async with open_bench_site(folder, in_flight=options.in_flight) as site:
            concurrent, sequential = await measure_throughput(
                site,
                rounds=options.rounds,
                runs=options.runs,
                in_flight=options.in_flight,
                report_progress=status.update,
            )
            histories = await measure_histories(site)
        status.update("Memory, with 50 images of 2 MB in flight ...")
        memory = await measure_memory()
    shutil.rmtree(folder)
    return Report(concurrent=concurrent, sequential=sequential, histories=histories, memory=memory)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="laps of each contestant (default: 5)")
    parser.add_argument("--runs", type=int, default=150, help="runs in each lap (default: 150)")
    parser.add_argument("--in-flight", type=int, default=50, help="runs at once (default: 50)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
