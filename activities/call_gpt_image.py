"""`call_gpt_image`: one HTTP request to the provider, written down before it is sent and given an outcome after.

Every attempt of this activity is one attempt of the run. It first looks whether an earlier one was paid: then it
answers with that. Money itself (prices, entries) is no business of this file.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.errors import MIN_WAIT_SECONDS, to_application_error, translate_errors
from activities.heartbeats import heartbeats, shield_from_cancellation
from activities.provider_call.earlier_attempts import (
    AttemptReceipts,
    Liveness,
    add_recovered_pictures,
    apply_outcome_receipts,
    attempt_in_progress_error,
    check_resend_limit,
    hold_if_undecided,
    superseded_outcome,
)
from activities.provider_call.failure_signal import report_failures
from activities.provider_call.image_saving import ImageSaver, ImagesNotSaved, announcing_partial_images
from activities.provider_call.results import (
    apply_outcome,
    failed_outcome,
    succeeded_outcome,
    to_call_result,
    undelivered_outcome,
    unsaved_outcome,
)
from activities.provider_call.retry_state import OnPause, SharedBackoffs, carry_retry_state, load_retry_state
from activities.provider_call.tracing import provider_span
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.call_terms import CallTerms
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import Attempt, AttemptOutcome, NewAttempt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.input_memory import ByteBudget, HeldInputs, hold_inputs
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.signed_links import PictureLinks
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.client import FilePart, ImageClient, ProviderCall, RawAnswer
from gpt_image_runs.provider.errors import ProviderFailure, RateLimited, ServerOverloaded
from gpt_image_runs.provider.responses import Answer, Show, unreadable_answer
from gpt_image_runs.webhooks.downloads import Downloader

log = structlog.get_logger("call_gpt_image")


# Calls that hold the memory for pictures give it back once these are sent, which takes seconds. An attempt has a minute beside
# the provider's time.
INPUT_MEMORY_PATIENCE_SECONDS = 30.0
# As much as INPUT_MEMORY_MIB by default.
INPUT_MEMORY_BYTES = 512 * 1024 * 1024


class GptImageCaller:
    """Calls one provider for runs, keeping its pictures in one store and its attempts in one ledger.

    `terms` say what a call may cost and in whose name, whatever a workflow hands over. `resends` is how many attempts of unknown
    outcome a run may have before the one that is its last. `refuse_behind` raises LedgerBehind while the ledger is older than its store.
    `input_memory` is what the pictures of all edits may take in memory at once.
    """

    def __init__(
        self,
        client: ImageClient,
        store: ImageStore,
        attempts: AttemptLog,
        *,
        terms: CallTerms,
        simulated: bool,
        resends: int,
        input_memory: ByteBudget | None = None,
        links: PictureLinks | None = None,
        on_pause: OnPause | None = None,
        downloader: Downloader | None = None,
        refuse_behind: Callable[[], None] | None = None,
        owners: PictureOwners | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._keeper = ImageSaver(store, downloader)
        self._attempts = attempts
        self._receipts = AttemptReceipts(store, attempts, simulated=simulated)
        self._terms = terms
        self._provider = terms.catalogue.provider
        self._simulated = simulated
        self._resends = resends
        self._input_memory = input_memory or ByteBudget(INPUT_MEMORY_BYTES)
        self._links = links
        self._owners = owners or PictureOwners(store)
        self._pauses = SharedBackoffs(on_pause=on_pause) if on_pause else SharedBackoffs()
        self._liveness = Liveness(store)
        self._refuse_behind = refuse_behind

    @activity.defn(name=names.CALL_GPT_IMAGE)
    async def call_gpt_image(self, order: CallInput) -> CallResult:
        """The run's pictures and usage, paid for at most once by this attempt, or found where they were paid before.

        An answer with usage and without a picture that can be used is a result too, so that it is billed; its `failure`
        says what the run has to fail with after that.

        Raises:
            LedgerBehind: the ledger is older than its store; nothing was sent, and the call is tried again.
        ApplicationError: named after the failure (see `gpt_image_runs.provider.errors`), with the provider's delay where it has
                one; not retryable where trying again cannot help or might pay for ever.
            LedgerUnavailable, StoreUnavailable: nothing was sent, or what was paid is kept and found later.
        """
        given = load_retry_state()
        async with report_failures(given.told, lambda: self._count_attempts(order.run_id)):
            with carry_retry_state(given, order.image_slots), translate_errors():
                async with heartbeats(*given.details):
                    return self._add_links(await self._carry_out(order))

    async def _count_attempts(self, run_id: str) -> int:
        return len(await asyncio.to_thread(self._attempts.list_attempts, run_id))

    def _add_links(self, result: CallResult) -> CallResult:
        """In the history a link is no secret for longer than it is good."""
        if self._links is None:
            return result
        urls = self._links.make_urls(result.images, datetime.now(UTC))
        return result.model_copy(update={"links": urls})

    async def _carry_out(self, order: CallInput) -> CallResult:
        self._identify(order)
        if self._refuse_behind:
            self._refuse_behind()
        with ExitStack() as holding:
            return await self._carry_out_holding(order, holding)

    async def _carry_out_holding(self, order: CallInput, holding: ExitStack) -> CallResult:
        inputs = await self._look_at_inputs_first(order, holding)
        if inputs and activity.info().attempt == 1 and not self._pauses.is_on(order.model):
            await self._keeper.prove()
            result = await shield_from_cancellation(self._pay_new_run(order, inputs))
            if result:
                return result
            if activity.is_cancelled():  # which nothing that was paid has to be saved from
                raise asyncio.CancelledError
        return await self._carry_on(order, inputs, holding)

    async def _carry_on(self, order: CallInput, inputs: HeldInputs | None, holding: ExitStack) -> CallResult:
        """A run that the ledger may know: what it has paid for is its answer, and what it has sent is heard of first."""
        identity = self._identify(order)
        listed = await asyncio.to_thread(self._attempts.find_attempts, identity)
        if not any(attempt.outcome == "succeeded" for attempt in listed):
            listed = await self._find_lost(order, listed)
        earlier = await apply_outcome_receipts(listed, self._attempts, self._receipts)
        paid = next((attempt for attempt in earlier if attempt.outcome == "succeeded"), None)
        if paid:
            log.info("An earlier attempt was paid; its pictures are used.", attempt_id=paid.attempt_id)
            paid = await add_recovered_pictures(paid, self._store)
            return await self._keeper.warn_of_deleted(to_call_result(paid, order, len(earlier)))
        await self._liveness.wait_for_attempts_in_progress(earlier)
        if order.unknown_outcome == "hold":
            hold_if_undecided(earlier, order)
        else:
            check_resend_limit(earlier, self._resends)
        inputs = inputs or await self._hold_inputs(order, holding)
        await self._keeper.prove()
        await self._pauses.wait(order.model)
        return await shield_from_cancellation(self._pay(order, inputs, earlier))

    async def _find_lost(self, order: CallInput, listed: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """The run's attempts, with those that a ledger has lost which was restored from an older copy."""
        known = {attempt.attempt_id for attempt in listed}
        if not await self._receipts.take_back(self._identify(order), known):
            return listed
        return await asyncio.to_thread(self._attempts.find_attempts, self._identify(order))

    async def _look_at_inputs_first(self, order: CallInput, holding: ExitStack) -> HeldInputs | None:
        """The pictures of a run that has sent nothing yet: a refused one leaves its request id free for the right picture.

        None for a run that has sent something: it may find what it paid for, and needs no inputs for that.
        """
        if order.request.operation == "generate":
            return HeldInputs()
        sent = await asyncio.to_thread(self._attempts.list_attempts, order.run_id)
        return None if sent else await self._hold_inputs(order, holding)

    async def _hold_inputs(self, order: CallInput, holding: ExitStack) -> HeldInputs:
        inputs = await hold_inputs(
            order.request,
            self._owners.store_of(order.tenant),
            self._input_memory,
            INPUT_MEMORY_PATIENCE_SECONDS,
        )
        holding.callback(inputs.release)
        return inputs

    async def _pay_new_run(self, order: CallInput, inputs: HeldInputs) -> CallResult | None:
        """None, and nothing was sent, where the run is not new: most are, and are written down with their first attempt.

        The store is asked too: a ledger that was restored from an older copy takes a run that was paid for a new one.
        """
        if await self._receipts.take_back(self._identify(order)):
            return None
        attempt = await asyncio.to_thread(
            self._attempts.begin_run, self._identify(order), self._announce(order)
        )
        return await self._buy(order, inputs, (), attempt) if attempt else None

    async def _pay(self, order: CallInput, inputs: HeldInputs, earlier: tuple[Attempt, ...]) -> CallResult:
        identity, new = self._identify(order), self._announce(order)
        attempt = await asyncio.to_thread(self._begin, identity, new, is_first=not earlier)
        # Numbers have gaps where a restored ledger has lost attempts.
        next_number = max((each.number for each in earlier), default=0) + 1
        if attempt.number != next_number:  # of attempts that begin at once, only the first may send
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, superseded_outcome())
            raise attempt_in_progress_error(attempt.number - 1)
        return await self._buy(order, inputs, earlier, attempt)

    def _begin(self, identity: RunIdentity, new: NewAttempt, *, is_first: bool) -> Attempt:
        """What a budget refuses leaves no run either, whichever attempt it is: its request id is free for a smaller picture."""
        begun = self._attempts.begin_run(identity, new) if is_first else None
        if begun is None:
            self._attempts.claim_run(identity)  # known by now, but perhaps as something else
            begun = self._attempts.begin(new)
        return begun

    async def _buy(
        self, order: CallInput, inputs: HeldInputs, earlier: tuple[Attempt, ...], attempt: Attempt
    ) -> CallResult:
        most = order.request.partial_images or 0
        async with announcing_partial_images(
            self._store, attempt.attempt_id, most, owner=order.tenant
        ) as show:
            return await self._buy_showing(order, inputs, earlier, attempt, show)

    async def _buy_showing(
        self, order: CallInput, inputs: HeldInputs, earlier: tuple[Attempt, ...], attempt: Attempt, show: Show
    ) -> CallResult:
        log.info(
            "The request is sent.", attempt_id=attempt.attempt_id, model=order.model, number=attempt.number
        )
        try:
            noting = self._receipts.noting_open_attempt(self._identify(order), attempt, order.request)
            async with self._liveness.liveness_marker(attempt.attempt_id), noting:
                outcome, is_saved = await self._send(order, inputs, attempt, show)
        except ProviderFailure as failure:
            outcome = failed_outcome(failure)
            await self._note_failure(order, attempt, outcome)
            if isinstance(failure, RateLimited | ServerOverloaded):
                self._pauses.extend(order.model, max(failure.retry_after_seconds or 0, MIN_WAIT_SECONDS))
            log.info(
                "The request failed.",
                attempt_id=attempt.attempt_id,
                outcome=failure.outcome,
                error_type=type(failure).__name__,
                http_status=failure.http_status,
            )
            if order.unknown_outcome == "hold":
                hold_if_undecided((*earlier, apply_outcome(attempt, outcome)), order)
            raise to_application_error(failure, attempt.attempt_id, attempts=attempt.number) from None
        if is_saved:
            await self._receipts.write(self._identify(order), attempt, outcome, order.request)
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, outcome)
        else:
            await self._note_unsaved(order, attempt, outcome)
        log.info(
            "The pictures are kept." if outcome.images else "Paid for, and no picture can be used.",
            attempt_id=attempt.attempt_id,
            latency_ms=outcome.latency_ms,
            error_type=outcome.error_type,
        )
        return to_call_result(apply_outcome(attempt, outcome), order, attempt.number)

    async def _note_unsaved(self, order: CallInput, attempt: Attempt, outcome: AttemptOutcome) -> None:
        """Record what was paid for while the store is away: in the ledger first, as a receipt can take longer than the attempt has.

        Where the ledger is away too, only this activity's result has the usage. Raising would send the request again.
        """
        try:
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, outcome)
        except LedgerError as error:
            log.warning("outcome_not_recorded", attempt_id=attempt.attempt_id, error=str(error))
        await self._receipts.write(self._identify(order), attempt, outcome, order.request)

    async def _note_failure(self, order: CallInput, attempt: Attempt, outcome: AttemptOutcome) -> None:
        """Whether to try again is for the failure to say: a ledger that is away now hears of it from a receipt.

        What may have been paid has one in any case, as the ledger may be restored from an older copy.
        """
        kept_anyway = outcome.outcome == "unknown" or self._receipts.has_open_note(attempt.attempt_id)
        try:
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, outcome)
        except LedgerError as error:
            log.warning("The outcome is kept as a receipt.", attempt_id=attempt.attempt_id, error=str(error))
            kept_anyway = True
        if kept_anyway:
            await self._receipts.write(self._identify(order), attempt, outcome, order.request)

    async def _send(
        self, order: CallInput, inputs: HeldInputs, attempt: Attempt, show: Show
    ) -> tuple[AttemptOutcome, bool]:
        """Return the outcome of a request that was paid for, and whether all its pictures are stored.

        Raises:
            ProviderFailure: it was not paid for, as far as the provider says.
        """
        given = inputs.hand_over()
        parts = [FilePart(data=image.data, media_type=image.media_type) for image in given.images]
        mask = FilePart(data=given.mask.data, media_type=given.mask.media_type) if given.mask else None
        del given

        def let_go() -> None:
            """For the minutes in which the provider draws nobody needs the pictures here."""
            parts.clear()
            inputs.release()

        call = ProviderCall(
            request=order.request,
            model=order.model,
            images=parts,
            mask=mask,
            client_request_id=attempt.client_request_id,
            on_uploaded=let_go,
        )
        address = self._client.address
        try:
            with provider_span(order, attempt, provider=self._provider, address=address) as note_answer:
                raw = await self._client.send(call, show)
                note_answer(raw)
        except ProviderFailure as failure:
            if not failure.is_charged:
                raise
            return undelivered_outcome(None, failure), True
        try:
            answer = await self._open_answer(raw, order, attempt)
        except ProviderFailure as failure:
            await self._keeper.save_raw_body(attempt.attempt_id, raw)
            if not failure.is_charged:
                raise
            return undelivered_outcome(raw, failure), True
        if answer.problems:
            await self._keeper.save_raw_body(attempt.attempt_id, raw)
        raw = raw.without_body()
        try:
            images = await self._keeper.keep(answer.pictures, raw, owner=order.tenant)
        except ImagesNotSaved as unsaved:
            return unsaved_outcome(raw, answer, unsaved), False
        return succeeded_outcome(raw, answer, images), True

    async def _open_answer(self, raw: RawAnswer, order: CallInput, attempt: Attempt) -> Answer:
        """Read an answer. Whatever fails, it was paid for: an exception that nobody expects must not send the request again."""
        try:
            return await self._keeper.open_answer(raw, order.request)
        except ProviderFailure:
            raise
        except Exception as error:
            log.exception("answer_not_read", attempt_id=attempt.attempt_id)
            raise unreadable_answer(raw, error) from None

    def _announce(self, order: CallInput) -> NewAttempt:
        now = datetime.now(UTC)
        return NewAttempt(
            run_id=order.run_id,
            workflow_run_id=activity.info().workflow_run_id or "",
            model=order.model,
            provider=self._provider,
            sent_at=now,
            reserved_micro_usd=self._terms.find_ceiling(order, now),
            simulated=self._simulated,
        )

    def _identify(self, order: CallInput) -> RunIdentity:
        return self._terms.identify(order, activity.info().workflow_id or "")
