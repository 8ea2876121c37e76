"""The arithmetic of a benchmark: from laps to the numbers in its tables. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.laps import LapResult


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What was wished for, what was measured, and whether that is enough."""

    name: str
    wanted: str
    measured: str
    is_met: bool


def median_rate(laps: Sequence[LapResult]) -> float:
    """Runs per second in the middle one of the laps."""
    return statistics.median(lap.runs_per_second for lap in laps)


def median_ratio(laps: Sequence[LapResult], others: Sequence[LapResult]) -> float:
    """How much faster than the others', round by round: what slows a whole round down hits both."""
    return statistics.median(
        lap.runs_per_second / other.runs_per_second for lap, other in zip(laps, others, strict=True)
    )


def cpu_per_run(laps: Sequence[LapResult]) -> dict[str, float]:
    """Milliseconds of CPU for each run, by process, over all laps."""
    runs = sum(lap.runs for lap in laps)
    return {name: 1000 * sum(lap.cpu_seconds[name] for lap in laps) / runs for name in laps[0].cpu_seconds}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least `share` (0 to 1) of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def latencies(laps: Sequence[LapResult]) -> list[float]:
    """Milliseconds of every run."""
    return [1000 * seconds for lap in laps for seconds in lap.times.latencies]
