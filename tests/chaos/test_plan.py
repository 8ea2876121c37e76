"""A seed is a plan."""

from collections import Counter

from simulator.faults import parse_fault
from tests.chaos.plan import SKEWS, Numbers, make_plan
from tests.chaos.planned_runs import FINAL, FREE, LOST, SLOW, USAGE


def test_same_seed_makes_the_same_plan() -> None:
    """A seed means the same runs, faults and events whenever it is asked for, and another seed means others."""
    numbers = Numbers.for_runs(60)
    assert make_plan(5, numbers) == make_plan(5, numbers)
    assert make_plan(5, numbers).runs != make_plan(6, numbers).runs


def test_plan_of_300_runs_holds_every_fault_and_event() -> None:
    """Plans of 300 runs hold every fault, and every event as often as the numbers say, while there is something to strike."""
    numbers = Numbers.for_runs(300)
    plan = make_plan(1, numbers)

    plans = [make_plan(seed, numbers) for seed in range(5)]
    faults = {fault for other in plans for run in other.runs for fault in run.faults}
    assert faults == {*FREE, *LOST, *SLOW, *USAGE, *FINAL}
    happens = Counter(event.kind for event in plan.events)
    assert happens == {
        "worker SIGKILL": 6 + 3,  # and one with each second of six outages
        "worker SIGTERM": 4,
        "Temporal SIGKILL": 2,
        "Temporal SIGTERM": 2,
        "ledger away": 3,
        "store away": 3,
        "again": 30,
        "race": 30,
    }
    assert all(1 <= event.after <= 300 for event in plan.events)
    assert [event.after for event in plan.events] == sorted(event.after for event in plan.events)


def test_plan_of_forty_runs_holds_every_kind_of_failure() -> None:
    """Forty runs are enough for a run that fails for good, one without usage, and one that gives up."""
    runs = make_plan(1, Numbers.for_runs(40)).runs
    assert any(set(run.faults) & set(FINAL) for run in runs)
    assert any(set(run.faults) & set(USAGE) for run in runs)
    assert any(len(run.faults) == 3 and set(run.faults) <= set(LOST) for run in runs)


def test_faults_are_known_and_marks_are_unique() -> None:
    """Every fault is one that the simulator knows, and every run's mark is in its own prompt alone."""
    runs = make_plan(3, Numbers.for_runs(50)).runs
    assert all(parse_fault(fault) for run in runs for fault in run.faults)
    for run in runs:
        assert [other.run_id for other in runs if run.mark in other.payload["prompt"]] == [run.run_id]


def test_plan_has_one_worker_with_a_wrong_clock() -> None:
    plans = [make_plan(seed, Numbers.for_runs(40)) for seed in range(20)]
    assert all(sorted(map(bool, plan.skews)) == [False, True] for plan in plans)
    assert {skew for plan in plans for skew in plan.skews if skew} == set(SKEWS)
