"""Judge the earlier attempts of a run: one was paid, one is in progress, or some have an unknown outcome."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from pydantic import TypeAdapter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.errors import shorten
from activities.provider_call.results import apply_outcome
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import RunIdentity, is_same
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.billing.recovery.receipts import (
    AttemptReceipt,
    build_receipt,
    list_receipts_of_run,
    mark_ledger,
    read_attempt_receipts,
    write_attempt_receipt,
)
from gpt_image_runs.billing.recovery.recovery import restore_attempt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput
from gpt_image_runs.contracts.decisions import OpenDecision, UnknownAttempt
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.errors import RunConflict
from gpt_image_runs.images.backend import StoreUnavailable
from gpt_image_runs.images.store import ImageStore

log = structlog.get_logger("receipts")


# Requests that take longer get a receipt without an outcome meanwhile. Faster ones get a single receipt, at their end.
_OPEN_RECEIPT_AFTER_SECONDS = 5.0

_IMAGES = TypeAdapter(tuple[ImageRef, ...])


class AttemptReceipts:
    """The receipts of one ledger's attempts in one store. Safe to share between tasks."""

    def __init__(self, store: ImageStore, attempts: AttemptLog, *, simulated: bool) -> None:
        self._store = store
        self._attempts = attempts
        self._simulated = simulated
        self._ledger_id: str | None = None
        self._open: set[str] = set()

    async def write(
        self,
        run: RunIdentity,
        attempt: Attempt,
        outcome: AttemptOutcome | None,
        request: ImageRequest | None = None,
    ) -> None:
        """Write an attempt's receipt. If the store is unavailable, only the ledger has the outcome."""
        if outcome is not None:
            self._open.discard(attempt.attempt_id)
        try:
            ledger_id = await self._read_ledger_id()
            await write_attempt_receipt(self._store, build_receipt(ledger_id, run, attempt, outcome, request))
        except (StoreUnavailable, ValueError, RecursionError) as error:
            log.warning("outcome_receipt_failed", attempt_id=attempt.attempt_id, error=str(error))

    @contextlib.asynccontextmanager
    async def write_open_receipt(
        self, run: RunIdentity, attempt: Attempt, request: ImageRequest
    ) -> AsyncIterator[None]:
        """Write a receipt without an outcome if the block takes longer than five seconds.

        The worker may be killed before the answer comes, and the ledger may be lost since.
        """
        ended = asyncio.Event()

        async def write_later() -> None:
            try:
                await asyncio.wait_for(ended.wait(), _OPEN_RECEIPT_AFTER_SECONDS)
            except TimeoutError:
                await self.write(run, attempt, None, request)
                self._open.add(attempt.attempt_id)

        writing = asyncio.create_task(write_later())
        try:
            yield
        finally:
            ended.set()
            # Not cancelled: a write that still runs would overwrite the receipt with the outcome.
            await writing

    def has_open_receipt(self, attempt_id: str) -> bool:
        """Return whether a receipt without an outcome was written: one with the outcome has to replace it."""
        return attempt_id in self._open

    async def read_outcomes(self, run_id: str, attempt_ids: Collection[str]) -> Mapping[str, AttemptOutcome]:
        """Return the outcomes in the receipts of these attempts, by attempt id."""
        names = [
            name for name in await list_receipts_of_run(self._store, run_id) if name.attempt_id in attempt_ids
        ]
        found: dict[str, AttemptOutcome] = {}
        async for receipt in read_attempt_receipts(self._store, names):
            if receipt and receipt.outcome:
                found[receipt.attempt.attempt_id] = receipt.outcome
        return found

    async def restore_attempts(self, run: RunIdentity, known: Collection[str] = ()) -> bool:
        """Write attempts that only the store knows into the ledger. Return whether there were any.

        This includes attempts of another ledger with the same content, as that ledger may have been lost.

        Raises:
            LedgerUnavailable, StoreUnavailable: nothing may be sent before this is known.
        """
        names = [
            name
            for name in await list_receipts_of_run(self._store, run.run_id)
            if name.attempt_id not in known
        ]
        if not names:
            return False
        own, taken = mark_ledger(await self._read_ledger_id()), False
        async for receipt in read_attempt_receipts(self._store, names):
            if receipt is None:
                log.error("receipt_unreadable", run_id=run.run_id)
            elif mark_ledger(receipt.ledger_id) == own or self._is_own_content(receipt, run):
                taken |= await self._restore(receipt)
        return taken

    def _is_own_content(self, receipt: AttemptReceipt, run: RunIdentity) -> bool:
        # A simulated run in the same store must not stop the real one from being sent.
        return is_same(receipt.run, run) and receipt.attempt.simulated == self._simulated

    async def _restore(self, receipt: AttemptReceipt) -> bool:
        facts = {"run_id": receipt.run.run_id, "attempt_id": receipt.attempt.attempt_id}
        try:
            restored = await asyncio.to_thread(restore_attempt, self._attempts.database, receipt)
        except RunConflict as conflict:
            log.warning("lost_attempt_not_restored", **facts, error=str(conflict))
            return False
        if restored:
            log.warning("lost_attempt_restored", **facts)
        return restored

    async def _read_ledger_id(self) -> str:
        if self._ledger_id is None:
            self._ledger_id = await asyncio.to_thread(self._attempts.read_ledger_id)
        return self._ledger_id


async def add_recovered_images(paid: Attempt, store: ImageStore) -> Attempt:
    """Add the images that the command `recover` has found in the attempt's saved answer since."""
    saved = await store.read_document(f"recovered/{paid.attempt_id}.json") if paid.error_message else None
    if saved is None:
        return paid
    images = tuple(image.model_dump(mode="json") for image in _IMAGES.validate_json(saved))
    return dataclasses.replace(paid, images=images, error_message=None)


TOO_MANY_UNKNOWN_OUTCOMES = "TooManyUnknownOutcomes"


async def apply_outcome_receipts(
    earlier: tuple[Attempt, ...], attempts: AttemptLog, receipts: AttemptReceipts
) -> tuple[Attempt, ...]:
    """Return a run's attempts with the outcomes that a worker could write to the store but not to the ledger."""
    unknown = _list_unknown(earlier)
    if not unknown or any(attempt.outcome == "succeeded" for attempt in earlier):
        return earlier
    outcomes = await receipts.read_outcomes(unknown[0].run_id, [attempt.attempt_id for attempt in unknown])
    settled = [await _settle(attempt, attempts, outcomes.get(attempt.attempt_id)) for attempt in earlier]
    if any(attempt.outcome == "succeeded" for attempt in settled):
        return tuple(settled)
    return tuple([await _settle(attempt, attempts, _charged_outcome(attempt)) for attempt in settled])


def _charged_outcome(attempt: Attempt) -> AttemptOutcome | None:
    """Return the outcome of an unknown attempt with usage, as older versions recorded it, else None."""
    response = attempt.response if isinstance(attempt.response, dict) else {}
    is_charged = response.get("usage") or response.get("svg_usage")
    if attempt.outcome != "unknown" or attempt.finished_at is None or not is_charged:
        return None
    return AttemptOutcome(outcome="succeeded", finished_at=attempt.finished_at, images=())


async def _settle(attempt: Attempt, attempts: AttemptLog, outcome: AttemptOutcome | None) -> Attempt:
    if outcome is None:
        return attempt
    await asyncio.to_thread(attempts.finish, attempt.attempt_id, outcome)
    return apply_outcome(attempt, outcome)


def check_resend_limit(earlier: tuple[Attempt, ...], resends: int) -> None:
    """Raise an ApplicationError that lists the attempts of unknown outcome if they are more than `resends`."""
    unknown = _list_unknown(earlier)
    if len(unknown) <= resends:
        return
    raise ApplicationError(
        f"{_describe_exposure(unknown)} UNKNOWN_OUTCOME_RESENDS={resends} allows no further one."
        f" The attempts are {', '.join(attempt.attempt_id for attempt in unknown)}.",
        type=TOO_MANY_UNKNOWN_OUTCOMES,
        non_retryable=True,
    )


def hold_if_undecided(attempts: tuple[Attempt, ...], call: CallInput) -> None:
    """Raise an ApplicationError that holds the run if an attempt has an unknown outcome and nobody has decided on it.

    Its detail is an `OpenDecision` on all attempts of unknown outcome: those decided on earlier may have been paid too.
    """
    unknown = _list_unknown(attempts)
    undecided = [attempt for attempt in unknown if attempt.attempt_id not in call.decided_attempts]
    if not undecided:
        return
    cause = shorten(undecided[-1].error_message or "Its worker ended before an answer came.")
    decision = OpenDecision(
        message=f"{_describe_exposure(unknown)} The last one: {cause}",
        attempts=tuple(map(_describe_attempt, unknown)),
        at_most_usd=format_usd(_sum_reserved(unknown)),
        unpriced=sum(attempt.reserved_micro_usd is None for attempt in unknown),
        sent=len(attempts),
    )
    raise ApplicationError(
        decision.message,
        decision,
        type=names.UNKNOWN_OUTCOME_HELD,
        non_retryable=True,
        # Waiting for a person is not an error: no stack trace in the log.
        category=ApplicationErrorCategory.BENIGN,
    )


def _list_unknown(attempts: tuple[Attempt, ...]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.outcome == "unknown"]


def _sum_reserved(attempts: list[Attempt]) -> int:
    return sum(attempt.reserved_micro_usd or 0 for attempt in attempts)


def _describe_exposure(unknown: list[Attempt]) -> str:
    requests = "1 request was" if len(unknown) == 1 else f"{len(unknown)} requests were"
    they = "it" if len(unknown) == 1 else "they"
    without_price = any(attempt.reserved_micro_usd is None for attempt in unknown)
    more = " and an unknown amount, as no price is known" if without_price else ""
    amount = f"{format_usd(_sum_reserved(unknown))} USD{more}"
    return f"{requests} sent whose outcome is unknown: {they} may have cost up to {amount}."


def _describe_attempt(attempt: Attempt) -> UnknownAttempt:
    reserved = attempt.reserved_micro_usd
    return UnknownAttempt(
        attempt_id=attempt.attempt_id,
        client_request_id=attempt.client_request_id,
        provider_request_id=attempt.provider_request_id,
        sent_at=attempt.sent_at,
        error_type=attempt.error_type,
        reserved_usd=None if reserved is None else format_usd(reserved),
    )


STILL_UNDER_WAY = "StillUnderWay"
WAITS_IN_A_BATCH = "WaitsInABatch"
# Each marker is a small write to the store.
MARKER_EVERY = timedelta(seconds=10)
# A worker that misses three markers is taken for dead, as for Temporal's heartbeats.
MARKER_TIMEOUT = timedelta(seconds=30)
CHECK_AGAIN = timedelta(seconds=3)
# An attempt that was not checked for this long is forgotten; when it is checked again, it is watched from the start.
_FORGOTTEN_SECONDS = 3600.0


class _Watched(NamedTuple):
    """The marker of an attempt when it was last checked, and since when it has not changed."""

    marker: bytes | None
    since: float
    checked_at: float


class Liveness:
    """Marks this worker's attempts as in progress, and watches those of other workers. One for each process.

    `clock` is monotonic, in seconds. No clock of another host counts: each worker measures for itself how long a marker
    has not changed. Of several workers that run attempts of a run, the first that has watched for `MARKER_TIMEOUT` goes on.
    """

    def __init__(self, store: ImageStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._own: set[str] = set()
        self._watched: dict[str, _Watched] = {}

    @contextlib.asynccontextmanager
    async def liveness_marker(self, attempt_id: str) -> AsyncIterator[None]:
        """Mark an attempt as in progress while the block runs. The first marker is written after ten seconds."""
        self._own.add(attempt_id)
        marking = asyncio.create_task(_write_markers(self._store, attempt_id))
        try:
            yield
        finally:
            self._own.discard(attempt_id)
            marking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await marking

    async def wait_for_attempts_in_progress(self, earlier: tuple[Attempt, ...]) -> None:
        """Return if no attempt is in progress: each has an outcome, or its marker has not changed for `MARKER_TIMEOUT`.

        Raises:
            ApplicationError: one is in progress, and the activity is retried soon. It is not retryable for a line of an
                economy batch, which has no marker and whose answer may take a day.
        """
        for attempt in earlier:
            if attempt.finished_at is not None:
                continue
            if attempt.batch_part:
                raise _waits_in_batch_error(attempt)
            if not await self._is_dead(attempt.attempt_id):
                raise attempt_in_progress_error(attempt.number)

    async def _is_dead(self, attempt_id: str) -> bool:
        # This process may be too busy to write its marker in time. Its attempt is in progress all the same.
        if attempt_id in self._own:
            return False
        marker = await self._store.read_document(_key(attempt_id))
        now = self._clock()
        self._forget(now)
        watched = self._watched.get(attempt_id)
        since = watched.since if watched and watched.marker == marker else now
        self._watched[attempt_id] = _Watched(marker, since, now)
        return now - since >= MARKER_TIMEOUT.total_seconds()

    def _forget(self, now: float) -> None:
        for attempt_id, watched in list(self._watched.items()):
            if now - watched.checked_at > _FORGOTTEN_SECONDS:
                del self._watched[attempt_id]


def attempt_in_progress_error(number: int) -> ApplicationError:
    """Return the failure of an attempt that waits for another one and has sent nothing."""
    return ApplicationError(
        f"Request {number} of this run is still in progress. Nothing was sent; this run waits for its answer.",
        type=STILL_UNDER_WAY,
        next_retry_delay=CHECK_AGAIN,
        category=ApplicationErrorCategory.BENIGN,
    )


def _waits_in_batch_error(attempt: Attempt) -> ApplicationError:
    batch_id = (attempt.batch_part or "").partition("/")[0]
    return ApplicationError(
        f"This request waits in the economy batch {batch_id} (attempt {attempt.attempt_id}), whose answer may take a day."
        " Nothing was sent. Submit it again once that batch has ended: it then finds what was paid.",
        type=WAITS_IN_A_BATCH,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def superseded_outcome() -> AttemptOutcome:
    """Build the outcome of an attempt that was recorded at the same time as another one, which is sent instead."""
    return AttemptOutcome(
        outcome="not_sent",
        finished_at=datetime.now(UTC),
        error_type=STILL_UNDER_WAY,
        error_message="Another attempt of this run began at the same time.",
    )


async def _write_markers(store: ImageStore, attempt_id: str) -> None:
    count = 0
    while True:
        await asyncio.sleep(MARKER_EVERY.total_seconds())
        count += 1
        # The count makes each marker differ, as a clock may be set back. The time is for people.
        marker = f"{count} {datetime.now(UTC).isoformat()}"
        try:
            await store.put_document(_key(attempt_id), marker.encode())
        except Exception as error:  # noqa: BLE001 - no error here may cost the answer that is paid for
            log.warning("liveness_marker_failed", attempt_id=attempt_id, error=str(error))


def _key(attempt_id: str) -> str:
    return f"alive/{attempt_id}.txt"
