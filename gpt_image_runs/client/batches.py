"""Start a batch's workflow, or attach to the one that is running, and query its progress."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.client.errors import (
    BatchConflict,
    BatchFailed,
    BatchNotFound,
    NoAnswer,
    temporal_errors,
    wait_at_most,
)
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import (
    BatchOrder,
    BatchProgress,
    describe_conflict,
    describe_other_kind,
)
from gpt_image_runs.contracts.economy import EconomyOrder, EconomyProgress, EconomySummary

BatchHandle = WorkflowHandle[Any, Any]

_DIGEST = "digest"
_SUBMISSION = "submission"


@dataclass(frozen=True, slots=True)
class StartedBatch:
    """A batch that is running. `attached` means that an earlier call started it, with that call's options."""

    batch_id: str
    attached: bool
    handle: BatchHandle = field(repr=False)
    temporal: Client = field(repr=False)

    async def result(self) -> BatchProgress | EconomySummary:
        """Wait for the batch to end and return its outcome: an `EconomySummary` for an economy batch.

        Raises:
            BatchConflict: the ledger has other lines under its id.
            BatchFailed: it ended early.
            TemporalUnavailable: the connection to Temporal was lost. The batch continues.
        """
        with temporal_errors(self.temporal, not_found=unknown_batch_error(self.batch_id)):
            try:
                ended: BatchProgress | EconomySummary = await self.handle.result()
            except WorkflowFailureError as error:
                raise _read_failure(self.batch_id, error.cause) from error
            return ended


async def start_batch(temporal: Client, order: BatchOrder | EconomyOrder) -> StartedBatch:
    """Start the workflow of a batch, or attach to it. See `Client.start_batch`.

    Raises:
        BatchConflict: a batch with the same id and other lines, or at the other price, is running.
        RPCError: Temporal did not accept it.
    """
    economy = isinstance(order, EconomyOrder)
    if await is_under_way(temporal, find_workflow_id(order.batch_id, economy=not economy)):
        sentence = describe_other_kind(order.batch_id, economy=not economy)
        raise BatchConflict(sentence, batch_id=order.batch_id)
    submission = uuid4().hex
    handle: BatchHandle = await temporal.start_workflow(
        names.ECONOMY_BATCH if economy else names.BATCH,
        order,
        id=order.workflow_id,
        task_queue=names.RUNS_QUEUE,
        result_type=EconomySummary if economy else BatchProgress,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        memo={_DIGEST: order.digest, _SUBMISSION: submission},
        search_attributes=TypedSearchAttributes([SearchAttributePair(names.BATCH_ID, order.batch_id)]),
        static_summary=order.summary,
    )
    memo = await (await handle.describe()).memo()
    attached = memo.get(_SUBMISSION) != submission
    if attached and memo.get(_DIGEST, "") != order.digest:
        sentence = describe_conflict(order.batch_id, memo.get(_DIGEST, ""), order.digest)
        raise BatchConflict(sentence, batch_id=order.batch_id)
    return StartedBatch(order.batch_id, attached, handle, temporal)


def find_workflow_id(batch_id: str, *, economy: bool) -> str:
    """Return the id of the workflow of a batch."""
    return names.economy_workflow_id(batch_id) if economy else names.batch_workflow_id(batch_id)


async def is_under_way(temporal: Client, workflow_id: str) -> bool:
    """Return whether a batch's workflow is running.

    Raises:
        RPCError: Temporal cannot be reached.
    """
    handle = temporal.get_workflow_handle(workflow_id)
    try:
        return (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise


async def query_progress(temporal: Client, batch_id: str, max_wait: timedelta) -> BatchProgress | None:
    """Query a batch's progress; None before its first step. See `Client.batch_progress`."""
    workflow_id = find_workflow_id(batch_id, economy=False)
    with _query_errors(temporal, batch_id, max_wait):
        asking = temporal.get_workflow_handle(workflow_id).query(names.QUERY_PROGRESS, rpc_timeout=max_wait)
        progress = await wait_at_most(max_wait, asking)
        return None if progress is None else BatchProgress.model_validate(progress)


async def query_economy(temporal: Client, batch_id: str, max_wait: timedelta) -> EconomyProgress:
    """Query an economy batch's progress. See `Client.economy_progress`."""
    workflow_id = find_workflow_id(batch_id, economy=True)
    with _query_errors(temporal, batch_id, max_wait):
        asking = temporal.get_workflow_handle(workflow_id).query(
            names.QUERY_ECONOMY, result_type=EconomyProgress, rpc_timeout=max_wait
        )
        progress: EconomyProgress = await wait_at_most(max_wait, asking)
        return progress


def _query_errors(temporal: Client, batch_id: str, max_wait: timedelta) -> AbstractContextManager[None]:
    silence = NoAnswer(
        f"No worker answered within {max_wait.total_seconds():g} s, so it is not known where the batch {batch_id} stands. It goes"
        " on when a worker polls."
    )
    return temporal_errors(temporal, not_found=unknown_batch_error(batch_id), no_answer=silence)


def unknown_batch_error(batch_id: str) -> BatchNotFound:
    """Build the error about a batch that Temporal does not know."""
    return BatchNotFound(
        f"Temporal does not know the batch {batch_id}. Check the id, and whether it is an economy batch. A batch that ended long ago"
        " is forgotten, and only the ledger knows it (`python starter.py batch status`).",
        batch_id=batch_id,
    )


def _read_failure(batch_id: str, cause: BaseException) -> BatchConflict | BatchFailed:
    kind = (cause.type if isinstance(cause, ApplicationError) else None) or type(cause).__name__
    message = cause.message if isinstance(cause, ApplicationError) else str(cause)
    if kind == names.BATCH_CONFLICT:
        return BatchConflict(message, batch_id=batch_id)
    return BatchFailed(
        f"The batch {batch_id} ended early ({kind.removesuffix('Error')}): {message.rstrip('.')}. Runs that were started go on.",
        batch_id=batch_id,
        failure_type=kind.removesuffix("Error"),
    )
