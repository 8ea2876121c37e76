"""A campaign's plan, whole from its seed: the runs, and what happens to the site when. Pure.

Moments are counted in runs that have ended, not in seconds: so a seed means the same plan on every machine.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.chaos.planned_runs import PlannedRun, plan_runs
from tests.chaos.races import Race, plan_races

# Seconds by which one worker's clock is ahead, or behind.
SKEWS = (45, -45, 86_400, -86_400)

EventKind = Literal[
    "worker SIGKILL",
    "worker SIGTERM",
    "Temporal SIGKILL",
    "Temporal SIGTERM",
    "ledger away",
    "store away",
    "again",
    "race",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happens once `after` runs have ended. `target` is a worker, the run that is submitted again, or the race."""

    after: int
    kind: EventKind
    target: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a campaign does. Events are in order; those with the same `after` happen at the same time."""

    seed: int
    runs: tuple[PlannedRun, ...]
    events: tuple[Event, ...]
    races: tuple[Race, ...] = ()
    # Of each worker's clock, in seconds.
    skews: tuple[int, ...] = ()

    @property
    def all_runs(self) -> tuple[PlannedRun, ...]:
        """The runs that are submitted alone, and those of the races."""
        return (*self.runs, *(race.run for race in self.races))


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How often each thing happens."""

    runs: int
    worker_kills: int
    worker_stops: int
    temporal_kills: int
    temporal_stops: int
    ledger_outages: int
    store_outages: int
    repeats: int
    outage_seconds: float
    races: int
    workers: int = 2

    @classmethod
    def for_runs(cls, runs: int) -> "Numbers":
        """Choose the numbers for a campaign of this size: each expensive event about once in 50 to 100 runs."""
        return cls(
            runs=runs,
            worker_kills=max(2, runs // 50),
            worker_stops=max(1, runs // 75),
            temporal_kills=max(1, runs // 150),
            temporal_stops=max(1, runs // 150),
            ledger_outages=max(1, runs // 100),
            store_outages=max(1, runs // 100),
            repeats=max(2, runs // 10),
            outage_seconds=6.0,
            races=max(1, runs // 10),
        )


def make_plan(seed: int, numbers: Numbers) -> Plan:
    """Make the plan of a seed: the same for the same arguments, on any day."""
    dice = random.Random(seed)
    runs = plan_runs(seed, numbers.runs, dice)
    events = _plan_events(numbers, dice)
    races = plan_races(seed, numbers.races, dice)
    starts = [
        Event(after=dice.randrange(1, numbers.runs), kind="race", target=target)
        for target in range(numbers.races)
    ]
    skews = [0] * numbers.workers
    skews[dice.randrange(numbers.workers)] = dice.choice(SKEWS)
    return Plan(
        seed=seed,
        runs=runs,
        events=tuple(sorted([*events, *starts], key=lambda event: event.after)),
        races=races,
        skews=tuple(skews),
    )


def _plan_events(numbers: Numbers, dice: random.Random) -> tuple[Event, ...]:
    """Spread over the runs. Each second outage strikes together with the death of a worker."""
    moments = _spread(numbers, dice)
    kinds = _list_kinds(numbers)
    dice.shuffle(kinds)
    events = [
        Event(
            after=next(moments),
            kind=kind,
            target=dice.randrange(numbers.workers),
            seconds=numbers.outage_seconds if kind.endswith("away") else 0.0,
        )
        for kind in kinds
    ]
    outages = [event for event in events if event.seconds]
    events += [
        Event(after=event.after, kind="worker SIGKILL", target=dice.randrange(numbers.workers))
        for event in outages[1::2]
    ]
    events += [
        Event(after=dice.randrange(1, numbers.runs), kind="again", target=dice.randrange(numbers.runs))
        for _ in range(numbers.repeats)
    ]
    return tuple(sorted(events, key=lambda event: event.after))


def _list_kinds(numbers: Numbers) -> list[EventKind]:
    counts: dict[EventKind, int] = {
        "worker SIGKILL": numbers.worker_kills,
        "worker SIGTERM": numbers.worker_stops,
        "Temporal SIGKILL": numbers.temporal_kills,
        "Temporal SIGTERM": numbers.temporal_stops,
        "ledger away": numbers.ledger_outages,
        "store away": numbers.store_outages,
    }
    return [kind for kind, count in counts.items() for _ in range(count)]


def _spread(numbers: Numbers, dice: random.Random) -> Iterator[int]:
    """Moments in order, one for each event, from the first runs to nine in ten: later nothing is left to strike."""
    count = len(_list_kinds(numbers))
    reach = numbers.runs * 9 // 10
    for index in range(count):
        low, high = reach * index // count, reach * (index + 1) // count
        yield dice.randrange(low, max(low + 1, high)) + 1
