"""`reconcile-provider` without servers: what it refuses, and how a comparison looks. With servers: `test_with_servers.py`."""

import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from rich.console import Console

from cli.ledger.reconcile_provider import describe_comparison
from gpt_image_runs.billing.reconciliation.compare import compare_day
from gpt_image_runs.billing.reconciliation.matching import ComparedAttempt
from gpt_image_runs.contracts.provider_reconciliation import (
    ComparisonOrder,
    CostLine,
    ProviderDay,
    RecordedComparison,
    RequestCount,
)
from tests.support.runs.command_line import CommandLine

TEN = datetime(2026, 11, 20, 10, tzinfo=UTC)
NOON = TEN + timedelta(hours=2)
PAID = ComparedAttempt(
    attempt_id="att_paid",
    run_id="image:acme:paid",
    model="gpt-image-1",
    outcome="succeeded",
    sent_at=TEN,
    finished_at=TEN,
    reserved_micro_usd=250_000,
    billed=True,
    list_cost_micro_usd=166_650,
    exact=True,
    images=1,
)
LOST = replace(
    PAID,
    attempt_id="att_lost",
    run_id="image:acme:lost",
    outcome="unknown",
    billed=False,
    list_cost_micro_usd=None,
)
TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


def show(attempts: tuple[ComparedAttempt, ...], counts: dict[datetime, int], *amounts: str) -> str:
    """What a person reads of a comparison, at 120 columns."""
    books = ProviderDay(
        counts=tuple(
            RequestCount(start=start, model="gpt-image-1", requests=requests, images=requests)
            for start, requests in counts.items()
        ),
        lines=tuple(CostLine(line_item="gpt-image-1, image_out", amount_usd=amount) for amount in amounts),
    )
    comparison = compare_day(ComparisonOrder(), date(2026, 11, 20), "openai", attempts, books)
    recorded = RecordedComparison(comparison_id="cmp_1", recorded_at=NOON, comparison=comparison)
    console = Console(file=io.StringIO(), width=120)
    for part in describe_comparison(recorded):
        console.print(part, soft_wrap=isinstance(part, str))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--day", "yesterday"), "'yesterday' is not a valid day. Use YYYY-MM-DD, for example 2026-11-22."),
        (("--day", TOMORROW), f"{TOMORROW} is in the future"),
        (("--day", "2026-11-20", "--schedule"), "leave out --day"),
        (("--api-key", "sk-proj-secret"), "never the key itself"),
    ],
)
def test_invalid_comparison_options_are_refused(
    run: CommandLine, options: tuple[str, ...], sentence: str
) -> None:
    """A day that is none or has not begun, contradicting options and a secret are refused before anybody is asked."""
    ended = run("reconcile-provider", *options)
    assert (ended.status, ended.out) == (2, "")
    assert sentence in ended.err
    assert "secret" not in ended.err


def test_missing_server_is_reported(run: CommandLine) -> None:
    """Without Temporal there is one sentence that says what to do."""
    ended = run("reconcile-provider", "--json")
    assert ended.status == 1
    assert "No Temporal server answers" in ended.document["message"]


def test_equal_books_are_one_line() -> None:
    """Where the books say the same, there is the verdict, the table and nothing to look at."""
    shown = show((PAID,), {TEN: 1}, "0.166650")
    assert shown.startswith("✓ The ledger and the provider's books agree (2026-11-20, openai)\n")
    assert "0.000000" in shown
    assert "att_" not in shown
    assert shown.endswith("Recorded in the ledger as cmp_1.\n")


def test_an_attempt_that_explains_a_difference_is_shown() -> None:
    """An attempt that was paid for nothing is shown with its run, its time and its worst case."""
    shown = show((PAID, LOST), {TEN: 2}, "0.333300")
    assert shown.startswith(
        "! The ledger and the provider's books differ; the requests below explain the difference"
    )
    assert "2026-11-20 10:00:00" in shown
    assert "image:acme:lost" in shown
    assert "counted by the provider: charged without an image" in shown
    assert "0.250000" in shown
    assert "att_lost" in shown


def test_unexplained_difference_is_shown_with_its_time() -> None:
    """Requests of others are told with their time, and money with what could be expected."""
    shown = " ".join(show((PAID,), {TEN: 1, NOON: 2}, "0.500000").split())
    assert "✗ The ledger and the provider's books differ, and not all of the difference is explained" in shown
    assert (
        "gpt-image-1, 2026-11-20 12:00:00 to 2026-11-20 12:01:00 (UTC): the provider counts 2 more requests than were sent"
        in shown
    )
    assert "is expected to charge 0.166650 to 0.166650 USD; it charged 0.500000." in shown


def test_uncounted_requests_suggest_a_later_comparison() -> None:
    """Where the provider counts fewer than it answered, the advice is to compare again."""
    shown = " ".join(show((PAID,), {}).split())
    assert "1 answered, 0 counted by the provider. It may count late: compare again later." in shown


def test_a_long_list_is_cut() -> None:
    """Twenty doubtful attempts are shown, and how many more there are."""
    many = tuple(replace(LOST, attempt_id=f"att_{number}") for number in range(25))
    shown = show(many, {TEN: 25}, "4.166250")
    assert shown.count("image:acme:lost") == 20
    assert "5 more; --json shows all." in shown
