"""How a process hears that it is to stop."""

import asyncio
import math
import os
import signal
import time

SAME_WISH_SECONDS = 1.0


def listen_for_stop() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Another signal, more than a second later, ends the process at once."""
    loop, stop, first = asyncio.get_running_loop(), asyncio.Event(), math.inf

    def on_signal(number: int, _frame: object) -> None:
        nonlocal first
        # A supervisor may signal every process of a group, and our parent then signals us too: that is one wish.
        if time.monotonic() - first > SAME_WISH_SECONDS:
            os._exit(128 + number)
        first = min(first, time.monotonic())
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop
