"""Run the simulator as its own process: `python -m simulator --port 0 --books FILE --latency SECONDS
--images-per-minute LIMIT`.

Prints one line of JSON with its base URL when it is ready, and stops on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from simulator.http import StartupError
from simulator.server import Simulator


def main() -> int:
    """Run until a signal arrives. Return 0 then, or 1 if the simulator cannot start."""
    options = _read_options()
    try:
        asyncio.run(_serve(options))
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator", description="An offline OpenAI Images API.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--books", type=Path, help="file for the request log (default: in memory only)")
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="SECONDS", help="delay of every image request"
    )
    parser.add_argument(
        "--images-per-minute", type=int, metavar="LIMIT", help="the organization's rate limit (default: none)"
    )
    parser.add_argument(
        "--input-images-per-minute",
        type=int,
        metavar="LIMIT",
        help="its rate limit for input images (default: same as --images-per-minute)",
    )
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        # Not loop.add_signal_handler, which Windows does not have.
        signal.signal(signal_number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    simulator = Simulator(
        books_path=options.books,
        latency_seconds=options.latency,
        images_per_minute=options.images_per_minute,
        input_images_per_minute=options.input_images_per_minute,
        # No test steers a separate process, so every request for a batch advances it by one step.
        batches_advance_when_seen=True,
    )
    await simulator.start(port=options.port)
    try:
        sys.stdout.write(json.dumps({"base_url": simulator.base_url}) + "\n")
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await simulator.stop()


if __name__ == "__main__":
    sys.exit(main())
