"""The Web UI page of a comparison with the provider."""

from datetime import date

from gpt_image_runs.contracts.provider_reconciliation import ComparisonSummary
from workflows.provider_reconciliation import describe_comparison


def test_comparison_is_a_table_of_both_sides_and_their_difference() -> None:
    summary = ComparisonSummary(
        comparison_id="cmp_1",
        day=date(2026, 11, 22),
        verdict="explained",
        requests=10,
        unknown=2,
        provider_requests=11,
        list_cost_usd="1.666500",
        provider_cost_usd="1.833150",
        difference_usd="0.166650",
    )

    assert describe_comparison(summary).splitlines() == [
        "**2026-11-22: explained**",
        "",
        "| | requests | USD |",
        "|---|---|---|",
        "| this ledger, at list price | 10 (and 2 unknown) | 1.666500 |",
        "| the provider | 11 | 1.833150 |",
        "| difference | 1 | 0.166650 |",
        "",
        "The whole comparison is in the ledger: cmp_1",
    ]
