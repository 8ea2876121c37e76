"""The benchmark's arithmetic, against numbers worked out by hand."""

import os

import pytest

from benchmarks.figures import cpu_per_run, latencies, median_rate, median_ratio, percentile
from benchmarks.laps import LapResult, LapTimes
from benchmarks.processes import cpu_seconds, peak_megabytes


def lap(runs: int, seconds: float, **cpu: float) -> LapResult:
    return LapResult(runs=runs, times=LapTimes(seconds=seconds, latencies=[0.5, 0.25]), cpu_seconds=cpu)


def test_median_rate_is_the_rate_of_the_median_lap() -> None:
    """100 runs in 5, 4 and 20 seconds are 20, 25 and 5 a second."""
    assert median_rate([lap(100, 5.0), lap(100, 4.0), lap(100, 20.0)]) == 20


def test_median_ratio_ignores_a_round_slow_for_both() -> None:
    """The ratios are 20/40, 4/8 and 30/40."""
    ours = [lap(100, 5.0), lap(100, 25.0), lap(120, 4.0)]
    floor = [lap(100, 2.5), lap(100, 12.5), lap(120, 3.0)]
    assert median_ratio(ours, floor) == 0.5


def test_cpu_per_run_sums_all_laps() -> None:
    """Two laps of 100 and 300 runs with 2 and 6 seconds of one process are 20 ms a run."""
    laps = [lap(100, 1.0, server=2.0, worker=1.0), lap(300, 1.0, server=6.0, worker=1.0)]
    assert cpu_per_run(laps) == {"server": 20, "worker": 5}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3), (0.95, 5), (0.2, 1), (1, 5), (0, 1)])
def test_percentile_is_the_smallest_value_covering_the_share(share: float, expected: int) -> None:
    assert percentile([5, 1, 4, 2, 3], share) == expected


def test_latencies_are_milliseconds_of_every_run() -> None:
    assert latencies([lap(2, 1.0), lap(2, 1.0)]) == [500, 250, 500, 250]


def test_cpu_time_and_peak_memory_of_a_process_are_read() -> None:
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) < before + 0.02:
        pass
    assert peak_megabytes(os.getpid()) > 10
