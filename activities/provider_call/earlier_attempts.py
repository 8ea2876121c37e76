"""What earlier attempts of a run mean for the next: a payment to use, a doubt to decide on, or one doubt too many."""

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


# Real pictures take longer and have their receipt while they are made; what is answered sooner has one write, at its end.
_NOTED_AFTER_SECONDS = 5.0


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
        """Write an attempt's receipt. Where the store is away, the ledger alone has to hold the outcome."""
        if outcome is not None:
            self._open.discard(attempt.attempt_id)
        try:
            ledger_id = await self._read_ledger_id()
            await write_attempt_receipt(self._store, build_receipt(ledger_id, run, attempt, outcome, request))
        except (StoreUnavailable, ValueError, RecursionError) as error:
            log.warning("No receipt was kept.", attempt_id=attempt.attempt_id, error=str(error))

    @contextlib.asynccontextmanager
    async def write_open_receipt(
        self, run: RunIdentity, attempt: Attempt, request: ImageRequest
    ) -> AsyncIterator[None]:
        """Write a receipt without an outcome if the block takes long: its worker may die and its ledger may be lost."""
        ended = asyncio.Event()

        async def note() -> None:
            try:
                await asyncio.wait_for(ended.wait(), _NOTED_AFTER_SECONDS)
            except TimeoutError:
                await self.write(run, attempt, None, request)
                self._open.add(attempt.attempt_id)

        noting = asyncio.create_task(note())
        try:
            yield
        finally:
            ended.set()
            # Not cancelled: a write that goes on would take the place of the receipt with the outcome.
            await noting

    def has_open_receipt(self, attempt_id: str) -> bool:
        """Return whether a receipt without an outcome was written, which the outcome has to replace."""
        return attempt_id in self._open

    async def read_outcomes(self, run_id: str, attempt_ids: Collection[str]) -> Mapping[str, AttemptOutcome]:
        """Read the outcomes of attempts that the ledger does not know, by attempt."""
        names = [
            name for name in await list_receipts_of_run(self._store, run_id) if name.attempt_id in attempt_ids
        ]
        found: dict[str, AttemptOutcome] = {}
        async for receipt in read_attempt_receipts(self._store, names):
            if receipt and receipt.outcome:
                found[receipt.attempt.attempt_id] = receipt.outcome
        return found

    async def restore_attempts(self, run: RunIdentity, known: Collection[str] = ()) -> bool:
        """Write attempts of a run into the ledger that only the store knows. Returns whether there were any.

        Also those of another ledger, where they are of the same content: a ledger that was lost has no other successor.

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
                log.error("A receipt cannot be read.", run_id=run.run_id)
            elif mark_ledger(receipt.ledger_id) == own or self._is_own_content(receipt, run):
                taken |= await self._restore(receipt)
        return taken

    def _is_own_content(self, receipt: AttemptReceipt, run: RunIdentity) -> bool:
        """A demo that used the same store is no reason not to make the real picture."""
        return is_same(receipt.run, run) and receipt.attempt.simulated == self._simulated

    async def _restore(self, receipt: AttemptReceipt) -> bool:
        facts = {"run_id": receipt.run.run_id, "attempt_id": receipt.attempt.attempt_id}
        try:
            restored = await asyncio.to_thread(restore_attempt, self._attempts.database, receipt)
        except RunConflict as conflict:
            log.warning("A lost attempt cannot be taken back.", **facts, error=str(conflict))
            return False
        if restored:
            log.warning("A lost attempt was taken back from the image store.", **facts)
        return restored

    async def _read_ledger_id(self) -> str:
        if self._ledger_id is None:
            self._ledger_id = await asyncio.to_thread(self._attempts.read_ledger_id)
        return self._ledger_id


async def add_recovered_images(paid: Attempt, store: ImageStore) -> Attempt:
    """Return a paid attempt with the pictures that the command `recover` has found in its kept answer since."""
    kept = await store.read_document(f"recovered/{paid.attempt_id}.json") if paid.error_message else None
    if kept is None:
        return paid
    images = tuple(image.model_dump(mode="json") for image in _IMAGES.validate_json(kept))
    return dataclasses.replace(paid, images=images, error_message=None)


TOO_MANY_UNKNOWN_OUTCOMES = "TooManyUnknownOutcomes"


async def apply_outcome_receipts(
    earlier: tuple[Attempt, ...], attempts: AttemptLog, receipts: AttemptReceipts
) -> tuple[Attempt, ...]:
    """A run's attempts as they ended, also where a worker could not record it any more."""
    unknown = _list_unknown(earlier)
    if not unknown or any(attempt.outcome == "succeeded" for attempt in earlier):
        return earlier
    outcomes = await receipts.read_outcomes(unknown[0].run_id, [attempt.attempt_id for attempt in unknown])
    settled = [await _settle(attempt, attempts, outcomes.get(attempt.attempt_id)) for attempt in earlier]
    if any(attempt.outcome == "succeeded" for attempt in settled):
        return tuple(settled)
    return tuple([await _settle(attempt, attempts, _charged_outcome(attempt)) for attempt in settled])


def _charged_outcome(attempt: Attempt) -> AttemptOutcome | None:
    """The outcome of an attempt that older versions recorded as unknown although its answer reported usage, None of others."""
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
    """Raises an ApplicationError that lists what may have been paid for nothing, if no further attempt is allowed."""
    unknown = _list_unknown(earlier)
    if len(unknown) <= resends:
        return
    raise ApplicationError(
        f"{_describe_exposure(unknown)} UNKNOWN_OUTCOME_RESENDS={resends} allows no further one."
        f" The attempts are {', '.join(attempt.attempt_id for attempt in unknown)}.",
        type=TOO_MANY_UNKNOWN_OUTCOMES,
        non_retryable=True,
    )


def hold_if_undecided(attempts: tuple[Attempt, ...], order: CallInput) -> None:
    """Raises an ApplicationError that holds the run, if an attempt may have been paid for and nobody has decided on it.

    Its detail is an `OpenDecision` on all attempts of unknown outcome, for those that were decided on may be paid too.
    """
    unknown = _list_unknown(attempts)
    undecided = [attempt for attempt in unknown if attempt.attempt_id not in order.decided_attempts]
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
        # A run that waits for a person is no defect, and needs no stack trace in the log.
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
# Each sign is a small write to the store.
SIGN_EVERY = timedelta(seconds=10)
# After three signs that did not come the caller is dead, as for Temporal's heartbeats.
SILENCE = timedelta(seconds=30)
LOOK_AGAIN = timedelta(seconds=3)
# An attempt that nobody has asked about for so long is forgotten; asked about again, it is watched from the start.
_FORGOTTEN_SECONDS = 3600.0


class _Watched(NamedTuple):
    """The sign that an attempt showed when it was looked at, since when it is the same, and when it was looked at last."""

    sign: bytes | None
    since: float
    looked_at: float


class Liveness:
    """Shows that this worker's attempts are under way, and watches those of others. One for each worker process.

    `clock` is monotonic, in seconds. Signs are compared with each other only, so each worker watches for itself: of a run
    whose attempts go to many workers, the first that has watched for `SILENCE` goes on.
    """

    def __init__(self, store: ImageStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._own: set[str] = set()
        self._watched: dict[str, _Watched] = {}

    @contextlib.asynccontextmanager
    async def liveness_marker(self, attempt_id: str) -> AsyncIterator[None]:
        """Shows that an attempt is under way while the block runs. Its row in the ledger is the first sign."""
        self._own.add(attempt_id)
        showing = asyncio.create_task(_show(self._store, attempt_id))
        try:
            yield
        finally:
            self._own.discard(attempt_id)
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing

    async def wait_for_attempts_in_progress(self, earlier: tuple[Attempt, ...]) -> None:
        """Raises an ApplicationError that is tried again soon, until the caller of an open attempt was silent for `SILENCE`.

        A line of an economy batch has no caller who could show signs: its answer may take a day, and the run is refused until
        it is there.
        """
        for attempt in earlier:
            if attempt.finished_at is not None:
                continue
            if attempt.batch_part:
                raise _waits_in_a_batch(attempt)
            if not await self._is_silent(attempt.attempt_id):
                raise attempt_in_progress_error(attempt.number)

    async def _is_silent(self, attempt_id: str) -> bool:
        # Its task may be late with a sign where this process is short of time; it lives all the same.
        if attempt_id in self._own:
            return False
        sign = await self._store.read_document(_key(attempt_id))
        now = self._clock()
        self._forget(now)
        watched = self._watched.get(attempt_id)
        since = watched.since if watched and watched.sign == sign else now
        self._watched[attempt_id] = _Watched(sign, since, now)
        return now - since >= SILENCE.total_seconds()

    def _forget(self, now: float) -> None:
        for attempt_id, watched in list(self._watched.items()):
            if now - watched.looked_at > _FORGOTTEN_SECONDS:
                del self._watched[attempt_id]


def attempt_in_progress_error(number: int) -> ApplicationError:
    """The failure of an attempt that has to wait for another; nothing was sent."""
    return ApplicationError(
        f"Request {number} of this run is still under way: its answer is waited for, and nothing is sent meanwhile.",
        type=STILL_UNDER_WAY,
        next_retry_delay=LOOK_AGAIN,
        category=ApplicationErrorCategory.BENIGN,
    )


def _waits_in_a_batch(attempt: Attempt) -> ApplicationError:
    batch_id = (attempt.batch_part or "").partition("/")[0]
    return ApplicationError(
        f"This request waits in the economy batch {batch_id} (attempt {attempt.attempt_id}), whose answer may take a day."
        " Nothing was sent. Submit it again once that batch has ended: it then finds what was paid.",
        type=WAITS_IN_A_BATCH,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def superseded_outcome() -> AttemptOutcome:
    """The outcome of an attempt that began at the same moment as another one, and leaves the sending to that."""
    return AttemptOutcome(
        outcome="not_sent",
        finished_at=datetime.now(UTC),
        error_type=STILL_UNDER_WAY,
        error_message="Another attempt of this run began at the same moment.",
    )


async def _show(store: ImageStore, attempt_id: str) -> None:
    count = 0
    while True:
        await asyncio.sleep(SIGN_EVERY.total_seconds())
        count += 1
        # Counted, as a clock may stand still or be set back; the time is for people alone.
        sign = f"{count} {datetime.now(UTC).isoformat()}"
        try:
            await store.put_document(_key(attempt_id), sign.encode())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a sign must not cost the answer that is paid for
            log.warning("No sign of life could be left.", attempt_id=attempt_id, error=str(error))


def _key(attempt_id: str) -> str:
    return f"alive/{attempt_id}.txt"
