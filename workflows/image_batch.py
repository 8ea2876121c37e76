"""The workflow of a batch: opens it, advances it until it has ended, and listens meanwhile. Its runs are no children of it.

Only the order of effects lives here. All that is known of the lines is in the database, so that a history stays small, and
the workflow may go on in a new run at any moment.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.batches import (
        BatchOrder,
        BatchProgress,
        BatchStep,
        Wish,
        describe_opening,
    )
    from gpt_image_runs.contracts.problems import InvalidPayload, parse
    from workflows import retry_policies as policies
    from workflows.payloads import NOTHING, read_argument
    from workflows.run_status import quote
    from workflows.schedules import find_scheduled_order, run_scheduled_batch

_STATES = {
    "registering": "Registering its lines",
    "running": "Running",
    "paused": "Paused",
    "cancelling": "Being cancelled",
    "done": "Done",
    "stopped": "Stopped by a failure",
    "capped": "Stopped by its limit of cost",
    "cancelled": "Cancelled",
}


def describe_batch(progress: BatchProgress) -> str:
    """The batch in one line (state, lines, cost), the counts that are not zero, and why it ended."""
    limit = f" of {progress.max_cost_usd}" if progress.max_cost_usd else ""
    facts = [
        f"**{_STATES[progress.state]}**",
        f"{progress.done:,} of {progress.lines:,} lines done",
        f"{progress.charged_usd}{limit} USD",
        f"round {progress.round}" if progress.round > 1 else "",
    ]
    counts = {
        "running": progress.running,
        "waiting": progress.waiting,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
        "skipped": progress.skipped,
        "bills pending": progress.pending,
        "requests of unknown outcome": progress.unknown,
    }
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    reason = f"**Reason:** {quote(progress.reason)}" if progress.reason else ""
    runs = f'Its runs: `Batch = "{progress.batch_id}"`'
    return "\n\n".join(filter(None, [" · ".join(filter(None, facts)), told, reason, runs]))


_STEPS: dict[Wish, str] = {
    "start": "start lines and follow them",
    "hold": "follow what runs, start nothing",
    "cancel": "cancel what runs, start nothing",
}


@workflow.defn(name=names.BATCH)
class ImageBatch:
    """One batch of image requests, each a run of its own. A cancellation of the workflow is one of the batch."""

    def __init__(self) -> None:
        self._paused = False
        self._cancelled = False
        self._progress: BatchProgress | None = None

    @workflow.signal(name=names.SIGNAL_PAUSE)
    def pause(self) -> None:
        """Starts no further lines; what runs is followed to its end."""
        self._paused = True

    @workflow.signal(name=names.SIGNAL_RESUME)
    def resume(self) -> None:
        """Starts lines again."""
        self._paused = False

    @workflow.signal(name=names.SIGNAL_CANCEL)
    def cancel(self) -> None:
        """Starts no further lines and cancels what runs, as far as it was not sent yet."""
        self._cancelled = True

    @workflow.query(name=names.QUERY_PROGRESS)
    def progress(self) -> BatchProgress | None:
        """Where the batch stood at the end of the last step, None before the first."""
        return self._progress

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> BatchProgress:
        """Carries out one `BatchOrder`: one argument, as JSON that anybody may have sent.

        Raises:
            ApplicationError: type `RequestRefused` where it cannot be read, `BatchConflict` where the batch's id stands for
                other lines.
        """
        order = self._read(read_argument(order_json))
        if scheduled := find_scheduled_order(order):
            return await run_scheduled_batch(names.BATCH, scheduled, BatchProgress)
        self._paused, self._cancelled = self._paused or order.paused, self._cancelled or order.cancelled
        if not order.opened:
            await self._open(order)
        while True:
            wish = self._requested_state
            progress = await self._advance(order, wish)
            if progress and progress.has_ended:
                return progress
            if progress and wish == "hold" and not progress.running:
                await self._until(lambda: self._requested_state != "hold")
            if workflow.info().get_current_history_length() > order.longest_history:
                self._continue_as_new_if_needed(order)

    @property
    def _requested_state(self) -> Wish:
        return "cancel" if self._cancelled else "hold" if self._paused else "start"

    def _read(self, payload: Any) -> BatchOrder:
        try:
            return parse(BatchOrder, payload, "batch")
        except InvalidPayload as error:
            workflow.set_current_details(quote(str(error)))
            raise ApplicationError(str(error), type=names.REQUEST_REFUSED, non_retryable=True) from None

    async def _open(self, order: BatchOrder) -> None:
        workflow.set_current_details(describe_opening(order))
        opening = workflow.start_activity(
            names.OPEN_BATCH,
            order,
            result_type=BatchProgress,
            start_to_close_timeout=policies.BATCH_OPEN_ATTEMPT,
            heartbeat_timeout=policies.BATCH_HEARTBEAT,
            retry_policy=policies.BATCH_RETRY,
            summary=describe_opening(order),
        )
        await self._until(opening.done)
        self._take(opening)

    async def _advance(self, order: BatchOrder, wish: Wish) -> BatchProgress | None:
        """One step, which ends early where somebody wishes something else meanwhile; None where it tells nothing."""
        step = workflow.start_activity(
            names.ADVANCE_BATCH,
            BatchStep(batch_id=order.batch_id, wish=wish, seconds=order.step_seconds),
            result_type=BatchProgress,
            start_to_close_timeout=policies.BATCH_STEP_ATTEMPT,
            heartbeat_timeout=policies.BATCH_HEARTBEAT,
            retry_policy=policies.BATCH_RETRY,
            # A step that is to end early still tells where the batch stands.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=_STEPS[wish],
        )
        await self._until(lambda: step.done() or self._requested_state != wish)
        is_cut_short = not step.done()
        if is_cut_short:
            step.cancel()
        await self._until(step.done)
        return self._take(step, is_cut_short=is_cut_short)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition. A cancellation of the workflow meanwhile is the wish to cancel the batch."""
        while not condition():
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                self._cancelled = True

    def _take(
        self, activity: workflow.ActivityHandle[BatchProgress], *, is_cut_short: bool = False
    ) -> BatchProgress | None:
        """What an activity that is done has told, None where it was cancelled before it could tell anything.

        A step that is cut short is not tried again by Temporal, whatever it fails by: the next one goes on, and does what is wished.
        """
        try:
            self._progress = activity.result()
        except asyncio.CancelledError:
            return None
        except ActivityError as error:
            if is_cut_short or is_cancelled_exception(error):
                return None
            raise self._failure(error) from None
        workflow.set_current_details(describe_batch(self._progress))
        return self._progress

    def _continue_as_new_if_needed(self, order: BatchOrder) -> NoReturn:
        wishes = {"opened": True, "paused": self._paused, "cancelled": self._cancelled}
        workflow.continue_as_new(
            order.model_copy(update=wishes), initial_versioning_behavior=policies.NEWEST_BUILD
        )

    def _failure(self, error: ActivityError) -> ApplicationError:
        """The activity's refusal as the workflow's own: where an operator looks first."""
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else str(error.cause or error)
        workflow.set_current_details(quote(message))
        kind = (cause.type if cause else None) or type(error.cause or error).__name__
        return ApplicationError(message, type=kind, non_retryable=True)
