"""What Temporal knows of runs that a ledger has lost: their calls, their results and their entry ids.

Anybody can start an execution: it is trusted only if its history shows that our workers ran it. What a call was for and its
maximum cost are computed again from its request. What differs is refused and named.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

from pydantic import JsonValue
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError, RPCStatusCode

from cli.session import Session
from gpt_image_runs.billing.attempts.call_terms import CallTerms, TermsRefused
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.pricing.paid_attempt import USAGE_PROBLEM
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.billing.recovery.notes import read_ledger_now
from gpt_image_runs.billing.recovery.receipts import (
    AttemptReceipt,
    SentAttempt,
    list_receipts_of_run,
    read_attempt_receipts,
)
from gpt_image_runs.billing.recovery.recovery import find_unpaid_runs, find_witness
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallResult
from gpt_image_runs.contracts.fingerprints import strip_marks
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.problems import describe_value
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.temporal.run_evidence import (
    NotProven,
    PaidCall,
    describe_doubt,
    find_billed_runs,
    must_be_reported,
    read_paid_call,
)

_PAGE = 500
_ATTEMPT_ID = re.compile(r"att_[0-9A-Za-z_-]{1,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_ATTEMPTS = 1_000_000
_ENTRY_ID = re.compile(r"ent_[0-9A-Za-z_-]{1,64}", re.ASCII)


class KnownRun(NamedTuple):
    """A run in Temporal. `entry_id` is that of its bill, None if Temporal does not have it."""

    is_running: bool = False
    entry_id: str | None = None


class RunsInTemporal(Protocol):
    """The questions that a recovery asks Temporal."""

    async def find(self, run_id: str) -> KnownRun:
        """Return what is known of a run."""

    async def list_billed(self, database: Database) -> dict[str, datetime]:
        """Return runs that ended with a bill and that the ledger does not have, by id, with the time of their end."""

    def stream_lost(self, database: Database) -> AsyncIterator[AttemptReceipt | str]:
        """Yield paid attempts that the ledger does not have, and a sentence for each execution that is not trusted."""


class _NoTemporal:
    async def find(self, run_id: str) -> KnownRun:  # noqa: ARG002 - the protocol's signature
        return KnownRun()

    async def list_billed(self, database: Database) -> dict[str, datetime]:  # noqa: ARG002 - the same
        return {}

    async def stream_lost(self, database: Database) -> AsyncIterator[AttemptReceipt | str]:  # noqa: ARG002 - the same
        return
        yield


NO_TEMPORAL: RunsInTemporal = _NoTemporal()


async def open_runs_in_temporal(session: Session, store: ImageStore, cards: RateCards) -> RunsInTemporal:
    """Connect to Temporal. Raises TemporalUnavailable."""
    # What was sent was sent: a model without a price waits for one.
    terms = CallTerms(Catalog.load(session.provider), cards, "hold")
    return _Temporal(await session.connect(), store, terms)


class _Temporal:
    def __init__(self, client: Client, store: ImageStore, terms: CallTerms) -> None:
        self._client = client
        self._store = store
        self._terms = terms

    async def find(self, run_id: str) -> KnownRun:
        """Return what is known of a run. An execution with this id on another task queue is not ours and is ignored."""
        handle = self._client.get_workflow_handle(run_id, result_type=RunResult)
        try:
            described = await handle.describe()
            if described.task_queue != names.RUNS_QUEUE:
                return KnownRun()
            if described.status is WorkflowExecutionStatus.RUNNING:
                return KnownRun(is_running=True)
            result: RunResult = await handle.result()
        except (WorkflowFailureError, ValueError):
            return KnownRun()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return KnownRun()
            raise
        entry_id = result.billing.entry_id
        return KnownRun(entry_id=entry_id if entry_id and _ENTRY_ID.fullmatch(entry_id) else None)

    async def list_billed(self, database: Database) -> dict[str, datetime]:
        now = await asyncio.to_thread(read_ledger_now, database)
        unpaid = partial(find_unpaid_runs, database)
        return (await find_billed_runs(self._client, unpaid, now.sought_ledger)).proven

    async def stream_lost(self, database: Database) -> AsyncIterator[AttemptReceipt | str]:
        page: list[WorkflowExecution] = []
        async for execution in self._client.list_workflows(f"WorkflowType = '{names.WORKFLOW}'"):
            page.append(execution)
            if len(page) >= _PAGE:
                async for found in self._read_lost(database, page):
                    yield found
                page.clear()
        async for found in self._read_lost(database, page):
            yield found

    async def _read_lost(
        self, database: Database, page: list[WorkflowExecution]
    ) -> AsyncIterator[AttemptReceipt | str]:
        now = await asyncio.to_thread(read_ledger_now, database)
        lost = await asyncio.to_thread(find_unpaid_runs, database, [execution.id for execution in page])
        if not lost:
            return
        witness = await find_witness(database, self._store)
        for execution in page:
            if execution.id not in lost or not _may_be_paid(execution):
                continue
            try:
                call = await read_paid_call(self._client, execution, now.sought_ledger)
                # A line of an economy batch was not sent by its run.
                if call is None or call.result.mode == "batch":
                    continue
                if witness and call.finished_at < witness:
                    raise NotProven(  # noqa: TRY301 - told as all other doubts
                        "the ledger and the image store were in use after it, and know nothing of it"
                    )
                if await self._has_receipt(call):
                    continue
                yield await self._build_receipt(call, now.ledger_id)
            except NotProven as error:
                if await must_be_reported(error, partial(find_unpaid_runs, database)):
                    yield describe_doubt(execution, error)

    async def _has_receipt(self, call: PaidCall) -> bool:
        """Return whether the image store has the outcome of a call. Raises NotProven if it contradicts the call."""
        listed = await list_receipts_of_run(self._store, call.order.run_id)
        own = [name for name in listed if name.attempt_id == call.result.attempt_id]
        async for receipt in read_attempt_receipts(self._store, own):
            # Where the store was away at that moment, the receipt is the one from before the call's end.
            outcome = receipt.outcome.outcome if receipt and receipt.outcome else None
            if outcome == "succeeded":
                return True
            if outcome is not None:
                raise NotProven(
                    f"the image store has its attempt as {outcome!r}, and it says that it was paid"
                )
        return False

    async def _build_receipt(self, call: PaidCall, ledger_id: str) -> AttemptReceipt:
        order, result = call.order, call.result
        _check_form(result)
        try:
            identity = self._terms.identify(order, order.run_id)
            called = order.model_copy(update={"model": result.model})
            ceiling = self._terms.find_ceiling(called, result.sent_at)
        except TermsRefused as refused:
            raise NotProven("; ".join(map(str, refused.problems))) from refused
        if strip_marks(order.fingerprint) != strip_marks(identity.fingerprint):
            raise NotProven(
                f"its fingerprint {order.fingerprint[:12]!a} is not that of its request, {identity.fingerprint[:12]}"
            )
        provider = self._terms.catalog.provider
        if result.provider != provider:
            raise NotProven(
                f"its provider is {describe_value('provider', result.provider)}, and that of these settings {provider}"
            )
        await self._refuse_foreign_pictures(identity.tenant, result.images)
        return _build(call, identity, ceiling, ledger_id)

    async def _refuse_foreign_pictures(self, tenant: str, images: tuple[ImageRef, ...]) -> None:
        """Refuse images of other tenants. A run records its tenant as the owner of each image; old images have no owner."""
        for image in images:
            owners = await self._store.list_owners(image.sha256)
            if owners and tenant not in owners:
                raise NotProven(f"its picture {image.sha256[:12]!a} is not one of the tenant {tenant}")


def _build(call: PaidCall, identity: RunIdentity, ceiling: int | None, ledger_id: str) -> AttemptReceipt:
    order, result, failure = call.order, call.result, call.result.failure
    return AttemptReceipt(
        ledger_id=ledger_id,
        run=identity,
        attempt=SentAttempt(
            attempt_id=result.attempt_id,
            number=result.attempts,
            # The one that was sent is in no history.
            client_request_id=f"{identity.run_id}:{result.attempts}:recovered",
            workflow_run_id=call.execution,
            model=result.model,
            provider=result.provider,
            sent_at=result.sent_at,
            reserved_micro_usd=ceiling,
            simulated=result.simulated,
        ),
        outcome=AttemptOutcome(
            outcome="succeeded",
            finished_at=call.finished_at,
            provider_request_id=result.provider_request_id,
            size=result.size,
            quality=result.quality,
            output_format=result.output_format,
            error_type=failure.error_type if failure else None,
            error_message=failure.message if failure else None,
            response=_describe_answer(result),
            images=tuple(image.model_dump(mode="json") for image in result.images),
            simulated=result.simulated,
        ),
        metadata=order.request.metadata or {},
        missing_usage=order.request.missing_usage,
        partial_images=order.request.partial_images,
    )


def _describe_answer(result: CallResult) -> dict[str, JsonValue]:
    """Return what Temporal knows of the provider's response: its usage, and why that alone is not a bill."""
    response: dict[str, JsonValue] = {"usage": result.usage}
    if result.usage_problem is not None:
        # The rest of the answer never came to Temporal, so the problem cannot be found again from it.
        response[USAGE_PROBLEM] = result.usage_problem
    return response


def _check_form(result: CallResult) -> None:
    """Check values that become store keys and ledger columns. Raises NotProven."""
    wrong = {
        "attempt_id": not _ATTEMPT_ID.fullmatch(result.attempt_id),
        "attempts": not 0 < result.attempts <= _MAX_ATTEMPTS,
        "sent_at": result.sent_at.tzinfo is None,
        "images": not all(_SHA256.fullmatch(image.sha256) for image in result.images),
    }
    if fields := [field for field, is_wrong in wrong.items() if is_wrong]:
        raise NotProven(f"its call's result has not the form that our workers give to {' and '.join(fields)}")


def _may_be_paid(execution: WorkflowExecution) -> bool:
    """Return whether to read the history. On other task queues, only executions that claim a bill are of interest."""
    if execution.task_queue == names.RUNS_QUEUE:
        return True
    return execution.typed_search_attributes.get(names.BILLING_STATE) is not None
