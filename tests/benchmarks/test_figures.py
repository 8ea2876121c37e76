"""The benchmark's arithmetic, by numbers that were worked out by hand."""

import os

import pytest

from benchmarks.figures import cpu_per_run, latencies, median_rate, median_ratio, percentile
from benchmarks.laps import LapResult, LapTimes
from benchmarks.processes import cpu_seconds, peak_megabytes


def lap(runs: int, seconds: float, **cpu: float) -> LapResult:
    return LapResult(runs=runs, times=LapTimes(seconds=seconds, latencies=[0.5, 0.25]), cpu_seconds=cpu)


def test_rates() -> None:
    """100 runs in 5, 4 and 20 seconds are 20, 25 and 5 a second: 20 in the middle."""
    assert median_rate([lap(100, 5.0), lap(100, 4.0), lap(100, 20.0)]) == 20


def test_a_slow_round_does_not_spoil_a_ratio() -> None:
    """A round that is five times slower for both changes nothing: 20/40, 4/8 and 30/40 have 0.5 in the middle."""
    ours = [lap(100, 5.0), lap(100, 25.0), lap(120, 4.0)]
    floor = [lap(100, 2.5), lap(100, 12.5), lap(120, 3.0)]
    assert median_ratio(ours, floor) == 0.5


def test_cpu_per_run() -> None:
    """Two laps of 100 and 300 runs with 2 and 6 seconds of one process are 20 ms a run."""
    laps = [lap(100, 1.0, server=2.0, worker=1.0), lap(300, 1.0, server=6.0, worker=1.0)]
    assert cpu_per_run(laps) == {"server": 20, "worker": 5}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3), (0.95, 5), (0.2, 1), (1, 5), (0, 1)])
def test_percentile(share: float, expected: int) -> None:
    """Of five values half do not exceed the third, and 95 of 100 of them do not exceed the fifth."""
    assert percentile([5, 1, 4, 2, 3], share) == expected


def test_latencies_are_milliseconds() -> None:
    """Every run of every lap counts."""
    assert latencies([lap(2, 1.0), lap(2, 1.0)]) == [500, 250, 500, 250]


def test_a_process_is_measured() -> None:
    """This process has used CPU time, and holds more than an interpreter's few megabytes."""
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) < before + 0.02:
        pass
    assert peak_megabytes(os.getpid()) > 10
