"""What Temporal remembers of runs that a ledger has lost: their calls, their results and the ids of their entries."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from cli.session import Session
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.billing.recovery.notes import read_ledger_now
from gpt_image_runs.billing.recovery.receipts import AttemptReceipt, SentAttempt
from gpt_image_runs.billing.recovery.recovery import find_unpaid_runs
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.database.engine import Database
from gpt_image_runs.temporal.connection import list_billed_runs

_PAGE = 500


class KnownRun(NamedTuple):
    """A run as Temporal knows it. `entry_id` is that of its bill, None where Temporal does not tell one."""

    is_running: bool = False
    entry_id: str | None = None


class RunsInTemporal(Protocol):
    """What a recovery asks Temporal."""

    async def find(self, run_id: str) -> KnownRun:
        """Return what is known of a run."""

    async def list_billed(self) -> dict[str, datetime]:
        """Return the latest runs that ended with a bill, by id, with the moment of their end."""

    def stream_lost(self, database: Database) -> AsyncIterator[AttemptReceipt]:
        """Yield paid attempts that the ledger does not have."""


class _NoTemporal:
    async def find(self, run_id: str) -> KnownRun:  # noqa: ARG002 - the protocol's signature
        return KnownRun()

    async def list_billed(self) -> dict[str, datetime]:
        return {}

    async def stream_lost(self, database: Database) -> AsyncIterator[AttemptReceipt]:  # noqa: ARG002 - the same
        return
        yield


NO_TEMPORAL: RunsInTemporal = _NoTemporal()


async def open_runs_in_temporal(session: Session) -> RunsInTemporal:
    """Connect to Temporal. Raises TemporalUnavailable."""
    return _Temporal(await session.connect())


class _Temporal:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def find(self, run_id: str) -> KnownRun:
        handle = self._client.get_workflow_handle(run_id, result_type=RunResult)
        try:
            described = await handle.describe()
            if described.status is WorkflowExecutionStatus.RUNNING:
                return KnownRun(is_running=True)
            result: RunResult = await handle.result()
            return KnownRun(entry_id=result.billing.entry_id)
        except WorkflowFailureError:
            return KnownRun()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return KnownRun()
            raise

    async def list_billed(self) -> dict[str, datetime]:
        return await list_billed_runs(self._client)

    async def stream_lost(self, database: Database) -> AsyncIterator[AttemptReceipt]:
        ledger_id = (await asyncio.to_thread(read_ledger_now, database)).ledger_id
        page: dict[tuple[str, str], None] = {}
        async for execution in self._client.list_workflows(f"WorkflowType = '{names.WORKFLOW}'"):
            page[execution.id, execution.run_id] = None
            if len(page) >= _PAGE:
                async for receipt in self._read_lost(database, ledger_id, list(page)):
                    yield receipt
                page.clear()
        async for receipt in self._read_lost(database, ledger_id, list(page)):
            yield receipt

    async def _read_lost(
        self, database: Database, ledger_id: str, page: list[tuple[str, str]]
    ) -> AsyncIterator[AttemptReceipt]:
        lost = await asyncio.to_thread(find_unpaid_runs, database, [run_id for run_id, _ in page])
        for run_id, execution in page:
            if run_id in lost:
                history = await self._client.get_workflow_handle(run_id, run_id=execution).fetch_history()
                receipt = await self._read_history(history, execution, ledger_id)
                if receipt:
                    yield receipt

    async def _read_history(
        self, history: WorkflowHistory, execution: str, ledger_id: str
    ) -> AttemptReceipt | None:
        """The paid call of a history, None where there is none, or none that was sent by itself."""
        scheduled: dict[int, Any] = {}
        for event in history.events:
            if event.HasField("activity_task_scheduled_event_attributes"):
                order = event.activity_task_scheduled_event_attributes
                if order.activity_type.name == names.CALL_GPT_IMAGE:
                    scheduled[event.event_id] = order.input
            elif event.HasField("activity_task_completed_event_attributes"):
                done = event.activity_task_completed_event_attributes
                if done.scheduled_event_id in scheduled:
                    given = scheduled[done.scheduled_event_id]
                    order, result = (
                        await self._decode(given, CallInput),
                        await self._decode(done.result, CallResult),
                    )
                    if result.mode == "batch":
                        return None
                    return _build(order, result, execution, ledger_id, event.event_time.ToDatetime())
        return None

    async def _decode(self, payloads: Any, kind: type[Any]) -> Any:
        (value,) = await self._client.data_converter.decode(payloads.payloads, [kind])
        return value


def _build(
    order: CallInput, result: CallResult, execution: str, ledger_id: str, finished_at: datetime
) -> AttemptReceipt:
    ceiling = order.price_ceiling_usd
    return AttemptReceipt(
        ledger_id=ledger_id,
        run=RunIdentity(
            run_id=order.run_id,
            tenant=order.tenant,
            request_id=order.request_id,
            workflow_id=order.run_id,
            fingerprint=order.fingerprint,
            operation=order.request.operation,
            requested_model=order.request.model,
        ),
        attempt=SentAttempt(
            attempt_id=result.attempt_id,
            number=result.attempts,
            # The one that was sent is in no history.
            client_request_id=f"{order.run_id}:{result.attempts}:recovered",
            workflow_run_id=execution,
            model=result.model,
            provider=result.provider,
            sent_at=result.sent_at,
            reserved_micro_usd=None if ceiling is None else parse_usd(ceiling),
            simulated=result.simulated,
        ),
        outcome=AttemptOutcome(
            outcome="succeeded",
            finished_at=finished_at.replace(tzinfo=UTC),
            provider_request_id=result.provider_request_id,
            size=result.size,
            quality=result.quality,
            output_format=result.output_format,
            response={"usage": result.usage},
            images=tuple(image.model_dump(mode="json") for image in result.images),
            simulated=result.simulated,
        ),
        metadata=order.request.metadata or {},
        missing_usage=order.request.missing_usage,
        partial_images=order.request.partial_images,
    )
