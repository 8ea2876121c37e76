"""The audit: everything that is wrong with a campaign's evidence, as sentences. Pure, and from outside the code under test.

Here are the runs and their pictures; payments and amounts are in `audit_money`, what tenants have spent in `audit_spend`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.audit_money import find_wrong_amounts, find_wrong_payments
from tests.chaos.audit_races import find_wrong_answers
from tests.chaos.audit_spend import find_wrong_spend
from tests.chaos.evidence import Evidence, Execution, Row
from tests.chaos.plan import Plan
from tests.chaos.planned_runs import PlannedRun
from tests.chaos.races import Race

# UNKNOWN_OUTCOME_RESENDS as the campaign's workers have it.
RESENDS = 2
# Why a run may fail, and the outcomes of which one of its attempts must have one then.
ALLOWED_FAILURES = {
    "ContentRefused": {"rejected"},
    "QuotaExhausted": {"rejected"},
    # With usage it was paid for, and is billed.
    "MalformedAnswer": {"unknown", "succeeded"},
    "TooManyUnknownOutcomes": {"unknown"},
}
# The same for a run that would rather be held: no doubt ends it by itself.
ALLOWED_FAILURES_OF_HELD = {
    "ContentRefused": {"rejected"},
    "QuotaExhausted": {"rejected"},
    "MalformedAnswer": {"succeeded"},
    "GivenUp": {"unknown"},
}
_STATES = {"charge": "billed", "estimate": "estimated", "hold": "pending"}


def find_violations(plan: Plan, evidence: Evidence) -> list[str]:
    """List everything that is wrong, a sentence each; empty where all promises were kept."""
    return [
        *_find_strangers(plan, evidence),
        *(problem for run in plan.runs for problem in _examine_run(run, evidence)),
        *(problem for race in plan.races for problem in _examine_race(race, evidence)),
        *find_wrong_answers(plan, evidence),
        *find_wrong_payments(evidence),
        *find_wrong_amounts(plan, evidence),
        *find_wrong_spend(evidence),
        *_find_forgotten_answers(evidence),
    ]


def completed_runs(evidence: Evidence) -> set[str]:
    """List the runs of which an execution has completed."""
    return {execution.run_id for execution in evidence.executions if execution.status == "COMPLETED"}


def _find_strangers(plan: Plan, evidence: Evidence) -> Iterator[str]:
    planned = {run.run_id for run in plan.all_runs}
    seen = {row["run_id"] for row in (*evidence.attempts, *evidence.entries)}
    seen |= {execution.run_id for execution in evidence.executions}
    yield from (f"{run_id} was never submitted." for run_id in sorted(seen - planned))


def _examine_run(run: PlannedRun, evidence: Evidence) -> Iterator[str]:
    executions = [execution for execution in evidence.executions if execution.run_id == run.run_id]
    attempts = [attempt for attempt in evidence.attempts if attempt["run_id"] == run.run_id]
    entries = [entry for entry in evidence.entries if entry["run_id"] == run.run_id]
    if not executions:
        yield f"{run.run_id} was accepted, and Temporal does not know it."
    for execution in executions:
        if execution.status == "RUNNING":
            yield f"{run.run_id} hangs."
        elif execution.status == "FAILED":
            yield from _examine_failure(run, execution, attempts)
        elif execution.status != "COMPLETED":
            yield f"{run.run_id} ended as {execution.status}."
    statuses = [execution.status for execution in executions]
    if "COMPLETED" in statuses and "FAILED" in statuses[statuses.index("COMPLETED") :]:
        yield f"{run.run_id} failed when it was submitted again, after it had completed."
    yield from _examine_resends(run, attempts, evidence.resends.get(run.run_id, 0))
    yield from _examine_entries(run, executions, entries)


def _examine_race(race: Race, evidence: Evidence) -> Iterator[str]:
    """Examine a race.

    An execution for content that does not own the id ends as a conflict; all else is as for any run.
    """
    run_id = race.run.run_id
    executions = [
        execution
        for execution in evidence.executions
        if execution.run_id == run_id and execution.failure_type != "RunConflict"
    ]
    attempts = [attempt for attempt in evidence.attempts if attempt["run_id"] == run_id]
    entries = [entry for entry in evidence.entries if entry["run_id"] == run_id]
    for execution in executions:
        if execution.status == "RUNNING":
            yield f"{run_id} hangs."
        elif execution.status == "FAILED":
            yield from _examine_failure(race.run, execution, attempts)
    yield from _examine_entries(race.run, executions, entries)


def _is_held(run: PlannedRun) -> bool:
    return run.payload.get("unknown_outcome") == "hold"


def _examine_resends(run: PlannedRun, attempts: Sequence[Row], decisions: int) -> Iterator[str]:
    unknown = sum(attempt["outcome"] == "unknown" for attempt in attempts)
    if _is_held(run) and unknown > decisions + 1:
        yield f"{run.run_id} was to be held, and has {unknown} unknown outcomes after {decisions} decisions to send again."


def _examine_failure(run: PlannedRun, execution: Execution, attempts: Sequence[Row]) -> Iterator[str]:
    kind = execution.failure_type or "nothing"
    allowed = ALLOWED_FAILURES_OF_HELD if _is_held(run) else ALLOWED_FAILURES
    if kind not in allowed:
        yield f"{execution.run_id} failed by {kind}, which is no reason to fail: {execution.failure}"
        return
    outcomes = Counter(attempt["outcome"] for attempt in attempts)
    if not any(outcomes[outcome] for outcome in allowed[kind]):
        yield f"{execution.run_id} failed by {kind}, and its attempts do not show it: {dict(outcomes)}."
    if kind == "TooManyUnknownOutcomes" and outcomes["unknown"] <= RESENDS:
        yield f"{execution.run_id} gave up after {outcomes['unknown']} unknown outcomes; {RESENDS + 1} are its right."


def _examine_entries(
    run: PlannedRun, executions: Sequence[Execution], entries: Sequence[Row]
) -> Iterator[str]:
    """Exactly one final billing state for a run that completed, none for a run that did not."""
    completed = [execution for execution in executions if execution.status == "COMPLETED"]
    if len(entries) > 1:
        yield f"{run.run_id} has {len(entries)} entries in the ledger: {[entry['entry_id'] for entry in entries]}."
    if completed and not entries:
        yield f"{run.run_id} completed and was never billed."
    undelivered = any(execution.failure_type == "MalformedAnswer" for execution in executions)
    if undelivered and any(entry["images"] for entry in entries):
        yield f"{run.run_id} has pictures, and failed as if it had none."
    over = all(execution.status != "RUNNING" for execution in executions)
    if entries and not completed and over and not undelivered:
        yield f"{run.run_id} never completed and was billed ({entries[0]['entry_id']})."
    for execution in completed:
        yield from _examine_result(run, execution, entries)


def _examine_result(run: PlannedRun, execution: Execution, entries: Sequence[Row]) -> Iterator[str]:
    result = execution.result or {}
    told = (result["billing"]["entry_id"], result["billing"]["state"], result["cost"]["amount_usd"])
    written = [
        (entry["entry_id"], _STATES.get(entry["kind"]), _as_usd(entry["amount_micro_usd"]))
        for entry in entries
    ]
    if told not in written:
        yield f"{run.run_id} was told {told}, and the ledger says {written}."
    if len(result["images"]) != run.payload["n"]:
        yield f"{run.run_id} asked for {run.payload['n']} pictures and was promised {len(result['images'])}."


def find_wrong_pictures(evidence: Evidence) -> Iterator[str]:
    """Check that every image that a result or an entry names is there, byte for byte."""
    promised = [
        (execution.run_id, image)
        for execution in evidence.executions
        for image in (execution.result or {"images": ()})["images"]
    ]
    promised += [(entry["run_id"], image) for entry in evidence.entries for image in entry["images"]]
    for run_id, image in promised:
        found = evidence.pictures.get(image["uri"])
        if found is None:
            yield f"{run_id} was promised {image['uri']}, which is not there."
        elif found != (image["sha256"], image["bytes"]):
            yield f"{run_id} was promised {image['uri']}, whose bytes are others: {found}."


def _find_forgotten_answers(evidence: Evidence) -> Iterator[str]:
    yield from find_wrong_pictures(evidence)
    for attempt in evidence.attempts:
        if attempt["outcome"] == "unknown" and attempt["attempt_id"] in evidence.receipts:
            yield f"{attempt['run_id']}: the answer of attempt {attempt['attempt_id']} was kept and never adopted."


def _as_usd(micro_usd: int | None) -> str | None:
    return None if micro_usd is None else f"{micro_usd // 1_000_000}.{micro_usd % 1_000_000:06d}"
