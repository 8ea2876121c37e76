"""Races: several callers submit different contents under one request id at the same moment, and again after one is billed."""

import asyncio
import random
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from gpt_image_runs.client.submissions import request_receipt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.names import SUBMISSION
from gpt_image_runs.contracts.submissions import SubmitReceipt
from tests.chaos.planned_runs import FREE, LOST, PlannedRun

MOMENTS = 2
_CALLERS_OF_EACH = 2
_SUBJECTS = ("A cup", "A plate", "A spoon")
_TENANTS = ("acme", "globex", "initech")
_PATIENCE = timedelta(seconds=60)
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Race:
    """One run id, and the prompts that are submitted under it in this order; all else is the same. Faults strike whoever is first."""

    run: PlannedRun
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one caller got: the receipt's status, then the entry of the result or the type of the failure."""

    run_id: str
    moment: int
    prompt: str
    status: str
    entry_id: str | None = None
    failure: str | None = None


def plan_races(seed: int, count: int, dice: random.Random) -> tuple[Race, ...]:
    """Plan so many races, each with a request id of its own."""
    return tuple(_plan_race(seed, number, dice) for number in range(count))


def _plan_race(seed: int, number: int, dice: random.Random) -> Race:
    tenant, mark = dice.choice(_TENANTS), f"Race {number:05d}."
    prompts = [f"{mark} {subject}" for subject in _SUBJECTS for _ in range(_CALLERS_OF_EACH)]
    dice.shuffle(prompts)
    payload = {
        "tenant": tenant,
        "model": dice.choice(("gpt-image-1", "gpt-image-2")),
        "prompt": prompts[0],
        "n": 1,
        "size": "1024x1024",
        "quality": "low",
        "missing_usage": "estimate",
    }
    faults = dice.choice(((), (), (dice.choice(FREE),), (dice.choice(LOST),), ("delay=1.5",)))
    run = PlannedRun(
        run_id=names.run_id_for(tenant, f"race-{seed}-{number:05d}"),
        mark=mark,
        payload=payload,
        faults=faults,
    )
    return Race(run=run, prompts=tuple(prompts))


async def run_race(client: Client, race: Race, answers: list[Answer]) -> None:
    """Let all callers submit at the same moment, and once more if one of the contents was billed."""
    for moment in range(1, MOMENTS + 1):
        got = await asyncio.gather(*(_ask(client, race, moment, prompt) for prompt in race.prompts))
        answers += got
        if not any(answer.entry_id for answer in got):
            return


async def _ask(client: Client, race: Race, moment: int, prompt: str) -> Answer:
    run_id = race.run.run_id
    receipt, handle = await _submit(client, {**race.run.payload, "prompt": prompt}, run_id)
    answer = Answer(run_id=run_id, moment=moment, prompt=prompt, status=receipt.status)
    if receipt.status not in {"accepted", "attached"}:
        return answer
    while True:
        try:
            result = await handle.result()
        except WorkflowFailureError as error:
            cause = error.cause
            kind = cause.type if isinstance(cause, ApplicationError) else type(cause).__name__
            return replace(answer, failure=kind)
        except RPCError:
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return replace(answer, entry_id=result["billing"]["entry_id"])


async def _submit(client: Client, payload: dict[str, Any], run_id: str) -> tuple[SubmitReceipt, Any]:
    """Submit as docs/how-to/integrate.md says, until there is a receipt: servers and workers may be away."""
    while True:
        submission = uuid.uuid4().hex
        try:
            answer = await request_receipt(
                client,
                payload,
                submission,
                _PATIENCE,
                id=run_id,
                task_queue=names.RUNS_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                memo={SUBMISSION: submission},
            )
        except RPCError:
            answer = None
        if answer is not None and answer.receipt is not None:
            return answer.receipt, answer.handle
        await asyncio.sleep(_PAUSE_SECONDS)
