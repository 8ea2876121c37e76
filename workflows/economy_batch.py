"""The workflow of an economy batch: plan, claim and send each part, poll the provider, settle results, close.

Lines run in the provider's own batches, at half price and within a day. No worker is busy while the workflow waits.
"""

import contextlib
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.economy import (
        EconomyBatchRef,
        EconomyOrder,
        EconomyPlan,
        EconomyProgress,
        EconomyStage,
        EconomySummary,
        LookOrder,
        PartClaim,
        PartOrder,
        PartProgress,
        RoundOrder,
        SeenBatch,
        SeenBatches,
        SentPart,
        SettledLines,
        SettleOrder,
    )
    from gpt_image_runs.contracts.problems import InvalidPayload, parse
    from workflows import retry_policies as policies
    from workflows.activity_calls import run_shielded
    from workflows.payloads import NOTHING, read_argument
    from workflows.schedules import find_scheduled_order, run_scheduled_batch

_MAX_PARTS = 50


def describe_economy(progress: EconomyProgress) -> str:
    """Describe the batch for the Web UI: its stage, and a table of its parts."""
    head = f"**{progress.stage}**, round {progress.round}, {progress.refused} lines refused"
    if progress.cancelled:
        head += ", cancelled"
    rows = [
        f"| {each.part.number} | {each.part.model} | {each.part.lines} | {each.status} | {each.completed}"
        f" | {each.failed} | {each.provider_batch_id or ''} |"
        for each in progress.parts[:_MAX_PARTS]
    ]
    if not rows:
        return head
    more = len(progress.parts) - len(rows)
    table = [
        "| part | model | lines | status | completed | failed | provider's batch |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join([head, "", *table, *([f"\nand {more} more"] if more else [])])


class EconomyProgressTracker:
    """The progress of one batch, which is passed from one run of its workflow to the next."""

    def __init__(self) -> None:
        self.progress = EconomyProgress()

    def update(self, stage: EconomyStage, **changes: Any) -> None:
        """Change the progress, and show it in the Web UI."""
        self.progress = self.progress.model_copy(update={"stage": stage, **changes})
        workflow.set_current_details(describe_economy(self.progress))

    def update_part(self, number: int, **changes: Any) -> None:
        """Change the progress of one part, by its index."""
        parts = list(self.progress.parts)
        parts[number] = parts[number].model_copy(update=changes)
        self.update(self.progress.stage, parts=tuple(parts))

    def find_part(self, provider_batch_id: str) -> tuple[int, PartProgress]:
        """Find a part and its index."""
        return next(
            (number, each)
            for number, each in enumerate(self.progress.parts)
            if each.provider_batch_id == provider_batch_id
        )

    def list_open(self) -> tuple[str, ...]:
        """List the provider's batches that are not closed."""
        return tuple(
            each.provider_batch_id
            for each in self.progress.parts
            if each.provider_batch_id and not each.closed
        )


T = TypeVar("T")

_UNSENT, _CANCELLED, _REFUSED, _GONE = "unsent", "cancelled", "refused", "gone"


@workflow.defn(name=names.ECONOMY_BATCH)
class EconomyBatch:
    """One round of a batch at half price. A cancellation stops the provider's batches; lines they have done are billed."""

    def __init__(self) -> None:
        self._tracker = EconomyProgressTracker()
        self._look_now = False
        self._cancel_wanted = False

    @workflow.query(name=names.QUERY_ECONOMY)
    def economy(self) -> EconomyProgress:
        """Return the batch's progress."""
        return self._tracker.progress

    @workflow.signal(name=names.SIGNAL_LOOK)
    def look(self) -> None:
        """Poll the provider's batches now, as they may have changed."""
        self._look_now = True

    @workflow.signal(name=names.SIGNAL_CANCEL)
    def cancel(self) -> None:
        """Stop the lines that are not done yet, as a cancellation of the workflow does."""
        self._cancel_wanted = True

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> EconomySummary:
        """Run one round of a batch by its `EconomyOrder`, given as untrusted JSON.

        Raises:
            ApplicationError: type `RequestRefused`, the order is not valid.
        """
        try:
            order = parse(EconomyOrder, read_argument(order_json), "economy batch")
        except InvalidPayload as error:
            raise ApplicationError(str(error), type=names.REQUEST_REFUSED, non_retryable=True) from None
        if scheduled := find_scheduled_order(order):
            return await run_scheduled_batch(names.ECONOMY_BATCH, scheduled, EconomySummary)
        return await run_shielded(self._run_round(order), self.cancel)

    async def _run_round(self, order: EconomyOrder) -> EconomySummary:
        if order.progress:
            self._tracker.progress = order.progress
            self._cancel_wanted = self._cancel_wanted or order.progress.cancelled
        else:
            await self._plan(order)
        batch = EconomyBatchRef(
            batch_id=order.batch_id, digest=order.digest, round=self._tracker.progress.round
        )
        for number, each in enumerate(self._tracker.progress.parts):
            if each.status == _UNSENT:
                await self._send(batch, number, each)
                self._continue_as_new_if_needed(order)
        while self._tracker.list_open():
            self._tracker.update("waiting")
            await self._pause()
            await self._cancel_once()
            await self._poll(batch)
            self._continue_as_new_if_needed(order)
        return await self._close(order, batch)

    async def _plan(self, order: EconomyOrder) -> None:
        self._tracker.update("planning")
        plan = await self._do(names.PLAN_ECONOMY_BATCH, order, EconomyPlan, f"{order.lines:,} lines")
        parts = tuple(PartProgress(part=part) for part in plan.parts)
        self._tracker.update("sending", round=plan.round, refused=plan.refused, parts=parts)

    async def _send(self, batch: EconomyBatchRef, number: int, each: PartProgress) -> None:
        """Claim a part's lines and send them, unless the batch was cancelled before."""
        if self._cancel_wanted:
            self._tracker.update_part(number, status=_CANCELLED, closed=True)
            return
        order = PartOrder(batch=batch, part=each.part)
        what = f"part {each.part.number}: {each.part.lines:,} lines for {each.part.model}"
        await self._do(names.CLAIM_ECONOMY_PART, order, PartClaim, what)
        sent = await self._send_or_fail(order, what)
        if sent.provider_batch_id:
            self._tracker.update_part(number, status="validating", provider_batch_id=sent.provider_batch_id)
            return
        status = _GONE if sent.gone else _REFUSED
        await self._close_part(order.model_copy(update={"status": status, "reason": sent.reason}))
        self._tracker.update_part(number, status=status, closed=True)

    async def _send_or_fail(self, order: PartOrder, what: str) -> SentPart:
        try:
            return await self._do(names.SEND_ECONOMY_PART, order, SentPart, what, at_provider=True)
        except ActivityError as error:
            cause = error.cause if isinstance(error.cause, ApplicationError) else None
            if cause is None:
                raise
            return SentPart(gone=True, reason=cause.message)

    async def _pause(self) -> None:
        """Wait for the next poll, a signal or a cancellation."""
        longer = timedelta(minutes=self._tracker.progress.looks // policies.ECONOMY_PAUSE_GROWTH)
        pause = min(policies.ECONOMY_FIRST_PAUSE + longer, policies.ECONOMY_LONGEST_PAUSE)
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(self._should_poll_now, timeout=pause)
        self._look_now = False

    def _should_poll_now(self) -> bool:
        return self._look_now or (self._cancel_wanted and not self._tracker.progress.cancelled)

    async def _cancel_once(self) -> None:
        if self._cancel_wanted and not self._tracker.progress.cancelled:
            await self._poll_provider(names.CANCEL_ECONOMY_PARTS)
            self._tracker.update("waiting", cancelled=True)

    async def _poll(self, batch: EconomyBatchRef) -> None:
        """Poll all open parts, and settle those that have ended."""
        for seen in await self._poll_provider(names.LOOK_AT_ECONOMY_PARTS):
            number, each = self._tracker.find_part(seen.provider_batch_id)
            self._tracker.update_part(
                number, status=seen.status, completed=seen.completed, failed=seen.failed
            )
            if seen.has_ended:
                self._tracker.update("settling")
                await self._settle(batch, each, seen)
                self._tracker.update_part(number, closed=True)
        self._tracker.update("waiting", looks=self._tracker.progress.looks + 1)

    async def _poll_provider(self, name: str) -> tuple[SeenBatch, ...]:
        ids = self._tracker.list_open()
        order = LookOrder(provider_batch_ids=ids)
        seen = await self._do(name, order, SeenBatches, f"{len(ids)} part(s)", at_provider=True)
        return seen.batches

    async def _settle(self, batch: EconomyBatchRef, each: PartProgress, seen: SeenBatch) -> None:
        reason = seen.reason
        for file_id in (seen.output_file_id, seen.error_file_id):
            if file_id:
                reason = await self._settle_file(batch, each, file_id) or reason
        await self._close_part(
            PartOrder(
                batch=batch,
                part=each.part,
                provider_batch_id=seen.provider_batch_id,
                status=seen.status,
                reason=reason,
                untouched=seen.untouched,
            )
        )

    async def _settle_file(self, batch: EconomyBatchRef, each: PartProgress, file_id: str) -> str | None:
        """Settle a result file in sections, and return why it could not be read, if so."""
        offset: int | None = 0
        while offset is not None:
            order = SettleOrder(batch=batch, part=each.part, file_id=file_id, offset=offset)
            what = f"part {each.part.number}: {file_id} from {offset:,}"
            settled = await self._do(names.SETTLE_ECONOMY_LINES, order, SettledLines, what, at_provider=True)
            if settled.reason:
                return settled.reason
            offset = settled.next_offset
        return None

    async def _close_part(self, order: PartOrder) -> None:
        await self._do(names.CLOSE_ECONOMY_PART, order, int, f"part {order.part.number}: {order.status}")

    async def _close(self, order: EconomyOrder, batch: EconomyBatchRef) -> EconomySummary:
        self._tracker.update("closing")
        ids = tuple(each.provider_batch_id for each in self._tracker.progress.parts if each.provider_batch_id)
        summary = await self._do(
            names.CLOSE_ECONOMY_ROUND,
            RoundOrder(
                batch=batch,
                lines=order.lines,
                refused=self._tracker.progress.refused,
                cancelled=self._cancel_wanted,
                provider_batch_ids=ids,
            ),
            EconomySummary,
            f"round {batch.round}",
        )
        self._tracker.update("cancelled" if self._cancel_wanted else "done")
        return summary

    async def _do(
        self, name: str, order: Any, result_type: type[T], what: str, *, at_provider: bool = False
    ) -> T:
        result: T = await workflow.execute_activity(
            name,
            order,
            result_type=result_type,
            task_queue=names.PROVIDER_QUEUE if at_provider else names.RUNS_QUEUE,
            start_to_close_timeout=policies.ECONOMY_ATTEMPT,
            heartbeat_timeout=policies.ECONOMY_HEARTBEAT,
            retry_policy=policies.ECONOMY_RETRY,
            summary=what,
        )
        return result

    def _continue_as_new_if_needed(self, order: EconomyOrder) -> None:
        """Continue as new before the history is too long.

        A day has many polls, and a result file many sections.
        """
        is_cancel_pending = self._cancel_wanted and not self._tracker.progress.cancelled
        if workflow.info().is_continue_as_new_suggested() and not is_cancel_pending:
            workflow.continue_as_new(
                order.model_copy(update={"progress": self._tracker.progress}),
                initial_versioning_behavior=policies.NEWEST_BUILD,
            )
