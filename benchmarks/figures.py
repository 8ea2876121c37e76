"""Compute the figures of a benchmark's tables from laps. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.laps import LapResult


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal: what was wanted, what was measured, and whether that meets it."""

    name: str
    wanted: str
    measured: str
    is_met: bool


def median_rate(laps: Sequence[LapResult]) -> float:
    """Return the runs per second of the median lap."""
    return statistics.median(lap.runs_per_second for lap in laps)


def median_ratio(laps: Sequence[LapResult], others: Sequence[LapResult]) -> float:
    """Return the median of the ratios of both rates, round by round.

    A slow round affects both alike.
    """
    return statistics.median(
        lap.runs_per_second / other.runs_per_second for lap, other in zip(laps, others, strict=True)
    )


def cpu_per_run(laps: Sequence[LapResult]) -> dict[str, float]:
    """Return the milliseconds of CPU per run, by process, over all laps."""
    runs = sum(lap.runs for lap in laps)
    return {name: 1000 * sum(lap.cpu_seconds[name] for lap in laps) / runs for name in laps[0].cpu_seconds}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def latencies(laps: Sequence[LapResult]) -> list[float]:
    """Return the milliseconds of every run."""
    return [1000 * seconds for lap in laps for seconds in lap.times.latencies]
