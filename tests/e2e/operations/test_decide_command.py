"""`decide`, and how `show`, `wait` and `generate` tell of a held run, typed beside a running worker."""

import dataclasses
import getpass
import signal
from pathlib import Path

import pytest

from gpt_image_runs.contracts.result import RunResult
from tests.support.runs.commands import await_end, start_command, type_command
from tests.support.runs.run_states import held, until_held
from tests.support.servers.stack import CONTRACT, Stack, new_run_id, run_temporal

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def hold(stack: Stack, prompt: str) -> str:
    """Start a run and wait until it is held."""
    stack.simulator.script("reset_after_payment", match=prompt)
    handle = await stack.start(held(prompt))
    await until_held(handle)
    return handle.id


async def test_decide_sends_a_held_run_again(stack: Stack, tmp_path: Path) -> None:
    """`show` and `wait` say that a run is held and how to decide; `decide` lets it go on, and `wait` has its result."""
    run_id = await hold(stack, "A cup to decide on")
    shown = await type_command(stack, tmp_path, "show", run_id)
    as_json = await type_command(stack, tmp_path, "show", run_id, "--json")
    waiting = await start_command(stack, tmp_path, "wait", run_id)
    assert waiting.stderr is not None
    told = (await waiting.stderr.readuntil(b"--reason TEXT")).decode()
    words = ("decide", run_id, "resend", "--reason", "ticket 7", "--actor", "ada")
    decided = await type_command(stack, tmp_path, *words, "--json")
    waited = await await_end(waiting)

    command = f"python starter.py decide {run_id} resend|give-up --reason TEXT"
    assert "stage     held" in shown.out
    assert f"decide    {command}" in shown.out
    assert as_json.document["stage"] == "held"
    assert as_json.document["open_decision"]["at_most_usd"].startswith("0.16")
    assert decided.status == 0
    assert decided.document == {
        "run_id": run_id,
        "decision": "resend",
        "stage": "generating",
        "message": "The request is sent once more, unless an earlier one turns out to be answered.",
        "web_ui": None,
    }
    assert waited.status == 0
    assert "waiting for a decision" in told
    assert "1 request was sent whose outcome is unknown" in told
    assert told.endswith(f"Decide: {command}")
    assert "whose outcome is unknown" not in waited.err
    assert f"{run_id} completed" in waited.out
    assert len(stack.calls(run_id)) == 2


async def test_decide_gives_a_held_run_up(stack: Stack, tmp_path: Path) -> None:
    """`decide RUN give-up` ends the run; `show` tells why with status 1, by whom it was decided, and what was sent."""
    run_id = await hold(stack, "A cup to give up")
    decided = await type_command(stack, tmp_path, "decide", run_id, "give-up", "--reason", "too dear")
    shown = await type_command(stack, tmp_path, "show", run_id)

    assert decided.status == 0
    assert decided.out.splitlines()[0] == run_id
    assert "The run ends as failed. What may have been paid for stays in the exposure." in decided.out
    assert shown.status == 1
    assert "GivenUp: 1 request was sent whose outcome is unknown" in shown.err
    assert f"Given up by {getpass.getuser()}: too dear" in shown.err
    assert "Requests sent to the provider: 1 unknown (AnswerLost)." in shown.err


async def test_decide_without_a_worker_waits_until_interrupted(stack: Stack, tmp_path: Path) -> None:
    """Without a worker `decide` says what it waits for; Ctrl-C ends it with 130, and it claims nothing."""
    async with run_temporal() as client:
        deserted = dataclasses.replace(stack, client=client)
        handle = await deserted.start(CONTRACT)
        words = ("decide", handle.id, "resend", "--reason", "ticket 7", "--json")
        waiting = await start_command(deserted, tmp_path, *words)
        assert waiting.stderr is not None
        await waiting.stderr.readuntil(b"No worker is polling")
        waiting.send_signal(signal.SIGINT)
        ended = await await_end(waiting)

    assert ended.status == 130
    assert ended.document["status"] == "running"
    assert ended.document["message"].startswith("It is not known whether the decision was taken.")


async def test_decide_on_a_run_that_is_not_held_is_refused(stack: Stack, tmp_path: Path) -> None:
    """A run under way and one that has ended are refused with status 2, a run that nobody knows with 1: in sentences."""
    # Not a rate limit, after which this worker would send nothing for the other tests either.
    stack.simulator.script(*["conflict"] * 20, match="A cup under way")
    under_way = await stack.start(held("A cup under way"))
    done = RunResult.model_validate(await stack.run({**CONTRACT, "quality": "low"}))
    words = ("resend", "--reason", "ticket 7", "--json")
    first = await type_command(stack, tmp_path, "decide", under_way.id, *words)
    second = await type_command(stack, tmp_path, "decide", done.run_id, *words)
    third = await type_command(stack, tmp_path, "decide", new_run_id(), *words)
    await under_way.terminate()

    assert (first.status, first.document["status"]) == (2, "refused")
    assert "is not held: there is nothing to decide." in first.document["message"]
    assert (second.status, second.document["status"]) == (2, "refused")
    assert "has ended, so there is nothing to decide." in second.document["message"]
    assert (third.status, third.document["status"]) == (1, "error")
    assert "Temporal does not know the run" in third.document["message"]


async def test_unknown_outcome_option_holds_the_run(stack: Stack, tmp_path: Path) -> None:
    """`generate --unknown-outcome hold` makes a run that is held."""
    stack.simulator.script("reset_after_payment", match="A cup by an option")
    words = ("generate", "A cup by an option", "--model", "gpt-image-2", "--unknown-outcome", "hold")
    started = await type_command(stack, tmp_path, *words, "--no-wait", "--json")
    handle = stack.client.get_workflow_handle(started.document["run_id"])

    assert (await until_held(handle)).stage == "held"
    await handle.cancel()
