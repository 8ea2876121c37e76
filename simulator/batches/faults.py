"""The faults of a whole batch that can be asked for, each for the next batch or download. Those of a line are in `faults`."""

from enum import Enum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field


class BatchFaultKind(Enum):
    """Every kind: its name and what it does."""

    description: str

    def __new__(cls, name: str, description: str) -> Self:
        kind = object.__new__(cls)
        kind._value_ = name
        kind.description = description
        return kind

    VALIDATION_FAILED = "validation_failed", "the batch fails after its creation, nothing is carried out"
    EXPIRED = "expired", "the window closes after `lines` lines"
    CREATE_REPLY_LOST = "create_reply_lost", "the batch is created, then the connection is reset"
    CREATE_REPLY_HANGS = (
        "create_reply_hangs",
        "the batch is created, and no answer until the client goes away",
    )
    OUTPUT_GONE = "output_gone", "the output file is gone when the batch ends"
    LINES_UNTOLD = "lines_untold", "`lines` lines are in neither file"
    DOWNLOAD_CUT_OFF = "download_cut_off", "one download ends half-way"


class BatchFault(BaseModel):
    """One fault; `lines` counts for the kinds that say so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: BatchFaultKind
    lines: Annotated[int, Field(ge=0)] = 0


class BatchScript:
    """What is to strike next: one fault for one event, first in first out for each kind."""

    def __init__(self) -> None:
        self._queue: list[BatchFault] = []

    @property
    def queued(self) -> tuple[BatchFault, ...]:
        """What is still waiting."""
        return tuple(self._queue)

    def add(self, *faults: BatchFault) -> None:
        """Scripts faults."""
        self._queue.extend(faults)

    def take(self, *kinds: BatchFaultKind) -> BatchFault | None:
        """The next fault of one of these kinds, used up; None where none waits."""
        for index, fault in enumerate(self._queue):
            if fault.kind in kinds:
                return self._queue.pop(index)
        return None
