"""Define laps: a number of runs of one contestant, and what they took. Sent between processes as JSON lines."""

import json
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass(frozen=True, kw_only=True)
class Lap:
    """`runs` runs of a payload, `in_flight` at once."""

    runs: int
    in_flight: int
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LapTimes:
    """The driver's measurements: seconds for the whole lap, and for each run."""

    seconds: float
    latencies: list[float] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LapResult:
    """A lap's times, and the CPU seconds of each process by name."""

    runs: int
    times: LapTimes
    cpu_seconds: dict[str, float]

    @property
    def runs_per_second(self) -> float:
        """The rate of the whole lap."""
        return self.runs / self.times.seconds


def write_line(pipe: IO[str], value: dict[str, Any]) -> None:
    """Write one JSON object as a line and flush it."""
    pipe.write(json.dumps(value) + "\n")
    pipe.flush()


def read_line(line: str) -> dict[str, Any]:
    """Parse the object of a line."""
    value: dict[str, Any] = json.loads(line)
    return value
