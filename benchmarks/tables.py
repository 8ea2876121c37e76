"""Format a benchmark's results as the Markdown tables of docs/explanation/benchmarks.md. Pure."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Goal, cpu_per_run, latencies, median_rate, median_ratio, percentile
from benchmarks.measures import HistorySize, Laps

_TITLES = {
    "bare": "(a) bare workflow",
    "full": "(b) our run",
    "plain": "(c) plain SDK call",
    "dbos": "(d) DBOS",
}
_WORKERS = ("worker", "bare worker")
_MIN_SHARE_OF_BARE, _MAX_ADDED_RATIO, _MAX_EXTRA_MEGABYTES = 0.9, 1.2, 150


@dataclass(frozen=True, kw_only=True)
class Report:
    """All measurements: laps with many runs in flight, laps with one at a time, histories, memory in MB."""

    concurrent: Laps
    sequential: Laps
    histories: Mapping[str, HistorySize]
    memory: Mapping[str, float]


def format_report(report: Report) -> str:
    """Format the tables, and which goals are met."""
    return "\n".join(
        [
            f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end.",
            *("", *_table(("", "runs/s", "of (a)", "server", "worker", "provider", "starter", "CPU in all"))),
            *(_format_rate(name, report.concurrent) for name in _TITLES),
            *("", *_table(("one run at a time", "p50 ms", "p95 ms", "added p50", "added p95"))),
            *(_format_latency(name, report.sequential) for name in _TITLES),
            *("", *_table(("history", "events", "bytes"))),
            *(
                _row(_TITLES[name], str(size.events), f"{size.size_bytes:,}")
                for name, size in report.histories.items()
            ),
            *("", *_table(("peak memory", "MB"))),
            *(_row(name, f"{megabytes:.0f}") for name, megabytes in report.memory.items()),
            *("", *_table(("goal", "wanted", "measured", "met"))),
            *(
                _row(goal.name, goal.wanted, goal.measured, "yes" if goal.is_met else "no")
                for goal in list_goals(report)
            ),
            "",
        ]
    )


def list_goals(report: Report) -> Iterator[Goal]:
    """Yield each goal with its measurement."""
    of_floor = median_ratio(report.concurrent["full"], report.concurrent["bare"])
    yield Goal(
        name="(b)/(a), runs/s",
        wanted=f"at least {_MIN_SHARE_OF_BARE}",
        measured=f"{of_floor:.2f}",
        is_met=of_floor >= _MIN_SHARE_OF_BARE,
    )
    of_dbos = median_ratio(report.concurrent["full"], report.concurrent["dbos"])
    yield Goal(name="(b)/(d), runs/s", wanted="above 1", measured=f"{of_dbos:.2f}", is_met=of_dbos > 1)
    added = _added_latency(report.sequential, "full", 0.5) / _added_latency(report.sequential, "bare", 0.5)
    yield Goal(
        name="added latency, (b)/(a), p50",
        wanted=f"under {_MAX_ADDED_RATIO}",
        measured=f"{added:.2f}",
        is_met=added < _MAX_ADDED_RATIO,
    )
    more = report.memory["worker"] - report.memory["plain"]
    yield Goal(
        name="worker's memory above (c)'s",
        wanted=f"at most {_MAX_EXTRA_MEGABYTES} MB",
        measured=f"{more:.0f} MB",
        is_met=more <= _MAX_EXTRA_MEGABYTES,
    )


def _format_rate(name: str, concurrent: Laps) -> str:
    laps, cpu = concurrent[name], cpu_per_run(concurrent[name])
    workers = sum(cpu[worker] for worker in _WORKERS)
    parts = (cpu["server"], workers, cpu["simulator"], cpu["driver"], sum(cpu.values()))
    ratio = median_ratio(laps, concurrent["bare"])
    return _row(
        _TITLES[name], f"{median_rate(laps):.1f}", f"{ratio:.2f}", *(f"{part:.1f} ms" for part in parts)
    )


def _format_latency(name: str, sequential: Laps) -> str:
    times = latencies(sequential[name])
    figures = [percentile(times, 0.5), percentile(times, 0.95)]
    figures += [_added_latency(sequential, name, share) for share in (0.5, 0.95)]
    return _row(_TITLES[name], *(f"{figure:.1f}" for figure in figures))


def _added_latency(sequential: Laps, name: str, share: float) -> float:
    """Return the milliseconds beyond the median plain call. `bare` calls no provider."""
    provider = 0.0 if name == "bare" else percentile(latencies(sequential["plain"]), 0.5)
    return percentile(latencies(sequential[name]), share) - provider


def _table(head: Sequence[str]) -> list[str]:
    return [_row(*head), _row(*["---"] * len(head))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
