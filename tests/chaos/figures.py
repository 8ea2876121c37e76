"""The figures of a campaign: what was done, what was paid, what was billed, what may have been paid for nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from tests.chaos.audit_races import find_owner
from tests.chaos.evidence import Evidence, Row
from tests.chaos.plan import Plan
from tests.chaos.prices import charge_micro_usd

_STATES = {"charge": "billed", "estimate": "estimated", "hold": "pending"}


def list_figures(
    plan: Plan, evidence: Evidence, happened: Mapping[str, int], restarts: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Build the rows of the table: what, and how much."""
    states: Counter[str] = Counter(_STATES.get(entry["kind"], "other") for entry in evidence.entries)
    failures: Counter[str] = Counter(
        execution.failure_type or "?" for execution in evidence.executions if execution.status == "FAILED"
    )
    faults: Counter[str] = Counter(payment["fault"] for payment in evidence.books if payment["fault"])
    requests = f"{len(evidence.books)}, {len(evidence.attempts)} attempts written down"
    return [
        ("runs", f"{len(plan.runs)} ({len(evidence.executions)} executions)"),
        ("billing states", _join(states)),
        ("failed executions", _join(failures)),
        ("requests to the provider", requests),
        ("faults", _join(faults)),
        ("kills, outages, repeats", _join(happened)),
        ("parts started again", _join(restarts)),
        ("races for one id", _describe_races(plan, evidence)),
        ("clocks", _describe_clocks(plan, evidence)),
        *_list_money(evidence),
    ]


def _list_money(evidence: Evidence) -> list[tuple[str, str]]:
    billed = {entry["attempt_id"] for entry in evidence.entries}
    attempts = {attempt["client_request_id"]: attempt for attempt in evidence.attempts}
    paid = [payment for payment in evidence.books if payment["paid"]]
    unknown = [attempt for attempt in evidence.attempts if attempt["outcome"] == "unknown"]
    in_vain, lost = [], []
    for payment in paid:
        attempt = attempts.get(payment["client_request_id"], {})
        if attempt.get("outcome") == "unknown":
            in_vain.append(payment)
        elif attempt.get("attempt_id") not in billed:
            lost.append(payment)
    return [
        ("paid", _sum(_charge(payment) for payment in paid)),
        ("billed", _sum(entry["amount_micro_usd"] or 0 for entry in evidence.entries)),
        ("exposure", f"{_sum(attempt['reserved_micro_usd'] or 0 for attempt in unknown)} reserved"),
        ("of it really paid", _sum(_charge(payment) for payment in in_vain)),
        ("lost", str(len(lost))),
    ]


def _describe_races(plan: Plan, evidence: Evidence) -> str:
    owners = {prompt for race in plan.races for prompt in find_owner(race, evidence)}
    taken = [answer for answer in evidence.answers if answer.prompt in owners]
    told: Counter[str] = Counter(answer.status for answer in taken)
    strangers: Counter[str] = Counter(
        answer.status for answer in evidence.answers if answer.prompt not in owners
    )
    return (
        f"{len(plan.races)} ids, {len(evidence.answers)} callers; of the owner's content: {_join(told)},"
        f" {sum(answer.entry_id is not None for answer in taken)} got its result; of others: {_join(strangers)}"
    )


def _describe_clocks(plan: Plan, evidence: Evidence) -> str:
    """Count the attempts that were stamped by a wrong clock, by the provider's own clock."""
    skew = next((skew for skew in plan.skews if skew), 0)
    if not skew:
        return "all right"
    arrived = {payment["client_request_id"]: _read_moment(payment["time"]) for payment in evidence.books}
    wrong = sum(
        abs((_read_moment(attempt["sent_at"]) - arrived[attempt["client_request_id"]]).total_seconds() - skew)
        < abs(skew) / 2
        for attempt in evidence.attempts
        if attempt["client_request_id"] in arrived
    )
    side = "ahead" if skew > 0 else "behind"
    return f"worker {plan.skews.index(skew)} is {abs(skew)} s {side}: {wrong} of {len(evidence.attempts)} attempts"


def _read_moment(value: str | datetime) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _charge(payment: Row) -> int:
    return charge_micro_usd(payment["model"], payment["usage"])


def _join(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _sum(micro_usd: Iterable[int]) -> str:
    amounts = list(micro_usd)
    total = sum(amounts)
    return f"{len(amounts)} x, {total // 1_000_000}.{total % 1_000_000:06d} USD"
