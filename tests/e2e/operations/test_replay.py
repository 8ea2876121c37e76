"""The gate in front of a deployment: a changed workflow is found by a saved history, and the message says what to do."""

import asyncio
import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from cli.errors import CommandFailed
from cli.local.replay import INSTRUCTIONS, describe_failures, read_file
from gpt_image_runs.contracts import names
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from gpt_image_runs.temporal.replay import HistoryReplay, Replayed, read_history
from tests.support.runs.changed_workflows import AsksTwice, AsksTwiceFromNowOn, Breaks, WaitsFirst
from tests.support.runs.commands import type_command
from tests.support.runs.run_states import decide, until_held
from tests.support.runs.save_histories import history_path
from tests.support.servers.stack import CONTRACT, Stack, new_run_id
from workflows.payloads import RefuseSurplusArguments
from workflows.registry import WORKFLOWS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def replay(workflow: type, name: str) -> Replayed:
    player = HistoryReplay([workflow], [RefuseSurplusArguments()], SandboxedWorkflowRunner())
    return await player.replay(read_history(name, history_path(name).read_text()), f"{name}.json")


async def export(stack: Stack, run_id: str, path: Path) -> None:
    """Export a history from a cluster, as an operator does."""
    address = stack.client.service_client.config.target_host
    command = [
        str(find_temporal_binary()),
        *("workflow", "show", "--workflow-id", run_id, "--output", "json"),
    ]
    shown = await asyncio.to_thread(
        subprocess.run, [*command, "--address", address], capture_output=True, check=True
    )
    await asyncio.to_thread(path.write_bytes, shown.stdout)


async def test_added_step_is_named_with_both_sides() -> None:
    """The message names the history, the step at which the two part with both sides of it, Temporal's words, and what to do."""
    told = describe_failures([await replay(AsksTwice, "generated")])

    assert (
        told
        == f"""\
generated.json (ImageGeneration, 16 events) does not replay on this code.
  Step 2 differs:
    1. the run: check_request (local)            this code: check_request (local)
  > 2. the run: call_gpt_image                   this code: look_twice (local)
    3. the run: compute_cost (local)             this code: nothing (it waits, completes or fails)
  Replaying ended with: [TMPRL1100] Nondeterminism error: No command scheduled for event HistoryEvent(id: 7, \
ActivityTaskScheduled)

{INSTRUCTIONS}"""
    )
    for remedy in (
        'workflow.patched("what-changed")',
        "python -m tests.support.runs.save_histories",
        "WORKER_BUILD_ID",
    ):
        assert remedy in told


async def test_added_timer_or_error_does_not_replay() -> None:
    """A timer in front of everything, and a mistake in the code, do not replay either, and are told where the run went on."""
    waits, breaks = await replay(WaitsFirst, "generated"), await replay(Breaks, "generated")

    assert (waits.first_difference, breaks.first_difference) == (0, 0)
    assert "Nondeterminism error" in (waits.words or "")
    assert breaks.words == "nobody expected RawValue"


@pytest.mark.parametrize("name", ["generated", "decided-on"])
async def test_change_behind_a_patch_replays(name: str) -> None:
    """What the instructions say is enough: runs that began before go the old way."""
    assert describe_failures([await replay(AsksTwiceFromNowOn, name)]) == ""


async def test_replay_reads_exported_and_running_histories(stack: Stack, tmp_path: Path) -> None:
    """`replay` reads what `temporal workflow show` writes, from a folder, and what runs at this moment from the server."""
    exported, held = new_run_id(), new_run_id()
    await stack.run(CONTRACT, run_id=exported)
    await export(stack, exported, tmp_path / "exported.json")
    stack.simulator.script("reset_after_payment", match="A cup for a replay")
    payload = {**CONTRACT, "prompt": "A cup for a replay", "unknown_outcome": "hold"}
    handle = await stack.start(payload, run_id=held)
    await until_held(handle)
    ended = await type_command(stack, tmp_path, "replay", str(tmp_path), "--running", "100", "--json")
    await decide(handle)
    await handle.result()

    assert ended.status == 0, ended.err
    found = {each["name"]: each for each in ended.document["histories"]}
    assert {str(tmp_path / "exported.json"), held} <= found.keys()
    assert found[held]["asked"] == ["check_request (local)", "call_gpt_image"]
    assert ended.document["ok"] is True


async def test_replay_exits_1_for_a_history_that_does_not_replay(stack: Stack, tmp_path: Path) -> None:
    """A run of code that is not here: exit status 1, and the message is for a person, without the SDK's own log."""
    history = json.loads(history_path("generated").read_text().replace("call_gpt_image", "call_a_painter"))
    (tmp_path / "other.json").write_text(json.dumps(history))
    ended = await type_command(stack, tmp_path, "replay", str(tmp_path / "other.json"))

    assert ended.status == 1
    assert ended.out == "0 of 1 histories replay.\n"
    assert "> 2. the run: call_a_painter                   this code: call_gpt_image" in ended.err
    assert ended.err.strip().endswith(INSTRUCTIONS)
    assert "Traceback" not in ended.err
    assert "temporalio_sdk_core" not in ended.err


async def test_run_with_a_start_delay_is_counted_and_not_replayed(stack: Stack, tmp_path: Path) -> None:
    """What was told to start later has asked for nothing yet: it is counted, and not waited for."""
    run_id = new_run_id()
    later = await stack.client.start_workflow(
        names.WORKFLOW, CONTRACT, id=run_id, task_queue=names.RUNS_QUEUE, start_delay=timedelta(days=1)
    )
    await export(stack, run_id, tmp_path / "later.json")
    ended = await type_command(stack, tmp_path, "replay", str(tmp_path / "later.json"), "--json")
    await later.terminate()

    assert ended.status == 0
    [told] = ended.document["histories"]
    assert (told["ok"], told["events"], told["asked"]) == (True, 1, [])


async def test_truncated_history_does_not_replay() -> None:
    """A history that somebody has cut is one that does not replay, in the usual words."""
    document = json.loads(history_path("generated").read_text())
    for event in document["events"]:
        event.get("markerRecordedEventAttributes", {}).pop("details", None)
    player = HistoryReplay(WORKFLOWS, [RefuseSurplusArguments()], SandboxedWorkflowRunner())
    replayed = await player.replay(read_history("cut", json.dumps(document)), "cut.json")

    assert replayed.words is not None
    assert "? (local)" in replayed.asked


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "is not the history of a workflow"), ('{"events": []}', "has no beginning")],
)
async def test_file_without_a_history_is_reported(tmp_path: Path, text: str, sentence: str) -> None:
    """A file that holds no history is told with its name and how to make one."""
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(CommandFailed) as raised:
        read_file(path)

    assert str(raised.value).startswith(f"{path} {sentence}")
    assert "temporal workflow show --workflow-id ID --output json" in str(raised.value)


async def test_replay_without_histories_fails(stack: Stack, tmp_path: Path) -> None:
    """A gate that found no history has not held anything."""
    ended = await type_command(stack, tmp_path, "replay", str(tmp_path))

    assert ended.status == 1
    assert "There is nothing to replay." in ended.err
