"""Send one recorded attempt to the provider and record its outcome."""

import asyncio

import structlog

from activities.errors import MIN_WAIT_SECONDS, to_application_error
from activities.provider_call.earlier_attempts import AttemptReceipts, Liveness, hold_if_undecided
from activities.provider_call.image_saving import ImageSaver, ImagesNotSaved, announce_partial_images
from activities.provider_call.results import (
    apply_outcome,
    failed_outcome,
    succeeded_outcome,
    to_call_result,
    undelivered_outcome,
    unsaved_outcome,
)
from activities.provider_call.retry_state import SharedBackoffs
from activities.provider_call.tracing import provider_span
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.input_memory import HeldInputs
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.client import FilePart, ImageClient, ProviderCall, RawAnswer
from gpt_image_runs.provider.errors import ProviderFailure, RateLimited, ServerOverloaded
from gpt_image_runs.provider.responses import Answer, Show, unreadable_answer

log = structlog.get_logger("call_gpt_image")


class AttemptSender:
    """Sends attempts that the ledger has recorded, and records what became of them.

    `attempts` and `receipts` take the outcome, `saver` the images. `liveness` shows other workers that an attempt is in
    progress, and `backoffs` makes other calls wait where the provider asks for it. `provider` is its name for traces.
    """

    def __init__(
        self,
        client: ImageClient,
        store: ImageStore,
        attempts: AttemptLog,
        *,
        receipts: AttemptReceipts,
        saver: ImageSaver,
        liveness: Liveness,
        backoffs: SharedBackoffs,
        provider: str,
    ) -> None:
        self._client = client
        self._store = store
        self._attempts = attempts
        self._receipts = receipts
        self._saver = saver
        self._liveness = liveness
        self._backoffs = backoffs
        self._provider = provider

    async def send(
        self,
        call: CallInput,
        run: RunIdentity,
        attempt: Attempt,
        inputs: HeldInputs,
        earlier: tuple[Attempt, ...] = (),
    ) -> CallResult:
        """Send the attempt in one HTTP request, save its images and record its outcome.

        `earlier` are the run's attempts before this one.

        Raises:
            ApplicationError: the provider's failure, under its type name, or the run has to be held for a decision.
        """
        log.info(
            "provider_request_sent", attempt_id=attempt.attempt_id, model=call.model, number=attempt.number
        )
        raw: RawAnswer | None = None
        async with announce_partial_images(
            self._store, attempt.attempt_id, call.request.partial_images or 0, owner=call.tenant
        ) as show:
            try:
                open_receipt = self._receipts.write_open_receipt(run, attempt, call.request)
                async with self._liveness.liveness_marker(attempt.attempt_id), open_receipt:
                    raw = await self._post(call, attempt, inputs, show)
                    answer = await self._read_answer(raw, call.request, attempt)
                    # The body is not held in memory while its images are saved, which can take minutes.
                    raw = raw.without_body()
                    outcome, is_saved = await self._save_images(raw, answer, owner=call.tenant)
            except ProviderFailure as failure:
                if not failure.is_charged:
                    outcome = failed_outcome(failure)
                    await self._record_failure(run, attempt, outcome, call.request)
                    self._back_off(call.model, failure)
                    if call.unknown_outcome == "hold":
                        hold_if_undecided((*earlier, apply_outcome(attempt, outcome)), call)
                    raise to_application_error(failure, attempt.attempt_id, attempts=attempt.number) from None
                outcome, is_saved = undelivered_outcome(raw, failure), True
            await self._record_payment(run, attempt, outcome, call.request, is_saved=is_saved)
            return to_call_result(apply_outcome(attempt, outcome), call, attempt.number)

    async def _post(self, call: CallInput, attempt: Attempt, inputs: HeldInputs, show: Show) -> RawAnswer:
        given = inputs.hand_over()
        parts = [FilePart(data=image.data, media_type=image.media_type) for image in given.images]
        mask = FilePart(data=given.mask.data, media_type=given.mask.media_type) if given.mask else None
        del given

        def release_inputs() -> None:
            """Free the input images: generating takes minutes, and nobody needs them meanwhile."""
            parts.clear()
            inputs.release()

        provider_call = ProviderCall(
            request=call.request,
            model=call.model,
            images=parts,
            mask=mask,
            client_request_id=attempt.client_request_id,
            on_uploaded=release_inputs,
        )
        address = self._client.address
        with provider_span(call, attempt, provider=self._provider, address=address) as note_answer:
            raw = await self._client.send(provider_call, show)
            note_answer(raw)
            return raw

    async def _read_answer(self, raw: RawAnswer, request: ImageRequest, attempt: Attempt) -> Answer:
        """Read an answer, and save its whole body if a part of it cannot be used.

        Raises:
            ProviderFailure: no image can be used. An unexpected exception becomes one too, as the answer was paid for:
                the request must not be sent again.
        """
        try:
            answer = await self._saver.open_answer(raw, request)
        except ProviderFailure:
            await self._saver.save_raw_body(attempt.attempt_id, raw)
            raise
        except Exception as error:
            log.exception("answer_not_read", attempt_id=attempt.attempt_id)
            await self._saver.save_raw_body(attempt.attempt_id, raw)
            raise unreadable_answer(raw, error) from None
        if answer.problems:
            await self._saver.save_raw_body(attempt.attempt_id, raw)
        return answer

    async def _save_images(
        self, raw: RawAnswer, answer: Answer, *, owner: str
    ) -> tuple[AttemptOutcome, bool]:
        """Return the outcome of an answer with images, and whether all of them are in the store."""
        try:
            images = await self._saver.save(answer.pictures, raw, owner=owner)
        except ImagesNotSaved as unsaved:
            return unsaved_outcome(raw, answer, unsaved), False
        return succeeded_outcome(raw, answer, images), True

    async def _record_payment(
        self,
        run: RunIdentity,
        attempt: Attempt,
        outcome: AttemptOutcome,
        request: ImageRequest,
        *,
        is_saved: bool,
    ) -> None:
        """Record the outcome of a request that was paid for, as a receipt and in the ledger.

        If the store is unavailable (`is_saved` is False), the ledger comes first, as the receipt can take longer than the
        attempt has left. If the ledger is unavailable too, only this activity's result has the usage: raising an error
        would send the request again.
        """
        if is_saved:
            await self._receipts.write(run, attempt, outcome, request)
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, outcome)
        else:
            try:
                await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, outcome)
            except LedgerError as error:
                log.warning("outcome_not_recorded", attempt_id=attempt.attempt_id, error=str(error))
            await self._receipts.write(run, attempt, outcome, request)
        log.info(
            "images_saved" if outcome.images else "paid_answer_without_images",
            attempt_id=attempt.attempt_id,
            latency_ms=outcome.latency_ms,
            error_type=outcome.error_type,
        )

    async def _record_failure(
        self, run: RunIdentity, attempt: Attempt, outcome: AttemptOutcome, request: ImageRequest
    ) -> None:
        """Record the outcome in the ledger. If that is unavailable, it reads the outcome from a receipt later.

        A request that may have been paid for always gets a receipt, as the ledger may be restored from an older copy.
        """
        needs_receipt = outcome.outcome == "unknown" or self._receipts.has_open_receipt(attempt.attempt_id)
        try:
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, outcome)
        except LedgerError as error:
            log.warning("outcome_receipt_written", attempt_id=attempt.attempt_id, error=str(error))
            needs_receipt = True
        if needs_receipt:
            await self._receipts.write(run, attempt, outcome, request)
        log.info(
            "provider_request_failed",
            attempt_id=attempt.attempt_id,
            outcome=outcome.outcome,
            error_type=outcome.error_type,
            http_status=outcome.http_status,
        )

    def _back_off(self, model: str, failure: ProviderFailure) -> None:
        if isinstance(failure, RateLimited | ServerOverloaded):
            self._backoffs.extend(model, max(failure.retry_after_seconds or 0, MIN_WAIT_SECONDS))
