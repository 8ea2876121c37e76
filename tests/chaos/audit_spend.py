"""The audit of what tenants have spent: the ledger's counters against its attempts and entries, by other sums than its own."""

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Row

_LENGTHS = {"months": len("2026-11"), "days": len("2026-11-23")}


def find_wrong_spend(evidence: Evidence) -> Iterator[str]:
    """Check each tenant's daily and monthly counters against its bills and open worst cases."""
    expected = _expect_spend(evidence)
    for spans, length in _LENGTHS.items():
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for counter in evidence.spend:
            if len(counter["span"]) == length:
                _add(found[counter["tenant"]], counter["used_micro_usd"], counter["reserved_micro_usd"])
        for tenant in sorted(expected.keys() | found.keys()):
            if found[tenant] != expected[tenant]:
                yield (
                    f"{tenant} has used and reserved {expected[tenant]} micro-USD, and its counters of {spans} say"
                    f" {found[tenant]}."
                )


def _expect_spend(evidence: Evidence) -> dict[str, list[int]]:
    amounts = {
        entry["attempt_id"]: entry["amount_micro_usd"]
        for entry in evidence.entries
        if entry["amount_micro_usd"] is not None
    }
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for attempt in evidence.attempts:
        _, tenant, _ = attempt["run_id"].split(":")
        _add(expected[tenant], *_expect_of(attempt, amounts.get(attempt["attempt_id"])))
    return expected


def _expect_of(attempt: Row, amount: int | None) -> tuple[int, int]:
    if amount is not None:
        return amount, 0
    return 0, 0 if attempt["outcome"] in {"rejected", "not_sent"} else attempt["reserved_micro_usd"] or 0


def _add(total: list[int], used: int, reserved: int) -> None:
    total[0] += used
    total[1] += reserved
