"""The campaign: submits the runs of a plan, lets its events happen at their moments, and waits until all runs have ended."""

import asyncio
import dataclasses
import signal
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from gpt_image_runs.contracts import names
from tests.chaos.collect import collect_evidence
from tests.chaos.deciding import Operator
from tests.chaos.evidence import Evidence
from tests.chaos.plan import Event, Plan
from tests.chaos.planned_runs import PlannedRun
from tests.chaos.races import Answer, Race, run_race
from tests.chaos.site import Site

T = TypeVar("T")
_SUBMITTERS = 12
_SIGNALS = {
    "worker SIGKILL": signal.SIGKILL,
    "worker SIGTERM": signal.SIGTERM,
    "Temporal SIGKILL": signal.SIGKILL,
    "Temporal SIGTERM": signal.SIGTERM,
}


@dataclass
class Progress:
    """How far a campaign is: executions by Temporal's word, and events that have happened."""

    executions: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        """Executions that run no more."""
        return self.executions.total() - self.executions["Running"]


class Campaign:
    """One plan on one site. `tell` is called whenever the progress has changed."""

    def __init__(self, plan: Plan, site: Site, tell: Callable[[Progress], None]) -> None:
        self._plan = plan
        self._site = site
        self._tell = tell
        self._races: list[asyncio.Task[None]] = []
        self._answers: list[Answer] = []
        self.progress = Progress()

    async def carry_out(self, *, seconds: float) -> Evidence:
        """Run the plan. A run that has not ended within the time limit hangs."""
        operator = Operator(self._site.client)
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                deciding = tasks.create_task(operator.decide_for_ever())
                submitting = tasks.create_task(self._submit_all())
                await self._follow(submitting, tasks)
                deciding.cancel()
        except TimeoutError:
            pass  # the evidence tells what hangs
        found = await collect_evidence(self._site)
        return dataclasses.replace(found, resends=operator.resends, answers=tuple(self._answers))

    async def _submit_all(self) -> None:
        gate = asyncio.Semaphore(_SUBMITTERS)

        async def submit(run: PlannedRun) -> None:
            async with gate:
                await self._site.script(run)
                await self._submit(run)

        await asyncio.gather(*(submit(run) for run in self._plan.runs))

    async def _submit(self, run: PlannedRun) -> None:
        """Submit a run until the server has accepted it, as a careful client does."""
        await patiently(
            lambda: self._site.client.start_workflow(
                names.WORKFLOW,
                run.payload,
                id=run.run_id,
                task_queue=names.RUNS_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        )

    async def _race(self, race: Race) -> None:
        await self._site.script(race.run)
        await run_race(self._site.client, race, self._answers)

    async def _follow(self, submitting: asyncio.Task[None], tasks: asyncio.TaskGroup) -> None:
        waiting = deque(self._plan.events)
        while (
            waiting
            or not submitting.done()
            or not all(race.done() for race in self._races)
            or self.progress.executions["Running"]
            or not self.progress.ended
        ):
            self.progress.executions = await patiently(lambda: count_executions(self._site.client))
            self._tell(self.progress)
            due = []
            while waiting and waiting[0].after <= self.progress.ended:
                due.append(waiting.popleft())
            await asyncio.gather(*(self._happen(event, tasks) for event in due))
            await asyncio.sleep(0 if due else 0.2)

    async def _happen(self, event: Event, tasks: asyncio.TaskGroup) -> None:
        site = self._site
        match event.kind:
            case "worker SIGKILL" | "worker SIGTERM":
                await site.strike_worker(event.target, _SIGNALS[event.kind])
            case "Temporal SIGKILL" | "Temporal SIGTERM":
                await site.strike_temporal(_SIGNALS[event.kind])
            case "ledger away":
                await _away(site.ledger.take_away, site.ledger.bring_back, event.seconds)
            case "store away":
                await _away(site.take_store_away, site.bring_store_back, event.seconds)
            case "again":
                await self._submit(self._plan.runs[event.target])
            case "race":
                # Other events are to happen while it goes on.
                self._races.append(tasks.create_task(self._race(self._plan.races[event.target])))
        self.progress.happened[event.kind] += 1


async def count_executions(client: Client) -> Counter[str]:
    """Count the executions by Temporal's word for their status."""
    counted = await client.count_workflows("GROUP BY ExecutionStatus")
    return Counter({str(group.group_values[0]): group.count for group in counted.groups})


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Call the Temporal server until it answers: it may be down."""
    while True:
        try:
            return await ask()
        except RPCError:
            await asyncio.sleep(0.2)


async def _away(
    take_away: Callable[[], Awaitable[None]], bring_back: Callable[[], Awaitable[None]], seconds: float
) -> None:
    await take_away()
    try:
        await asyncio.sleep(seconds)
    finally:
        await bring_back()
