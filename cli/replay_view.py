"""A history that does not replay, for people: which it is, where it parts from this code, and what to do."""

from collections.abc import Sequence

from runtime.replay import Replayed

INSTRUCTIONS = """\
Runs like these may be under way: with this code they would stand still until it is mended. Change the code, not the history:
  1. Put the change behind `if workflow.patched("what-changed"):` and leave the old way in the other branch. Then run
     `python -m tests.e2e.save_histories` with a shape that takes the new way, so that it is guarded too. Or
  2. deploy it as a new build, WORKER_DEPLOYMENT_NAME and WORKER_BUILD_ID, and keep the old workers until their runs have
     ended: `temporal worker deployment describe --name NAME` says "drained" then.
docs/change.md has both, step by step, and how to go back."""
_SHOWN_AROUND = 3


def describe_failures(replayed: Sequence[Replayed]) -> str:
    """All of them and what to do, empty where every history replays."""
    failed = [describe_failure(each) for each in replayed if each.words is not None]
    return "\n\n".join([*failed, INSTRUCTIONS]) if failed else ""


def describe_failure(replayed: Replayed) -> str:
    """One history: what the run did beside what this code does, and Temporal's words."""
    head = (
        f"{replayed.name} ({replayed.workflow_type}, {replayed.events} events) does not replay on this code."
    )
    return "\n".join([head, *_show_steps(replayed), f"  Replaying ended with: {replayed.words}"])


def _show_steps(replayed: Replayed) -> list[str]:
    place = replayed.first_difference
    if place is None:
        told = "The steps are the same: a timer, a patch, a search attribute, a signal or the end differs, or the code failed."
        return [f"  {told}"]
    asked = dict(enumerate(replayed.asked))
    asks = dict(enumerate(replayed.asks))
    lines = [f"  Step {place + 1} differs:"]
    for index in range(max(0, place - _SHOWN_AROUND), min(place + 2, max(len(asked), len(asks)))):
        then, now = asked.get(index, "nothing more"), asks.get(index, "nothing (it waits, ends or fails)")
        mark = ">" if index == place else " "
        lines.append(f"  {mark} {index + 1}. the run: {then:<32} this code: {now}")
    return lines
