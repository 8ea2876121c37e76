"""`claim_economy_part`: the lines of a part into the ledger, each as an attempt of its run, before anything is sent."""

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from activities.economy_documents import EconomyDocuments, PassedLine, PlannedLine
from activities.failures import known_failures
from activities.heartbeat import heartbeats
from billing.attempt_records import NewAttempt
from billing.economy_attempts import EconomyAttempts, LineClaim, Refusal, describe_claim
from billing.errors import RunConflict
from billing.runs import RunIdentity
from contracts import names
from contracts.economy import PartClaim, PartOrder
from contracts.money import parse_usd
from imaging.store import ImageStore

_LINES_AT_ONCE = 50


class EconomyClaimer:
    """Claims lines in one ledger for one provider. `resends` is as for runs by themselves."""

    def __init__(
        self, attempts: EconomyAttempts, store: ImageStore, *, provider: str, simulated: bool, resends: int
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._provider = provider
        self._simulated = simulated
        self._resends = resends

    @activity.defn(name=names.CLAIM_ECONOMY_PART)
    async def claim_economy_part(self, order: PartOrder) -> PartClaim:
        """Claims every line that may be sent. Once that is through, which lines these are never changes again.

        Raises:
            LedgerUnavailable, StoreUnavailable: tried again; lines that were claimed already are found.
        """
        with known_failures():
            async with heartbeats():
                documents = EconomyDocuments(self._store, order.batch)
                number = order.part.number
                claimed = await documents.read_claimed(number)
                if claimed is None:
                    claimed, passed = await self._claim_all(order, await documents.read_part(number))
                    await documents.write_claims(number, claimed, passed)
                return PartClaim(claimed=len(claimed), passed=order.part.lines - len(claimed))

    async def _claim_all(
        self, order: PartOrder, lines: list[PlannedLine]
    ) -> tuple[list[PlannedLine], list[PassedLine]]:
        claimed: list[PlannedLine] = []
        passed: list[PassedLine] = []
        for start in range(0, len(lines), _LINES_AT_ONCE):
            chunk = lines[start : start + _LINES_AT_ONCE]
            for result in await asyncio.to_thread(self._claim_some, order, chunk):
                if isinstance(result, PlannedLine):
                    claimed.append(result)
                else:
                    passed.append(result)
        return claimed, passed

    def _claim_some(self, order: PartOrder, lines: list[PlannedLine]) -> list[PlannedLine | PassedLine]:
        announced = [(_identify(line), self._announce(order, line)) for line in lines]
        claims = self._attempts.claim_all(announced, self._resends)
        return [_describe(line, claim) for line, claim in zip(lines, claims, strict=True)]

    def _announce(self, order: PartOrder, line: PlannedLine) -> NewAttempt:
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


def _describe(line: PlannedLine, claim: LineClaim | Refusal) -> PlannedLine | PassedLine:
    if not isinstance(claim, LineClaim):
        state = "conflict" if isinstance(claim, RunConflict) else "over_budget"
        return PassedLine(line=line.line, run_id=line.run_id, state=state, reason=str(claim))
    if claim.standing == "claimed":
        return line.model_copy(update={"attempt_id": claim.attempt.attempt_id})
    reason = describe_claim(claim, line.run_id)
    return PassedLine(line=line.line, run_id=line.run_id, state=claim.standing, reason=reason)


def _identify(line: PlannedLine) -> RunIdentity:
    return RunIdentity(
        run_id=line.run_id,
        tenant=line.tenant,
        request_id=line.request_id,
        workflow_id=activity.info().workflow_id or "",
        fingerprint=line.fingerprint,
        operation=line.operation,
        requested_model=line.requested_model,
    )
