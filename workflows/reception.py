"""Where a run answers those who submit it: each submission gets its receipt, before anything is sent and before the run ends."""

import asyncio
import json
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from contracts import names
from contracts.calls import Admission
from contracts.problems import Problem
from contracts.reading import read_request
from contracts.request import ImageRequest
from contracts.submissions import EarlierRun, EarlierRunInput, SubmitReceipt
from workflows import receipts
from workflows.arguments import NOTHING, read_argument
from workflows.checking import check_payload
from workflows.money_steps import carry_out_money_step
from workflows.run_start import SUBMISSION

MOST_SUBMISSIONS = 1_000
"""Temporal takes 2,000 Updates of a run: a decision has to find a place too, however often somebody submits a held run."""
LARGEST_HISTORY_BYTES = 8_000_000
"""Temporal ends a run at 50 MiB of history, be it paid or not. A submission is up to 2 MB of it, and ten may come at once."""


class Reception:
    """The submissions of one run. A run that nobody submits does nothing for it: its history is as if there were none."""

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._has_begun = False
        self._has_ended = False
        self._payload: Any = None
        self._request: ImageRequest | None = None
        self._admission: Admission | None = None
        self._earlier: asyncio.Task[EarlierRun] | None = None
        self._came_with_start = False
        self._was_accepted = False
        self._count = 0

    def begin(self, payload: Any, request: ImageRequest | None) -> None:
        """The run begins, with this payload: `request` is what could be read of it."""
        self._has_begun = True
        self._payload, self._request = payload, request

    async def admit(self, admission: Admission) -> None:
        """The run's verdict is there. Where somebody waits for a receipt, the run first learns what the ledger knows of it.

        For once the call is under way, the ledger knows the run itself, and no receipt could tell it from an earlier one.
        """
        self._admission = admission
        if self._came_with_start and self._request is not None and not admission.problems:
            looking = self._look_up(self._request, admission)
            await workflow.wait_condition(looking.done)

    def close(self) -> None:
        """The run ends, however it does: whoever waits for a receipt is answered now."""
        self._has_ended = True

    def check_room(self) -> None:
        """Turns a submission down, before it is in the history, where more of them would be the end of the run.

        Raises:
            ApplicationError: type `NoReceipt`.
        """
        is_full = workflow.info().get_current_history_size() > LARGEST_HISTORY_BYTES
        if self._count < MOST_SUBMISSIONS and not is_full:
            return
        message = (
            f"The run {self._workflow_id} is under way, and was submitted {self._count} times: it gives no more receipts."
            " Await its result."
        )
        raise ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)

    async def receive(self, payload: Any) -> SubmitReceipt:
        """The receipt of one submission: of JSON that anybody may have sent.

        Raises:
            ApplicationError: type `NoReceipt`, where the run was cancelled before it was known what it stands for.
        """
        self._count += 1
        # An Update is handled before the run begins only where it came in the first workflow task.
        came_with_start = not self._has_begun
        self._came_with_start |= came_with_start
        await workflow.wait_condition(lambda: self._admission is not None or self._has_ended)
        if self._admission is None:
            raise self._no_receipt()
        submitted, problems, _ = read_request(payload)
        if _spell(payload) == _spell(self._payload):
            problems = self._admission.problems or problems
        elif submitted is None:
            return await self._refuse_unreadable(payload, problems)
        else:
            conflict = self._find_conflict(submitted, self._admission)
            if conflict is not None:
                return conflict
            problems = self._admission.problems
        if submitted is None or problems:
            return receipts.refuse(self._run_id, problems, self._admission.warnings)
        return await self._compare_with_ledger(submitted, self._admission, came_with_start=came_with_start)

    async def _refuse_unreadable(self, payload: Any, problems: tuple[Problem, ...]) -> SubmitReceipt:
        """All that is wrong, by the model's rules too: as its own run would be told."""
        admission = await check_payload(payload, self._workflow_id)
        return receipts.refuse(self._run_id, admission.problems or problems, admission.warnings)

    def _find_conflict(self, submitted: ImageRequest, admission: Admission) -> SubmitReceipt | None:
        if self._request is None:
            return receipts.tell_conflict_with_refused(self._run_id)
        differences = receipts.find_differences(self._request, submitted, self._workflow_id)
        if not differences:
            return None
        if admission.problems:
            return receipts.tell_conflict_with_refused(self._run_id)
        return receipts.tell_conflict_with_run(self._run_id, differences)

    @property
    def _run_id(self) -> str:
        return (self._admission and self._admission.run_id) or self._workflow_id

    async def _compare_with_ledger(
        self, submitted: ImageRequest, admission: Admission, *, came_with_start: bool
    ) -> SubmitReceipt:
        looking = self._look_up(submitted, admission)
        await workflow.wait_condition(lambda: looking.done() or self._has_ended)
        if not looking.done():
            raise self._no_receipt()
        earlier = looking.result()
        if earlier.conflict:
            return receipts.tell_conflict_with_ledger(
                admission.run_id, submitted, earlier.conflict, earlier.differences
            )
        if not earlier.paid and self._is_starter(came_with_start=came_with_start):
            self._was_accepted = True
            return receipts.accept(admission)
        notify = submitted.notify
        is_told = notify is None or notify == admission.notify
        return receipts.attach(admission, paid_before=earlier.paid, is_told=is_told)

    def _is_starter(self, *, came_with_start: bool) -> bool:
        """Whether this submission has started the run: its memo names the Update that did, else it is the first to come with it."""
        starter = read_argument(workflow.memo_value(SUBMISSION, NOTHING, type_hint=RawValue))
        if starter is None:
            return came_with_start and not self._was_accepted
        update = workflow.current_update_info()
        return update is not None and update.id == starter

    def _look_up(self, request: ImageRequest, admission: Admission) -> "asyncio.Task[EarlierRun]":
        """What the ledger knows of the run, asked once for all submissions."""
        if self._earlier is None:
            order = EarlierRunInput(
                run_id=admission.run_id,
                tenant=admission.tenant,
                request_id=admission.request_id,
                workflow_id=self._workflow_id,
                fingerprint=admission.fingerprint,
                operation=request.operation,
                requested_model=request.model,
            )
            self._earlier = asyncio.create_task(
                carry_out_money_step(
                    names.FIND_EARLIER_RUN,
                    order,
                    EarlierRun,
                    locally=True,
                    summary=f"whether the request id {admission.request_id} was used before",
                )
            )
        return self._earlier

    def _no_receipt(self) -> ApplicationError:
        message = f"The run {self._workflow_id} ended before it was known whether its request id was used before. Submit it again."
        return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def _spell(payload: Any) -> str:
    """A payload as text: to Python 1, 1.0 and true are the same, and one of them may be refused."""
    return json.dumps(payload, sort_keys=True)
