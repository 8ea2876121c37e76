"""Days beside the provider's own books, end to end: real runs, the simulator's organization endpoints, a real Temporal.

Each test has a model of its own, and looks at that alone: the day is everybody's.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import (
    ScheduleActionExecutionStartWorkflow,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer

from activities.registry import build_reconciler
from cli.errors import CommandFailed
from cli.ledger.reconcile_provider import await_comparison, schedule_comparisons, start_comparison
from cli.output import Output
from gpt_image_runs.billing.reconciliation.history import ComparisonLog
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.provider_reconciliation import (
    Comparison,
    ComparisonOrder,
    ComparisonSummary,
    ModelComparison,
)
from gpt_image_runs.contracts.result import RunResult
from tests.support.servers.stack import Stack, new_run_id, run_stack, sqlite_url
from workflows.provider_reconciliation import ProviderReconciliation

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEAR_MIDNIGHT = timedelta(minutes=3)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def books_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run an application with an admin key, and books that no other test writes into."""
    folder = tmp_path_factory.mktemp("books")
    images = (folder / "images").as_uri()
    async with run_stack(sqlite_url(folder), images, openai_admin_key="sk-admin-test") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_midnight() -> None:
    """Around midnight a run belongs to two days, which other tests are about."""
    now = datetime.now(UTC)
    if (now - NEAR_MIDNIGHT).date() != (now + NEAR_MIDNIGHT).date():
        pytest.skip("midnight (UTC) is near")


def ask_for(model: str, prompt: str) -> dict[str, Any]:
    """Make a request for a small image: 272 output tokens with the older models, and prompt length / 4 + 6 input tokens."""
    return {"model": model, "prompt": prompt, "size": "1024x1024", "quality": "low"}


async def compare(stack: Stack, order: dict[str, Any] | None = None) -> ComparisonSummary:
    """Compare a day, by default today, by names and plain JSON."""
    given = {"day": datetime.now(UTC).date().isoformat()} if order is None else order
    handle = await stack.client.start_workflow(
        names.PROVIDER_RECONCILIATION,
        given,
        id=f"reconciliation-{new_run_id()}",
        task_queue=names.RUNS_QUEUE,
        result_type=ComparisonSummary,
    )
    summary: ComparisonSummary = await handle.result()
    return summary


async def compare_today(stack: Stack) -> Comparison:
    """Read today's comparison from the ledger."""
    summary = await compare(stack)
    recorded = ComparisonLog(stack.database).read(summary.comparison_id)
    assert (recorded.comparison.day, recorded.comparison.verdict) == (summary.day, summary.verdict)
    return recorded.comparison


def find_model(comparison: Comparison, model: str) -> ModelComparison:
    [found] = [each for each in comparison.models if each.model == model]
    return found


async def test_billed_runs_leave_no_difference(books_stack: Stack) -> None:
    """Two runs, one of them of three pictures: both sides count and charge the same."""
    await books_stack.run(ask_for("gpt-image-2", "abcd"))
    await books_stack.run({**ask_for("gpt-image-2", "abcd"), "n": 3})
    model = find_model(await compare_today(books_stack), "gpt-image-2")

    assert (model.verdict, model.difference_usd) == ("equal", "0.000000")
    assert (model.requests, model.provider_requests, model.images, model.provider_images) == (2, 2, 4, 4)
    assert (
        model.list_cost_usd == "0.023660"
    )  # four times 7 tokens of text at 5 and 196 of picture at 30 micro-USD


async def test_attempt_paid_for_nothing_explains_the_difference(books_stack: Stack) -> None:
    """A request that was paid and reset explains, by its id, the one picture more that the provider counts and charges."""
    books_stack.simulator.script("reset_after_payment", match="A lost cup")
    run_id = new_run_id()
    await books_stack.run(ask_for("gpt-image-1", "A lost cup"), run_id=run_id)
    lost, answered = books_stack.attempts(run_id)
    comparison = await compare_today(books_stack)
    model = find_model(comparison, "gpt-image-1")

    assert (lost.outcome, answered.outcome) == ("unknown", "succeeded")
    assert (model.requests, model.unknown, model.provider_requests) == (1, 1, 2)
    assert (model.verdict, model.list_cost_usd, model.difference_usd) == (
        "explained",
        "0.010925",  # 9 tokens of text at 5 and 272 of picture at 40 micro-USD
        "0.010925",
    )
    assert [
        (each.attempt_id, each.run_id, each.doubt)
        for each in comparison.doubts
        if each.model == "gpt-image-1"
    ] == [(lost.attempt_id, run_id, "paid_for_nothing")]


async def test_attempt_that_was_not_paid_is_reported_as_probably_unpaid(books_stack: Stack) -> None:
    """A request that was reset before it was paid is not in the provider's books: it was probably not paid."""
    books_stack.simulator.script("reset_before", match="A cut-off cup")
    run_id = new_run_id()
    await books_stack.run(ask_for("gpt-image-1-mini", "A cut-off cup"), run_id=run_id)
    comparison = await compare_today(books_stack)
    model = find_model(comparison, "gpt-image-1-mini")

    assert (model.verdict, model.difference_usd) == ("equal", "0.000000")
    assert (model.requests, model.unknown, model.provider_requests) == (1, 1, 1)
    doubts = [each for each in comparison.doubts if each.model == "gpt-image-1-mini"]
    assert [(each.run_id, each.doubt) for each in doubts] == [(run_id, "probably_not_paid")]


async def test_estimate_explains_the_input_that_it_leaves_out(books_stack: Stack) -> None:
    """A run without usage is estimated without its input: the provider charges that, too, and the run is named."""
    result = await books_stack.run(ask_for("gpt-image-1.5", "A cup [simulate:missing_usage]"))
    comparison = await compare_today(books_stack)
    model = find_model(comparison, "gpt-image-1.5")

    assert result.billing.state == "estimated"
    assert (model.verdict, model.list_cost_usd) == ("explained", "0.008704")  # 272 of picture at 32 micro-USD
    assert model.difference_usd == "0.000470"  # 14 tokens of text in at 5, and 40 out at 10 micro-USD
    doubts = [each for each in comparison.doubts if each.model == "gpt-image-1.5"]
    assert [(each.run_id, each.doubt) for each in doubts] == [(result.run_id, "inexact_list_cost")]


async def test_images_bought_by_others_stay_unexplained(books_stack: Stack) -> None:
    """A picture that somebody else buys is a difference that no run of ours explains, with its time."""
    calls = books_stack.simulator.books
    result: RunResult = await books_stack.run(ask_for("gpt-image-2.5-flare", "abcd"))
    [entry] = [each for each in calls.entries if each.model == "gpt-image-2.5-flare"]
    calls.record(entry.model_copy(update={"client_request_id": None, "request_id": "req_of_another"}))
    comparison = await compare_today(books_stack)
    windows = [each for each in comparison.windows if each.model == "gpt-image-2.5-flare"]

    assert result.billing.state == "billed"
    assert [(each.requests, each.provider_requests, each.surplus) for each in windows] == [(1, 2, 1)]
    assert find_model(comparison, "gpt-image-2.5-flare").verdict == "unexplained"
    assert comparison.verdict == "unexplained"


async def test_comparison_for_a_project_leaves_out_other_projects(books_stack: Stack) -> None:
    await books_stack.run(ask_for("gpt-image-2.6-flare", "abcd"))
    today = datetime.now(UTC).date().isoformat()
    summary = await compare(books_stack, {"day": today, "project_id": "proj_other"})
    assert (summary.provider_requests, summary.provider_cost_usd, summary.verdict) == (
        0,
        "0.000000",
        "unexplained",
    )
    assert summary.requests >= 1


async def test_retried_comparison_is_made_once(books_stack: Stack) -> None:
    """An activity that is repeated after its comparison was kept answers with that one, and asks nobody."""
    reconciler = build_reconciler(books_stack.settings, books_stack.database)
    keyless = books_stack.settings.model_copy(update={"openai_admin_key": None})
    cannot_ask = build_reconciler(keyless, books_stack.database)
    order = ComparisonOrder(day=datetime.now(UTC).date())
    environment = ActivityEnvironment()
    first = await environment.run(reconciler.reconcile_provider, order)
    assert await environment.run(cannot_ask.reconcile_provider, order) == first


async def test_comparison_is_retried_while_the_provider_is_down(
    tmp_path: Path, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever waits for a comparison reads why it takes so long; when they leave, it goes on."""
    settings = {
        "openai_admin_key": "sk-admin-test",
        "openai_base_url": f"http://127.0.0.1:{unused_tcp_port}/v1",
    }
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri(), **settings) as stack:
        handle = await start_comparison(stack.client, date(2026, 11, 20), ComparisonOrder())
        waiting = asyncio.create_task(await_comparison(stack.client, handle, Output(as_json=False)))
        told = ""
        async with asyncio.timeout(60):
            while "cannot be reached (ConnectError). Check the network" not in told:
                await asyncio.sleep(0.05)
                told += capsys.readouterr().err
        waiting.cancel()
        with pytest.raises(CommandFailed, match="The comparison continues"):
            await waiting
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        await handle.terminate()


async def test_comparison_history_is_small_and_replays(books_stack: Stack) -> None:
    """A comparison's history holds the totals alone, no key, and replays on today's workflow."""
    await books_stack.run(ask_for("gpt-image-2.5-sunburst", "abcd"))
    handle = await start_comparison(books_stack.client, datetime.now(UTC).date(), ComparisonOrder())
    await handle.result()
    history = await handle.fetch_history()
    whole = b"".join(event.SerializeToString() for event in history.events)

    assert len(whole) < 10_000
    assert b"sk-admin" not in whole
    replayer = Replayer(workflows=[ProviderReconciliation], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)


async def fail(stack: Stack, order: Any) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as raised:
        await compare(stack, order)
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause


@pytest.mark.parametrize(
    ("key", "kind", "sentence"),
    [
        (
            None,
            "BooksNotConfigured",
            "There is no admin key to read the provider's books with: set OPENAI_ADMIN_KEY",
        ),
        ("sk-project", "BooksRefused", "Set OPENAI_ADMIN_KEY to an admin key"),
    ],
)
async def test_comparison_without_an_admin_key_fails_with_a_message(
    tmp_path: Path, key: str | None, kind: str, sentence: str
) -> None:
    """Without an admin key the worker runs all the same; a comparison ends at once, with a sentence, and keeps nothing."""
    settings: dict[str, Any] = {"openai_admin_key": key} if key else {}
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri(), **settings) as stack:
        failure = await fail(stack, {"day": "2026-11-20"})
    assert (failure.type, sentence in failure.message) == (kind, True)


@pytest.mark.parametrize("order", [{"day": "yesterday"}, {"days": 1}, [], "2026-11-20"])
async def test_comparison_of_invalid_input_fails_with_a_message(books_stack: Stack, order: Any) -> None:
    """What is no order ends the workflow with a sentence, instead of failing its task for ever."""
    failure = await fail(books_stack, order)
    assert failure.type == "OrderRefused"
    assert "Allowed are day, project_id and api_key_id" in failure.message


async def test_schedule_compares_the_day_before(books_stack: Stack) -> None:
    """The schedule is made once and updated after, runs at noon, and its run compares the day before, without an order."""
    client = books_stack.client
    made = await schedule_comparisons(client, ComparisonOrder())
    updated = await schedule_comparisons(client, ComparisonOrder(project_id="proj_simulator"))
    assert (made.existed, updated.existed) == (False, True)
    assert updated.next_at is not None
    assert (updated.next_at.hour, updated.next_at.minute) == (12, 0)

    handle = client.get_schedule_handle(made.schedule_id)
    await handle.trigger()
    async with asyncio.timeout(60):
        while not (actions := (await handle.describe()).info.recent_actions):
            await asyncio.sleep(0.05)
        started = actions[0].action
        assert isinstance(started, ScheduleActionExecutionStartWorkflow)
        run = client.get_workflow_handle(started.workflow_id, result_type=ComparisonSummary)
        summary: ComparisonSummary = await run.result()
    await handle.delete()

    assert summary.day == datetime.now(UTC).date() - timedelta(days=1)
    assert (
        ComparisonLog(books_stack.database).read(summary.comparison_id).comparison.project_id
        == "proj_simulator"
    )
