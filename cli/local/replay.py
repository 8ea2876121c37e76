"""`replay`: check that running workflows or saved histories replay on this code."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.text import Text
from temporalio.client import WorkflowHistory
from temporalio.worker import UnsandboxedWorkflowRunner
from typer import Argument, Option

from cli import options
from cli.errors import CommandFailed
from cli.output import Output
from cli.session import Session, hush_temporal, open_session
from gpt_image_runs.temporal.replay import HistoryReplay, NotAHistory, Replayed, read_history
from workflows.payloads import RefuseSurplusArguments
from workflows.registry import WORKFLOWS

INSTRUCTIONS = """\
If such runs are in progress, they will be stuck on this code until it is fixed. Change the code, not the history:
  1. Put the change behind `if workflow.patched("what-changed"):` and keep the old code in the other branch. Then run
     `python -m tests.support.runs.save_histories` with an input that uses the new code, so that it is tested too. Or
  2. deploy it as a new build, WORKER_DEPLOYMENT_NAME and WORKER_BUILD_ID, and keep the old workers until their runs have
     ended: `temporal worker deployment describe --name NAME` says "drained" then.
docs/how-to/change.md describes both steps, and how to go back."""
_SHOWN_AROUND = 3


def describe_failures(replayed: Sequence[Replayed]) -> str:
    """Format all failures and what to do; empty if every history replays."""
    failed = [failed_outcome(each) for each in replayed if each.words is not None]
    return "\n\n".join([*failed, INSTRUCTIONS]) if failed else ""


def failed_outcome(replayed: Replayed) -> str:
    """Format one failure: the run's steps beside this code's, and Temporal's message."""
    head = (
        f"{replayed.name} ({replayed.workflow_type}, {replayed.events} events) does not replay on this code."
    )
    return "\n".join([head, *_show_steps(replayed), f"  Replaying ended with: {replayed.words}"])


def _show_steps(replayed: Replayed) -> list[str]:
    place = replayed.first_difference
    if place is None:
        told = "The steps are the same. A timer, patch, search attribute, signal or the outcome differs, or the code failed."
        return [f"  {told}"]
    asked = dict(enumerate(replayed.asked))
    asks = dict(enumerate(replayed.asks))
    lines = [f"  Step {place + 1} differs:"]
    for index in range(max(0, place - _SHOWN_AROUND), min(place + 2, max(len(asked), len(asks)))):
        then, now = (
            asked.get(index, "nothing more"),
            asks.get(index, "nothing (it waits, completes or fails)"),
        )
        mark = ">" if index == place else " "
        lines.append(f"  {mark} {index + 1}. the run: {then:<32} this code: {now}")
    return lines


def replay(
    *,
    files: Annotated[
        list[Path] | None,
        Argument(metavar="FILE|FOLDER", help="Histories from `temporal workflow show --output json`."),
    ] = None,
    running: Annotated[
        int, Option("--running", min=0, metavar="N", help="Also the N newest workflows that are running.")
    ] = 0,
    as_json: options.AsJson = False,
) -> int:
    """Replay histories on the workflows of this code, before it is deployed. Nothing is executed or changed.

    Exit status 1 if one does not replay; the output says which, where, and what to do.
    """
    output = Output(as_json=as_json)
    hush_temporal()
    replayed = asyncio.run(_replay_all(list(_find_files(files or [])), running, open_session()))
    if not replayed:
        raise CommandFailed(
            "There is nothing to replay. Name files or folders with histories, or use --running 100."
        )
    failed = [each for each in replayed if each.words is not None]
    document = {"ok": not failed, "histories": [_describe(each) for each in replayed]}
    output.answer(document, Text(f"{len(replayed) - len(failed):,} of {len(replayed):,} histories replay."))
    if failed:
        output.say(describe_failures(replayed))
    return 1 if failed else 0


def _describe(replayed: Replayed) -> dict[str, object]:
    return {"ok": replayed.words is None, **asdict(replayed), "first_difference": replayed.first_difference}


def _find_files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise CommandFailed(f"{path} does not exist.")
        yield from sorted(path.glob("*.json")) if path.is_dir() else [path]


async def _replay_all(files: list[Path], running: int, session: Session) -> list[Replayed]:
    player = HistoryReplay(WORKFLOWS, [RefuseSurplusArguments()], UnsandboxedWorkflowRunner())
    replayed = [await player.replay(read_file(path), str(path)) for path in files]
    if running:
        replayed += [
            await player.replay(history, history.workflow_id)
            async for history in _fetch_running(session, running)
        ]
    return replayed


def read_file(path: Path) -> WorkflowHistory:
    """Read the history in a file. Raises CommandFailed, which says how to create one."""
    try:
        return read_history(path.stem, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}.") from error
    except NotAHistory as error:
        raise CommandFailed(
            f"{path} {error}. Create one with `temporal workflow show --workflow-id ID --output json`."
        ) from error


async def _fetch_running(session: Session, count: int) -> AsyncIterator[WorkflowHistory]:
    client = await session.connect()
    types = ", ".join(f"'{kind.__name__}'" for kind in WORKFLOWS)
    query = f"ExecutionStatus = 'Running' AND WorkflowType IN ({types})"
    async for found in client.list_workflows(query, limit=count):
        yield await client.get_workflow_handle(found.id, run_id=found.run_id).fetch_history()
