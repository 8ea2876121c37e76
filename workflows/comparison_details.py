"""What an operator reads at the top of the page of a comparison with the provider's books: markdown. Pure."""

from contracts.comparison import ComparisonSummary


def describe_comparison(summary: ComparisonSummary) -> str:
    """A comparison with the provider's books, as markdown for the Web UI."""
    return (
        f"**{summary.day}: {summary.verdict}**\n\n| | requests | USD |\n|---|---|---|\n"
        f"| this ledger, at list price | {summary.requests} (and {summary.unknown} unknown) | {summary.list_cost_usd} |\n"
        f"| the provider | {summary.provider_requests} | {summary.provider_cost_usd} |\n"
        f"| difference | {summary.provider_requests - summary.requests} | {summary.difference_usd} |\n\n"
        f"The whole comparison is in the ledger: {summary.comparison_id}"
    )
