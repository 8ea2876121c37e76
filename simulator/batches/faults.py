"""Define the faults of whole batches, each for the next batch or download. `simulator.faults` has those of lines."""

from enum import Enum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field


class BatchFaultKind(Enum):
    """A kind of fault: its name and what it does."""

    description: str

    def __new__(cls, name: str, description: str) -> Self:
        kind = object.__new__(cls)
        kind._value_ = name
        kind.description = description
        return kind

    VALIDATION_FAILED = "validation_failed", "the batch fails after its creation, nothing is executed"
    EXPIRED = "expired", "the window closes after `lines` lines"
    CREATE_REPLY_LOST = "create_reply_lost", "the batch is created, then the connection is reset"
    CREATE_REPLY_HANGS = (
        "create_reply_hangs",
        "the batch is created, then no response until the client disconnects",
    )
    OUTPUT_GONE = "output_gone", "the output file is missing when the batch ends"
    LINES_UNTOLD = "lines_untold", "`lines` lines are in neither file"
    DOWNLOAD_CUT_OFF = "download_cut_off", "one download ends halfway"


class BatchFault(BaseModel):
    """One fault. `lines` applies to the kinds that mention it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: BatchFaultKind
    lines: Annotated[int, Field(ge=0)] = 0


class BatchScript:
    """A queue of faults, each for one event, first in first out for each kind."""

    def __init__(self) -> None:
        self._queue: list[BatchFault] = []

    @property
    def queued(self) -> tuple[BatchFault, ...]:
        """The faults that are still queued."""
        return tuple(self._queue)

    def add(self, *faults: BatchFault) -> None:
        """Queue faults."""
        self._queue.extend(faults)

    def take(self, *kinds: BatchFaultKind) -> BatchFault | None:
        """Remove and return the next fault of one of these kinds, or None."""
        for index, fault in enumerate(self._queue):
            if fault.kind in kinds:
                return self._queue.pop(index)
        return None
