"""A lap: so many runs of one contestant, and what they took. Values only, and how they travel between processes."""

import json
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass(frozen=True, kw_only=True)
class Lap:
    """An order: `runs` runs of a payload, `in_flight` at once."""

    runs: int
    in_flight: int
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LapTimes:
    """What the driver saw: seconds for the whole lap, and for each of its runs."""

    seconds: float
    latencies: list[float] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LapResult:
    """A lap as the bench keeps it: its times, and the CPU seconds of each process by its name."""

    runs: int
    times: LapTimes
    cpu_seconds: dict[str, float]

    @property
    def runs_per_second(self) -> float:
        """The rate of the whole lap."""
        return self.runs / self.times.seconds


def write_line(pipe: IO[str], value: dict[str, Any]) -> None:
    """One JSON object as one line, at once."""
    pipe.write(json.dumps(value) + "\n")
    pipe.flush()


def read_line(line: str) -> dict[str, Any]:
    """The object of a line."""
    value: dict[str, Any] = json.loads(line)
    return value
