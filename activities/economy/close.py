"""`close_economy_part` gives every line an outcome, also one without a result; `close_economy_round` sums them up."""

import asyncio
from collections.abc import Callable

from temporalio import activity

from activities.economy.documents import EconomyDocuments
from activities.economy.outcomes import left_out_outcome, missing_result_outcome
from activities.errors import translate_errors
from activities.heartbeats import heartbeats
from gpt_image_runs.batches.economy import EconomyAttempts, end_part, end_round
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.economy import EconomySummary, PartOrder, RoundOrder
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.store import ImageStore


class EconomyCloser:
    """Ends parts and rounds in one ledger."""

    def __init__(self, database: Database, log: AttemptLog, store: ImageStore) -> None:
        self._database = database
        self._log = log
        self._attempts = EconomyAttempts(database)
        self._store = store

    @activity.defn(name=names.CLOSE_ECONOMY_PART)
    async def close_economy_part(self, order: PartOrder) -> int:
        """Record an outcome for every line of a part that has none, and return how many had none.

        How the part ended is read from what the activities noted that asked the provider, not from the workflow.

        Raises:
            BatchConflict: the part is not in the round's plan.
            LedgerUnavailable, StoreUnavailable: retried until it succeeds.
        """
        with translate_errors():
            async with heartbeats():
                documents = EconomyDocuments(self._store, order.batch)
                await documents.check_part(order.part)
                number = order.part.number
                left_out = {line.run_id: line.reason for line in await documents.read_left_out(number)}
                missing = missing_result_outcome(
                    order, await documents.read_ended(number), await documents.find_refusal(number)
                )
                return await asyncio.to_thread(self._close, order, left_out.get, missing)

    @activity.defn(name=names.CLOSE_ECONOMY_ROUND)
    async def close_economy_round(self, order: RoundOrder) -> EconomySummary:
        """Sum up a round, and store the result for good. Raises as for a part."""
        with translate_errors():
            async with heartbeats():
                documents = EconomyDocuments(self._store, order.batch)
                known = await documents.read_end()
                if known is None:
                    known = await asyncio.to_thread(self._sum_up, order)
                    await asyncio.to_thread(
                        end_round, self._database, order.batch.batch_id, cancelled=order.cancelled
                    )
                    await documents.write_end(known)
                return known

    def _close(
        self, order: PartOrder, find_reason: Callable[[str], str | None], missing: AttemptOutcome
    ) -> int:
        part = order.batch.part_mark(order.part.number)
        attempts = self._attempts.list_open(part)
        for attempt in attempts:
            reason = find_reason(attempt.run_id)
            outcome = missing if reason is None else left_out_outcome(reason)
            self._log.finish(attempt.attempt_id, outcome)
        end_part(self._database, order.batch.batch_id, part)
        return len(attempts)

    def _sum_up(self, order: RoundOrder) -> EconomySummary:
        totals = self._attempts.sum_up(order.batch.mark)
        counts = totals.outcomes
        claimed = sum(counts.values())
        return EconomySummary(
            batch_id=order.batch.batch_id,
            round=order.batch.round,
            status="cancelled" if order.cancelled else "completed",
            lines=order.lines,
            done=counts.get("succeeded", 0),
            passed=order.lines - order.refused - claimed,
            refused=order.refused,
            rejected=counts.get("rejected", 0),
            not_sent=counts.get("not_sent", 0),
            unknown=counts.get("unknown", 0),
            images=totals.images,
            without_picture=totals.without_picture,
            charged_usd=format_usd(totals.charged_micro_usd),
            pending=totals.pending,
            provider_batch_ids=order.provider_batch_ids,
        )
