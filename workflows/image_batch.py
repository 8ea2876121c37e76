"""The workflow of a batch whose lines are runs: open it, advance it until it ends, and handle signals meanwhile.

The runs are not its children. The state of the lines is in the database, so that the history stays small and the workflow may
continue as new at any time.
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
    """Describe a batch for the Web UI: state, lines, cost, counts, and why it ended."""
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
    counted = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    reason = f"**Reason:** {quote(progress.reason)}" if progress.reason else ""
    runs = f'Its runs: `Batch = "{progress.batch_id}"`'
    return "\n\n".join(filter(None, [" · ".join(filter(None, facts)), counted, reason, runs]))


_STEPS: dict[Wish, str] = {
    "start": "start lines and follow them",
    "hold": "follow what runs, start nothing",
    "cancel": "cancel what runs, start nothing",
}


@workflow.defn(name=names.BATCH)
class ImageBatch:
    """One batch of image requests, each a run of its own. Cancelling the workflow cancels the batch."""

    def __init__(self) -> None:
        self._paused = False
        self._cancelled = False
        self._progress: BatchProgress | None = None

    @workflow.signal(name=names.SIGNAL_PAUSE)
    def pause(self) -> None:
        """Start no further lines. Runs under way are followed to their end."""
        self._paused = True

    @workflow.signal(name=names.SIGNAL_RESUME)
    def resume(self) -> None:
        """Start lines again."""
        self._paused = False

    @workflow.signal(name=names.SIGNAL_CANCEL)
    def cancel(self) -> None:
        """Start no further lines, and cancel runs whose request was not sent yet."""
        self._cancelled = True

    @workflow.query(name=names.QUERY_PROGRESS)
    def progress(self) -> BatchProgress | None:
        """Return the progress at the end of the last step, None before the first."""
        return self._progress

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> BatchProgress:
        """Run a batch by its `BatchOrder`, given as one argument of untrusted JSON.

        Raises:
            ApplicationError: type `RequestRefused`, the order is not valid; `BatchConflict`, the batch's id stands for other
                lines.
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
                await self._wait_until(lambda: self._requested_state != "hold")
            if workflow.info().get_current_history_length() > order.longest_history:
                self._continue_as_new(order)

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
        workflow.set_current_details(order.summary)
        opening = workflow.start_activity(
            names.OPEN_BATCH,
            order,
            result_type=BatchProgress,
            start_to_close_timeout=policies.BATCH_OPEN_ATTEMPT,
            heartbeat_timeout=policies.BATCH_HEARTBEAT,
            retry_policy=policies.BATCH_RETRY,
            summary=order.summary,
        )
        await self._wait_until(opening.done)
        self._read_result(opening)

    async def _advance(self, order: BatchOrder, wish: Wish) -> BatchProgress | None:
        """Run one step, and return its result, None without one.

        It ends early if another state is requested.
        """
        step = workflow.start_activity(
            names.ADVANCE_BATCH,
            BatchStep(batch_id=order.batch_id, wish=wish, seconds=order.step_seconds),
            result_type=BatchProgress,
            start_to_close_timeout=policies.BATCH_STEP_ATTEMPT,
            heartbeat_timeout=policies.BATCH_HEARTBEAT,
            retry_policy=policies.BATCH_RETRY,
            # A step that ends early still returns the progress.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=_STEPS[wish],
        )
        await self._wait_until(lambda: step.done() or self._requested_state != wish)
        is_cut_short = not step.done()
        if is_cut_short:
            step.cancel()
        await self._wait_until(step.done)
        return self._read_result(step, is_cut_short=is_cut_short)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. A cancellation meanwhile requests to cancel the batch."""
        while not condition():
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                self._cancelled = True

    def _read_result(
        self, activity: workflow.ActivityHandle[BatchProgress], *, is_cut_short: bool = False
    ) -> BatchProgress | None:
        """Read the result of a completed activity, None where it was cancelled before it had one.

        Temporal does not retry a step that was cut short, whatever it failed by: the next step continues in the requested
        state.
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

    def _continue_as_new(self, order: BatchOrder) -> NoReturn:
        wishes = {"opened": True, "paused": self._paused, "cancelled": self._cancelled}
        workflow.continue_as_new(
            order.model_copy(update=wishes), initial_versioning_behavior=policies.NEWEST_BUILD
        )

    def _failure(self, error: ActivityError) -> ApplicationError:
        """Return the activity's failure as the workflow's own, where an operator looks first."""
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else str(error.cause or error)
        workflow.set_current_details(quote(message))
        kind = (cause.type if cause else None) or type(error.cause or error).__name__
        return ApplicationError(message, type=kind, non_retryable=True)
