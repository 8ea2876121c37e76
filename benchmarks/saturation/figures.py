"""Compute what a saturated site reached, from the provider's own books. Pure."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulator.request_log import BookEntry

WINDOW = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One measurement. `reached` is images made divided by images allowed, between `start` and `end`.

    `refused_share` is of all calls, from the first to the last. `busiest_minute` is the most images requested in any 60
    seconds, refused ones included. `images_by_worker` is between `start` and `end`.
    """

    limit: int
    seconds: float
    images: int
    reached: float
    calls: int
    refused: int
    busiest_minute: int
    images_by_worker: dict[str, int]

    @property
    def refused_share(self) -> float:
        """Calls answered 429 divided by all calls."""
        return self.refused / self.calls


def measure(entries: Sequence[BookEntry], *, limit: int, start: datetime, end: datetime) -> Figures:
    """Compute the figures of a period with more work than the limit. Requests count on arrival."""
    done = [entry for entry in entries if entry.status == 200 and start <= entry.time < end]
    images = sum(entry.n or 0 for entry in done)
    seconds = (end - start).total_seconds()
    by_worker = Counter[str]()
    for entry in done:
        by_worker[entry.project_id or ""] += entry.n or 0
    return Figures(
        limit=limit,
        seconds=seconds,
        images=images,
        reached=images / (limit * seconds / WINDOW.total_seconds()),
        calls=len(entries),
        refused=sum(entry.status == 429 for entry in entries),
        busiest_minute=_find_busiest_minute(entries),
        images_by_worker=dict(sorted(by_worker.items())),
    )


def _find_busiest_minute(entries: Sequence[BookEntry]) -> int:
    window, within, most = deque[BookEntry](), 0, 0
    for entry in sorted(entries, key=lambda entry: entry.time):
        window.append(entry)
        within += entry.n or 0
        while window[0].time <= entry.time - WINDOW:
            within -= window.popleft().n or 0
        most = max(most, within)
    return most
