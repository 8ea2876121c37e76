"""Histories: small, without bytes or secrets, and replayed from those that earlier versions have saved."""

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.e2e.save_histories import (
    BATCHES,
    BUDGET_DECISIONS,
    CORRECTED,
    CORRECTIONS,
    ECONOMY,
    LIMITED,
    NOTIFICATIONS,
    SHAPES,
    SUBMITTED,
    TOLD,
    history_path,
)
from tests.e2e.stack import CONTRACT, Stack, activities_in, event_names, new_run_id
from workflows.arguments import RefuseSurplusArguments
from workflows.budget_change import BudgetChange
from workflows.economy_batch import EconomyBatch
from workflows.image_batch import ImageBatch
from workflows.image_generation import ImageGeneration
from workflows.notification import Notification
from workflows.reconciliation import Reconciliation

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("name", [*SHAPES, *SUBMITTED, *LIMITED, *TOLD])
async def test_saved_histories_replay(name: str) -> None:
    """Every saved history replays on today's workflow: a run that is under way survives the next deployment."""
    history = WorkflowHistory.from_json(f"image:default:history-{name}", history_path(name).read_text())
    replayer = Replayer(
        workflows=[ImageGeneration],
        data_converter=pydantic_data_converter,
        interceptors=[RefuseSurplusArguments()],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", CORRECTIONS)
async def test_saved_corrections_replay(name: str) -> None:
    """The same for corrections: settled, left pending, reversed and refused."""
    history = WorkflowHistory.from_json(f"reconcile:{CORRECTED}:{name}", history_path(name).read_text())
    replayer = Replayer(
        workflows=[Reconciliation],
        data_converter=pydantic_data_converter,
        interceptors=[RefuseSurplusArguments()],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", BUDGET_DECISIONS)
async def test_saved_decisions_replay(name: str) -> None:
    """The same for decisions about a budget: carried out and refused."""
    history = WorkflowHistory.from_json(f"budget:acme:{name}", history_path(name).read_text())
    replayer = Replayer(
        workflows=[BudgetChange],
        data_converter=pydantic_data_converter,
        interceptors=[RefuseSurplusArguments()],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", NOTIFICATIONS.values())
async def test_saved_notifications_replay(name: str) -> None:
    """The same for notifications, which may wait for days: taken and refused."""
    history = WorkflowHistory.from_json(f"notify:{name}", history_path(name).read_text())
    replayer = Replayer(
        workflows=[Notification],
        data_converter=pydantic_data_converter,
        interceptors=[RefuseSurplusArguments()],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", BATCHES)
async def test_saved_batches_replay(name: str) -> None:
    """The same for batches: done, paused and cancelled, gone on in a new run, and refused."""
    history = WorkflowHistory.from_json(f"batch:{name}", history_path(name).read_text())
    replayer = Replayer(
        workflows=[ImageBatch],
        data_converter=pydantic_data_converter,
        interceptors=[RefuseSurplusArguments()],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", ECONOMY)
async def test_saved_economy_batches_replay(name: str) -> None:
    """The same for economy batches, which wait for a day: settled, expired and cancelled."""
    history = WorkflowHistory.from_json(f"economy-batch:{name}", history_path(name).read_text())
    replayer = Replayer(
        workflows=[EconomyBatch],
        data_converter=pydantic_data_converter,
        interceptors=[RefuseSurplusArguments()],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize(("size", "n"), [("1024x1024", 1), ("3840x2160", 1), ("1024x1024", 4)])
async def test_a_history_is_small_whatever_the_picture(stack: Stack, size: str, n: int) -> None:
    """A run has at most 18 events and 10 KB of history, whatever the picture's size, also with four pictures."""
    result = await stack.run(
        {"model": "gpt-image-2", "prompt": CONTRACT["prompt"], "size": size, "quality": "low", "n": n}
    )

    events = await stack.events(result.run_id)
    assert len(events) <= 18
    assert sum(event.ByteSize() for event in events) <= 10_000
    assert event_names(events).count("ACTIVITY_TASK_COMPLETED") == 1


async def test_no_bytes_and_no_secrets(stack: Stack) -> None:
    """A history holds neither the key nor a picture's data, the activities in their order, and what was paid."""
    result = await stack.run(CONTRACT)

    events = await stack.events(result.run_id)
    whole = b"".join(event.SerializeToString() for event in events)
    key = stack.settings.openai_api_key
    assert key is not None
    assert key.get_secret_value().encode() not in whole
    assert b"b64_json" not in whole
    assert activities_in(events) == [
        ("check_request", "local"),
        ("call_gpt_image", "scheduled"),
        ("compute_cost", "local"),
        ("record_billing", "local"),
    ]


async def test_a_failed_run_s_history_is_small_too(stack: Stack) -> None:
    """A refused and a rejected run end within 15 events and 10 KB, reasons included."""
    for payload in (SHAPES["refused"], SHAPES["rejected"]):
        run_id = new_run_id()
        await stack.fail(payload, run_id=run_id)
        events = await stack.events(run_id)
        assert len(events) <= 15
        assert sum(event.ByteSize() for event in events) <= 10_000
