"""Histories: small, without bytes or secrets, and those that were saved replay on today's workflows."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from cli.local.replay import describe_failures
from gpt_image_runs.temporal.replay import HistoryReplay, read_history
from tests.support.runs.save_histories import (
    BATCHES,
    BUDGET_DECISIONS,
    COMPARISONS,
    CORRECTIONS,
    ECONOMY,
    HISTORIES,
    LIMITED,
    NOTIFICATIONS,
    QUOTES,
    SCHEDULED,
    SHAPES,
    SUBMITTED,
    SURPLUS,
    TOLD,
    TOLD_EARLY,
    history_path,
)
from tests.support.servers.stack import CONTRACT, Stack, activities_in, event_names, new_run_id
from workflows.payloads import RefuseSurplusArguments
from workflows.registry import WORKFLOWS, list_workflows

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = HISTORIES.parents[2]
# The sandbox notices what a workflow must not do, beside what it must not change.
PLAYER = HistoryReplay(WORKFLOWS, [RefuseSurplusArguments()], SandboxedWorkflowRunner())


def read(path: Path) -> WorkflowHistory:
    return read_history(path.stem, path.read_text())


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
async def test_saved_histories_replay(path: Path) -> None:
    """Every saved history replays on today's workflows: what is under way survives the next deployment."""
    replayed = await PLAYER.replay(read(path), path.relative_to(ROOT).as_posix())
    assert replayed.words is None, f"\n{describe_failures([replayed])}"


@pytest.mark.parametrize("name", NOTIFICATIONS.values())
async def test_saved_notifications_replay_on_versioned_workers(name: str) -> None:
    """A notification changes over to a build while it waits: what workers of a build register replays it too."""
    player = HistoryReplay(
        list_workflows(of_a_build=True), [RefuseSurplusArguments()], SandboxedWorkflowRunner()
    )
    replayed = await player.replay(read(history_path(name)), name)
    assert replayed.words is None, f"\n{describe_failures([replayed])}"


async def test_every_shape_and_every_workflow_has_a_history() -> None:
    """What `save_histories` knows is saved, and no workflow is without a history that guards it."""
    saved = {path.stem: path for path in HISTORIES.glob("*.json")}
    known = {
        *(*SHAPES, *SCHEDULED, *LIMITED, *CORRECTIONS, *BUDGET_DECISIONS),
        *(*BATCHES, *ECONOMY, *QUOTES, *COMPARISONS),
        *(*SURPLUS, *SUBMITTED, *TOLD, *NOTIFICATIONS.values(), *TOLD_EARLY),
    }
    types = {
        read(path).events[0].workflow_execution_started_event_attributes.workflow_type.name
        for path in saved.values()
    }

    assert known == saved.keys()
    assert types == {kind.__name__ for kind in WORKFLOWS}


@pytest.mark.parametrize(("size", "n"), [("1024x1024", 1), ("3840x2160", 1), ("1024x1024", 4)])
async def test_history_of_any_image_has_at_most_18_events_and_10_kb(stack: Stack, size: str, n: int) -> None:
    """A run has at most 18 events and 10 KB of history, whatever the picture's size, also with four pictures."""
    result = await stack.run(
        {"model": "gpt-image-2", "prompt": CONTRACT["prompt"], "size": size, "quality": "low", "n": n}
    )

    events = await stack.events(result.run_id)
    assert len(events) <= 18
    assert sum(event.ByteSize() for event in events) <= 10_000
    assert event_names(events).count("ACTIVITY_TASK_COMPLETED") == 1


async def test_history_holds_no_image_bytes_and_no_key(stack: Stack) -> None:
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


async def test_history_of_a_failed_run_has_at_most_15_events_and_6_kb(stack: Stack) -> None:
    """A refused and a rejected run end within 15 events and 6 KB, reasons included and no place in the code."""
    for payload in (SHAPES["refused"], SHAPES["rejected"]):
        run_id = new_run_id()
        await stack.fail(payload, run_id=run_id)
        events = await stack.events(run_id)
        assert len(events) <= 15
        assert sum(event.ByteSize() for event in events) <= 6_000
        assert b".py" not in b"".join(event.SerializeToString() for event in events)
