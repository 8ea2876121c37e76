"""The memory that the pictures of edits may take in one worker: a budget in bytes that all of its calls share.

A call takes what its pictures weigh before it reads them, and gives it back as soon as they are on their way to the provider:
for the minutes in which the provider draws nobody needs them here.
"""

import asyncio
import io
from collections import deque
from collections.abc import Callable
from typing import Any

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.inputs import Inputs, load_inputs, measure_inputs
from gpt_image_runs.images.store import ImageStore

_NOTHING = Inputs((), None)


class InputMemoryFull(Exception):
    """Other calls hold the memory for pictures, and did not give enough of it back in time."""


class ByteBudget:
    """So many bytes, given out in the order in which they are asked for. Safe to use by many tasks of one event loop.

    What is larger than the whole budget waits until nobody holds anything, and then goes alone: it could wait for ever else.
    Nobody overtakes whoever waits, so that large requests are not starved by small ones.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.held = 0

    async def acquire(self, size: int) -> int:
        """Waits for so many bytes; returns what `release` is to be given."""
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
                self._admit()  # those behind it may fit
            else:  # given at the same moment
                self.release(share)
            raise
        return share

    def release(self, share: int) -> None:
        """Gives bytes back."""
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
    """The pictures of one request, and their share of a budget. Release it in any case; twice does no harm."""

    def __init__(self, inputs: Inputs = _NOTHING, on_release: Callable[[], None] | None = None) -> None:
        self._inputs = inputs
        self._on_release = on_release

    def hand_over(self) -> Inputs:
        """The pictures, which are no longer kept here: whoever has them drops them."""
        inputs, self._inputs = self._inputs, _NOTHING
        return inputs

    def release(self) -> None:
        """Gives their share of the budget back. Nobody may hold the pictures any more."""
        self._inputs = _NOTHING
        on_release, self._on_release = self._on_release, None
        if on_release:
            on_release()


async def hold_inputs(
    request: ImageRequest, store: ImageStore, budget: ByteBudget, patience_seconds: float
) -> HeldInputs:
    """Loads and checks the pictures of a request within a budget. Errors as for `load_inputs`.

    Raises:
        InputMemoryFull: others have held the budget for all that time; nothing was read.
    """
    size = await measure_inputs(request, store)
    if not size:
        return HeldInputs(await load_inputs(request, store))
    try:
        async with asyncio.timeout(patience_seconds):
            share = await budget.acquire(size)
    except TimeoutError:
        raise InputMemoryFull(
            f"The pictures of other calls take all the memory that INPUT_MEMORY_MIB allows, and this one's take {size:,}"
            " bytes; nothing was sent."
        ) from None
    try:
        inputs = await load_inputs(request, store)
    except BaseException:
        budget.release(share)
        raise
    return HeldInputs(inputs, lambda: budget.release(share))


class Upload(io.RawIOBase):
    """A picture as a file that is read once, from its beginning to its end, and is gone from memory then."""

    def __init__(self, data: bytes, on_end: Callable[[], None]) -> None:
        super().__init__()
        self._data = memoryview(data)
        self._size = len(data)
        self._at = 0
        self._on_end: Callable[[], None] | None = on_end

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes: its size is found by that."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a place."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Reads on. What was read to its end is let go."""
        target = memoryview(buffer)
        piece = self._data[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        if self._at >= self._size and self._on_end:
            self._data = memoryview(b"")
            on_end, self._on_end = self._on_end, None
            on_end()
        return len(piece)
