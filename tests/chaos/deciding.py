"""The operator of a campaign: decides about the runs that are held, as a person would, and gives up in the end."""

import asyncio
from collections import Counter

from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.decisions import Choice, Decision

MAX_RESENDS = 2
_HELD = 'WaitsFor = "decision" AND ExecutionStatus = "Running"'


class Operator:
    """Somebody at a terminal. `resends` counts the decisions to send again that may have been taken, by run."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.resends: Counter[str] = Counter()

    async def decide_for_ever(self) -> None:
        """Decide about every held run, until cancelled."""
        while True:
            for run_id in await self._list_held():
                await self._decide(run_id)
            await asyncio.sleep(0.5)

    async def _list_held(self) -> list[str]:
        try:
            return [execution.id async for execution in self._client.list_workflows(_HELD)]
        except RPCError:
            return []

    async def _decide(self, run_id: str) -> None:
        choice: Choice = "resend" if self.resends[run_id] < MAX_RESENDS else "give_up"
        decision = Decision(decision=choice, actor="operator", reason="the campaign goes on")
        handle = self._client.get_workflow_handle(run_id)
        counts = int(choice == "resend")
        self.resends[run_id] += counts
        try:
            await handle.execute_update(names.UPDATE_DECIDE, decision)
        except WorkflowUpdateFailedError:  # the list is late: this one is decided on
            self.resends[run_id] -= counts
        except WorkflowUpdateRPCTimeoutOrCancelledError:  # the SDK's word for a cancelled task, too
            task = asyncio.current_task()
            if task and task.cancelling():
                raise asyncio.CancelledError from None
        except RPCError as error:
            # It has ended, which the list does not know yet. Else nobody knows whether it was taken, and it counts.
            if error.status is RPCStatusCode.NOT_FOUND:
                self.resends[run_id] -= counts
