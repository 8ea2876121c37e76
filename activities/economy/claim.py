"""`claim_economy_part`: record the lines of a part in the ledger as attempts of their runs, before anything is sent."""

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from activities.economy.documents import EconomyDocuments, PassedLine, PlannedLine, identify_line
from activities.errors import translate_errors
from activities.heartbeats import heartbeats
from activities.provider_call.earlier_attempts import AttemptReceipts
from gpt_image_runs.batches.economy import (
    BILL_MISSING,
    EconomyAttempts,
    LineClaim,
    Refusal,
    describe_claim,
)
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import PricedLine, StartedLine, UnbilledEnd
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.records import NewAttempt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.economy import PartClaim, PartOrder
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import RunConflict
from gpt_image_runs.images.store import ImageStore

_LINES_AT_ONCE = 50
# Error types of passed lines in the manifest. A paid line has its bill, which takes precedence.
_ERROR_TYPES = {
    "paid": BILL_MISSING,
    "under_way": "UnderWay",
    "doubtful": "AnswersLost",
    "conflict": "RunConflict",
    "over_budget": names.BUDGET_EXCEEDED,
}


class EconomyClaimer:
    """Claims lines in one ledger for one provider. `resends` limits lost answers as for single runs."""

    def __init__(
        self, database: Database, store: ImageStore, *, provider: str, simulated: bool, resends: int
    ) -> None:
        self._database = database
        self._attempts = EconomyAttempts(database)
        self._receipts = AttemptReceipts(store, AttemptLog(database), simulated=simulated)
        self._store = store
        self._provider = provider
        self._simulated = simulated
        self._resends = resends

    @activity.defn(name=names.CLAIM_ECONOMY_PART)
    async def claim_economy_part(self, order: PartOrder) -> PartClaim:
        """Claim every line of a part that may be sent.

        Idempotent: once decided, the claimed lines never change.

        Raises:
            BatchConflict: the part is not in the round's plan.
            LedgerUnavailable, StoreUnavailable: retried; lines that were claimed already are found.
        """
        with translate_errors():
            async with heartbeats():
                documents = EconomyDocuments(self._store, order.batch)
                await documents.check_part(order.part)
                number = order.part.number
                claimed = await documents.read_claimed(number)
                if claimed is None:
                    claimed, passed = await self._claim_all(order, await documents.read_part(number))
                    await documents.write_claims(number, claimed, passed)
                await asyncio.to_thread(self._begin, order, claimed, await documents.read_passed(number))
                return PartClaim(claimed=len(claimed), passed=order.part.lines - len(claimed))

    async def _claim_all(
        self, order: PartOrder, lines: list[PlannedLine]
    ) -> tuple[list[PlannedLine], list[PassedLine]]:
        claimed: list[PlannedLine] = []
        passed: list[PassedLine] = []
        for start in range(0, len(lines), _LINES_AT_ONCE):
            chunk = lines[start : start + _LINES_AT_ONCE]
            # A ledger restored from an older copy would take paid lines for new ones.
            await asyncio.gather(
                *(
                    self._receipts.restore_attempts(identify_line(line, activity.info().workflow_id or ""))
                    for line in chunk
                )
            )
            results, capped = await asyncio.to_thread(self._claim_some, order, chunk)
            for result in results:
                if isinstance(result, PlannedLine):
                    claimed.append(result)
                else:
                    passed.append(result)
            if capped:  # a line that does not fit keeps back those behind it
                passed += map(_keep_back, lines[start + len(chunk) :])
                break
        return claimed, passed

    def _claim_some(
        self, order: PartOrder, lines: list[PlannedLine]
    ) -> tuple[list[PlannedLine | PassedLine], bool]:
        """Claim some lines; return the results, and whether the limit keeps back the next."""
        batch_lines = BatchLines(self._database, order.batch.batch_id, economy=True)
        allowed, capped = batch_lines.claim(
            [PricedLine.from_check(line.line, line.fingerprint, line.price_ceiling_usd) for line in lines]
        )
        wanted = [line for line in lines if line.line in allowed]
        announced = [
            (identify_line(line, activity.info().workflow_id or ""), self._new_attempt(order, line))
            for line in wanted
        ]
        claims = self._attempts.claim_all(announced, self._resends)
        results = [_apply_claim(line, claim) for line, claim in zip(wanted, claims, strict=True)]
        return [*results, *(_keep_back(line) for line in lines if line.line not in allowed)], capped

    def _begin(self, order: PartOrder, claimed: list[PlannedLine], passed: list[PassedLine]) -> None:
        workflow_run_id = activity.info().workflow_run_id or ""
        lines = BatchLines(self._database, order.batch.batch_id, economy=True)
        lines.confirm([StartedLine(line=line.line, workflow_run_id=workflow_run_id) for line in claimed])
        # Of the passed lines those that have a bill are done, and the others failed.
        lines.collect_billed()
        lines.end_unbilled(
            [
                UnbilledEnd(
                    line=line.line,
                    state="failed",
                    error_type=_ERROR_TYPES[line.state],
                    error_message=line.reason,
                )
                for line in passed
                if line.state in _ERROR_TYPES
            ]
        )

    def _new_attempt(self, order: PartOrder, line: PlannedLine) -> NewAttempt:
        ceiling = line.price_ceiling_usd
        return NewAttempt(
            run_id=line.run_id,
            workflow_run_id=activity.info().workflow_run_id or "",
            model=order.part.model,
            provider=self._provider,
            sent_at=datetime.now(UTC),
            reserved_micro_usd=None if ceiling is None else parse_usd(ceiling),
            simulated=self._simulated,
            batch_part=order.batch.part_mark(order.part.number),
        )


def _apply_claim(line: PlannedLine, claim: LineClaim | Refusal) -> PlannedLine | PassedLine:
    if not isinstance(claim, LineClaim):
        state = "conflict" if isinstance(claim, RunConflict) else "over_budget"
        return PassedLine(line=line.line, run_id=line.run_id, state=state, reason=str(claim))
    if claim.standing == "claimed":
        return line.model_copy(update={"attempt_id": claim.attempt.attempt_id})
    reason = describe_claim(claim, line.run_id)
    return PassedLine(line=line.line, run_id=line.run_id, state=claim.standing, reason=reason)


def _keep_back(line: PlannedLine) -> PassedLine:
    reason = "It has ended before and was not asked for again, or the batch's limit of cost keeps it back."
    return PassedLine(line=line.line, run_id=line.run_id, state="kept_back", reason=reason)
