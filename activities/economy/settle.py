"""`settle_economy_lines`: read a section of a result file line by line, save images, record outcomes and bills.

Settling a line is idempotent, so that a section may be read again after a crash. Only a few lines are in memory at a time.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import structlog
from temporalio import activity

from activities.economy.documents import EconomyDocuments, PlannedLine, identify_line
from activities.economy.outcomes import build_raw_answer, not_started_outcome
from activities.errors import to_application_error, translate_errors
from activities.heartbeats import heartbeats
from activities.provider_call.earlier_attempts import AttemptReceipts
from activities.provider_call.image_saving import ImageSaver
from activities.provider_call.results import (
    apply_outcome,
    failed_outcome,
    succeeded_outcome,
    undelivered_outcome,
)
from gpt_image_runs.batches.economy import EconomyAttempts
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.paid_attempt import limit_usage_size
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import BillingInput, BillingRecord, CostInput
from gpt_image_runs.contracts.economy import SettledLines, SettleOrder
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptConflict
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.batch_api import BatchClient, ResultLine
from gpt_image_runs.provider.batch_files import LineResult, read_result_line
from gpt_image_runs.provider.errors import ObjectGone, ProviderFailure
from gpt_image_runs.webhooks.downloads import Downloader

log = structlog.get_logger("settle_economy_lines")


class LineBiller:
    """Bills paid lines by the worker's rate cards."""

    def __init__(self, ledger: Ledger, cards: RateCards) -> None:
        self._ledger = ledger
        self._cards = cards

    def bill(self, line: PlannedLine, paid: Attempt) -> BillingRecord:
        """Record the bill of a line's run, or find it where it was recorded before.

        Raises:
            LedgerUnavailable: try again.
        """
        usage, usage_problem = limit_usage_size(paid.response, paid.attempt_id)
        cost = compute_cost(
            CostInput(
                provider=paid.provider,
                model=paid.model,
                usage=usage,
                usage_problem=usage_problem,
                missing_usage=line.missing_usage,
                operation=line.operation,
                images=len(paid.images or ()),
                size=paid.size,
                quality=paid.quality,
                output_format=paid.output_format,
                sent_at=paid.sent_at,
                mode="batch",
            ),
            self._cards,
        )
        return self._ledger.bill(
            BillingInput(
                run_id=paid.run_id, attempt_id=paid.attempt_id, cost=cost, metadata=line.metadata or {}
            ),
            self._cards,
        )


LINES_A_SECTION = 500
SECONDS_A_SECTION = 60.0
LINES_AT_ONCE = 4
_NOTHING_BEHIND = 416


class EconomySettler:
    """Settles the lines of result files of one provider."""

    def __init__(
        self,
        client: BatchClient,
        store: ImageStore,
        database: Database,
        log: AttemptLog,
        biller: LineBiller,
        *,
        downloader: Downloader | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._keeper = ImageSaver(store, downloader)
        self._database = database
        self._log = log
        self._attempts = EconomyAttempts(database)
        self._receipts = AttemptReceipts(store, log, simulated=False)
        self._biller = biller

    @activity.defn(name=names.SETTLE_ECONOMY_LINES)
    async def settle_economy_lines(self, order: SettleOrder) -> SettledLines:
        """Settle one section of a result file, and return where the next one begins.

        Raises:
            BatchConflict: the part is not in the round's plan.
            ApplicationError: the file cannot be read now; retried from the start of this section.
            LedgerUnavailable, StoreUnavailable: retried in the same way.
        """
        with translate_errors():
            async with heartbeats():
                documents = EconomyDocuments(self._store, order.batch)
                await documents.check_part(order.part)
                claimed = await documents.read_claimed(order.part.number) or []
                try:
                    settled = await self._settle(order, {line.run_id: line for line in claimed})
                except ObjectGone as gone:
                    return SettledLines(reason=str(gone))
                except ProviderFailure as failure:
                    if failure.http_status == _NOTHING_BEHIND:
                        return SettledLines()
                    raise to_application_error(failure, patient=True) from None
                lines = BatchLines(self._database, order.batch.batch_id, economy=True)
                await asyncio.to_thread(lines.collect_billed)
                return settled

    async def _settle(self, order: SettleOrder, lines: dict[str, PlannedLine]) -> SettledLines:
        started, count, unread = time.monotonic(), 0, 0
        pictures = max((line.options.get("n") or 1 for line in lines.values()), default=1)
        read = self._client.read_lines(order.file_id, order.offset, pictures=pictures)
        async for group in _in_groups(read):
            settled = await asyncio.gather(
                *(self._settle_line(order, line, lines) for line in group), return_exceptions=True
            )
            for result in settled:
                if isinstance(result, BaseException):
                    raise result
            count += len(group)
            unread += sum(result is False for result in settled)
            if count >= LINES_A_SECTION or time.monotonic() - started > SECONDS_A_SECTION:
                return SettledLines(next_offset=group[-1].end, lines=count, unread=unread)
        return SettledLines(lines=count, unread=unread)

    async def _settle_line(self, order: SettleOrder, raw: ResultLine, lines: dict[str, PlannedLine]) -> bool:
        """Settle a line, and return whether it is one of the part's."""
        result = await asyncio.to_thread(read_result_line, raw.data)
        line = lines.get(result.custom_id) if result else None
        if result is None or line is None or line.attempt_id is None:
            log.error("foreign_result_line_ignored", file=order.file_id, ends_at=raw.end)
            return False
        attempt = await asyncio.to_thread(self._attempts.find, line.attempt_id)
        if attempt.outcome != "succeeded":
            outcome = await self._read_outcome(order, raw, result, line, attempt)
            if outcome.outcome in {"succeeded", "unknown"}:
                await self._write_receipt(order, line, attempt, outcome)
            try:
                await asyncio.to_thread(self._log.finish, attempt.attempt_id, outcome)
            except AttemptConflict as conflict:
                log.warning("second_result_ignored", attempt_id=attempt.attempt_id, error=str(conflict))
                return False
            attempt = apply_outcome(attempt, outcome)
        if attempt.outcome == "succeeded":
            await asyncio.to_thread(self._biller.bill, line, attempt)
        return True

    async def _write_receipt(
        self, order: SettleOrder, line: PlannedLine, attempt: Attempt, outcome: AttemptOutcome
    ) -> None:
        """Write a receipt into the store: it survives a ledger that is restored from an older copy."""
        asked = {"metadata": line.metadata, "missing_usage": line.missing_usage}
        request = line.read_request(order.part.model).model_copy(update=asked)
        run = identify_line(line, activity.info().workflow_id or "")
        await self._receipts.write(run, attempt, outcome, request)

    async def _read_outcome(
        self, order: SettleOrder, raw: ResultLine, result: LineResult, line: PlannedLine, attempt: Attempt
    ) -> AttemptOutcome:
        if result.untouched:
            return not_started_outcome(*result.untouched)
        if result.failure:
            return failed_outcome(result.failure)
        answer = build_raw_answer(raw, result, attempt)
        try:
            read = await self._keeper.open_answer(
                answer, line.read_request(order.part.model), result.response
            )
        except ProviderFailure as failure:
            await self._keeper.save_raw_body(attempt.attempt_id, answer)
            if not failure.is_charged:
                return failed_outcome(failure)
            return dataclasses.replace(undelivered_outcome(answer, failure), latency_ms=None)
        if read.problems:
            await self._keeper.save_raw_body(attempt.attempt_id, answer)
        # The provider keeps the file: if the store is unavailable, the next attempt saves the images.
        images = await self._keeper.save_without_waiting(read.pictures, owner=line.tenant)
        return dataclasses.replace(succeeded_outcome(answer, read, images), latency_ms=None)


async def _in_groups(lines: AsyncIterator[ResultLine]) -> AsyncIterator[list[ResultLine]]:
    group: list[ResultLine] = []
    async for line in lines:
        group.append(line)
        if len(group) == LINES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
