"""Limit the memory for the pictures of edits in one worker to a budget in bytes shared by all calls.

A call acquires the size of its pictures before it reads them, and releases it as soon as they are uploaded, because
nothing needs them during the minutes in which the provider works.
"""

import asyncio
import io
from collections import deque
from collections.abc import Callable
from typing import Any

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.inputs import Inputs, load_inputs, measure_inputs
from gpt_image_runs.images.store import ImageStore

_NO_INPUTS = Inputs((), None)


class InputMemoryFull(Exception):
    """Other calls hold the memory for pictures and did not release enough of it in time."""


class ByteBudget:
    """A budget of bytes, granted first come, first served, to the tasks of one event loop.

    A request larger than the whole budget waits until nothing is held, and is then granted alone; otherwise it would wait
    forever. No request overtakes a waiting one, so small requests do not starve large ones.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.held = 0

    async def acquire(self, size: int) -> int:
        """Wait for `size` bytes. Return the amount to pass to `release`."""
        share = min(size, self._limit)
        if not self._waiting and self.held + share <= self._limit:
            self.held += share
            return share
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, share))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # those behind it may fit now
            else:  # granted at the same moment
                self.release(share)
            raise
        return share

    def release(self, share: int) -> None:
        """Return an acquired amount to the budget."""
        self.held -= share
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            turn, share = self._waiting[0]
            if not turn.done():
                if self.held + share > self._limit:
                    return
                self.held += share
                turn.set_result(None)
            self._waiting.popleft()


class HeldInputs:
    """The pictures of one request, and their share of a budget. Always release it; repeating is harmless."""

    def __init__(self, inputs: Inputs = _NO_INPUTS, on_release: Callable[[], None] | None = None) -> None:
        self._inputs = inputs
        self._on_release = on_release

    def hand_over(self) -> Inputs:
        """Return the pictures and drop them here. The caller must drop its references too."""
        inputs, self._inputs = self._inputs, _NO_INPUTS
        return inputs

    def release(self) -> None:
        """Release the share of the budget. No references to the pictures may remain."""
        self._inputs = _NO_INPUTS
        on_release, self._on_release = self._on_release, None
        if on_release:
            on_release()


async def hold_inputs(
    request: ImageRequest, store: ImageStore, budget: ByteBudget, patience_seconds: float
) -> HeldInputs:
    """Load and check the pictures of a request within a budget. Errors as for `load_inputs`.

    Raises:
        InputMemoryFull: the budget was not available within `patience_seconds`; nothing was read.
    """
    size = await measure_inputs(request, store)
    if not size:
        return HeldInputs(await load_inputs(request, store))
    try:
        async with asyncio.timeout(patience_seconds):
            share = await budget.acquire(size)
    except TimeoutError:
        raise InputMemoryFull(
            f"Other calls hold the memory for input pictures (INPUT_MEMORY_MIB), and this call needs {size:,}"
            " bytes. Nothing was sent. Try again later, or raise INPUT_MEMORY_MIB."
        ) from None
    try:
        inputs = await load_inputs(request, store)
    except BaseException:
        budget.release(share)
        raise
    return HeldInputs(inputs, lambda: budget.release(share))


class Upload(io.RawIOBase):
    """A picture as a file that is read once, from start to end, and then dropped from memory."""

    def __init__(self, data: bytes, on_end: Callable[[], None]) -> None:
        super().__init__()
        self._data = memoryview(data)
        self._size = len(data)
        self._at = 0
        self._on_end: Callable[[], None] | None = on_end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        """Return True: HTTP clients find the size by seeking."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the current offset."""
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer. At the end, drop the data and call `on_end`."""
        target = memoryview(buffer)
        piece = self._data[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        if self._at >= self._size and self._on_end:
            self._data = memoryview(b"")
            on_end, self._on_end = self._on_end, None
            on_end()
        return len(piece)
