"""The activity `call_gpt_image`: return what the run has paid for, or send one recorded attempt."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.errors import translate_errors
from activities.heartbeats import heartbeats, shield_from_cancellation
from activities.provider_call.attempt import AttemptSender
from activities.provider_call.earlier_attempts import (
    AttemptReceipts,
    Liveness,
    add_recovered_images,
    apply_outcome_receipts,
    attempt_in_progress_error,
    check_resend_limit,
    hold_if_undecided,
    superseded_outcome,
)
from activities.provider_call.failure_signal import report_failures
from activities.provider_call.image_saving import ImageSaver
from activities.provider_call.results import to_call_result
from activities.provider_call.retry_state import OnPause, SharedBackoffs, carry_retry_state, load_retry_state
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.call_terms import CallTerms
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import Attempt, NewAttempt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.images.input_memory import ByteBudget, HeldInputs, hold_inputs
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.signed_links import PictureLinks
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.client import ImageClient
from gpt_image_runs.webhooks.downloads import Downloader

log = structlog.get_logger("call_gpt_image")

# Other calls release the memory of their input images once these are sent, which takes seconds. An attempt has one
# minute beyond the provider's time.
INPUT_MEMORY_PATIENCE_SECONDS = 30.0
# The default of the setting INPUT_MEMORY_MIB.
INPUT_MEMORY_BYTES = 512 * 1024 * 1024


class GptImageCaller:
    """Calls the provider for runs: at most one HTTP request for each attempt of the activity.

    `terms` determine who is charged and how much a call may cost, whatever the workflow passes in. `resends` is how many
    attempts of unknown outcome a run may have and still send another one. `refuse_behind` raises LedgerBehind while the
    ledger is older than its image store. `input_memory` limits the bytes of all input images held at once.
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
        self._store = store
        self._saver = ImageSaver(store, downloader)
        self._attempts = attempts
        self._receipts = AttemptReceipts(store, attempts, simulated=simulated)
        self._terms = terms
        self._provider = terms.catalog.provider
        self._simulated = simulated
        self._resends = resends
        self._input_memory = input_memory or ByteBudget(INPUT_MEMORY_BYTES)
        self._links = links
        self._owners = owners or PictureOwners(store)
        self._backoffs = SharedBackoffs(on_pause=on_pause) if on_pause else SharedBackoffs()
        self._liveness = Liveness(store)
        self._refuse_behind = refuse_behind
        self._sender = AttemptSender(
            client,
            store,
            attempts,
            receipts=self._receipts,
            saver=self._saver,
            liveness=self._liveness,
            backoffs=self._backoffs,
            provider=self._provider,
        )

    @activity.defn(name=names.CALL_GPT_IMAGE)
    async def call_gpt_image(self, call: CallInput) -> CallResult:
        """Return the run's images and usage, from an earlier attempt that was paid or from a new one.

        An answer with usage and without a usable image is also a result, so that it is billed. Its `failure` is what the
        run fails with afterwards.

        Raises:
            ApplicationError: named after the failure (see `gpt_image_runs.provider.errors`), with the provider's delay. It is
                not retryable if another attempt cannot help, or might pay again without end. `LedgerBehind`,
                `LedgerUnavailable` and `StoreUnavailable`: nothing was sent, or the next attempt finds what was paid.
        """
        state = load_retry_state()
        async with report_failures(state.reports, lambda: self._count_attempts(call.run_id)):
            with carry_retry_state(state, call.image_slots), translate_errors():
                async with heartbeats(*state.details):
                    return self._add_links(await self._run(call))

    async def _run(self, call: CallInput) -> CallResult:
        run = self._identify(call)
        if self._refuse_behind:
            self._refuse_behind()
        with ExitStack() as held:
            inputs = await self._hold_inputs_of_new_run(call, held)
            if inputs and activity.info().attempt == 1 and not self._backoffs.is_on(call.model):
                await self._saver.check_store()
                first = await shield_from_cancellation(self._start_first_attempt(call, run, inputs))
                if first:
                    return first
                if activity.is_cancelled():  # nothing was sent
                    raise asyncio.CancelledError
            earlier = await self._load_earlier_attempts(run)
            paid = await self._resume(call, earlier)
            if paid:
                return paid
            inputs = inputs or await self._hold_inputs(call, held)
            await self._saver.check_store()
            await self._backoffs.wait(call.model)
            return await shield_from_cancellation(self._start_attempt(call, run, inputs, earlier))

    async def _start_first_attempt(
        self, call: CallInput, run: RunIdentity, inputs: HeldInputs
    ) -> CallResult | None:
        """Record a run together with its first attempt and send it. Return None, without sending, if it is not new.

        Most runs are new, so this saves them a read of the ledger. The store is asked too, as a ledger that was restored
        from an older copy may not know a run that was paid for.
        """
        if await self._receipts.restore_attempts(run):
            return None
        attempt = await asyncio.to_thread(self._attempts.begin_run, run, self._new_attempt(call))
        return await self._sender.send(call, run, attempt, inputs) if attempt else None

    async def _resume(self, call: CallInput, earlier: tuple[Attempt, ...]) -> CallResult | None:
        """Return the result of an earlier attempt that was paid, None if another one may be sent.

        Raises:
            ApplicationError: an attempt is in progress, or too many have an unknown outcome, or a person has to decide.
        """
        paid = next((attempt for attempt in earlier if attempt.outcome == "succeeded"), None)
        if paid:
            log.info("paid_attempt_reused", attempt_id=paid.attempt_id)
            paid = await add_recovered_images(paid, self._store)
            return await self._saver.warn_of_deleted(to_call_result(paid, call, len(earlier)))
        await self._liveness.wait_for_attempts_in_progress(earlier)
        if call.unknown_outcome == "hold":
            hold_if_undecided(earlier, call)
        else:
            check_resend_limit(earlier, self._resends)
        return None

    async def _start_attempt(
        self, call: CallInput, run: RunIdentity, inputs: HeldInputs, earlier: tuple[Attempt, ...]
    ) -> CallResult:
        """Record the run's next attempt and send it.

        Raises:
            ApplicationError: another attempt was recorded at the same time. Only the first of them is sent.
        """
        attempt = await asyncio.to_thread(self._begin, run, self._new_attempt(call), is_first=not earlier)
        # Numbers have gaps where a restored ledger has lost attempts.
        next_number = max((each.number for each in earlier), default=0) + 1
        if attempt.number != next_number:
            await asyncio.to_thread(self._attempts.finish, attempt.attempt_id, superseded_outcome())
            raise attempt_in_progress_error(attempt.number - 1)
        return await self._sender.send(call, run, attempt, inputs, earlier)

    def _begin(self, run: RunIdentity, new: NewAttempt, *, is_first: bool) -> Attempt:
        # A first attempt that a budget refuses leaves no run: its request id stays free for a smaller image.
        attempt = self._attempts.begin_run(run, new) if is_first else None
        if attempt is None:
            self._attempts.claim_run(run)  # raises RunConflict if the run has other content
            attempt = self._attempts.begin(new)
        return attempt

    async def _load_earlier_attempts(self, run: RunIdentity) -> tuple[Attempt, ...]:
        """Return the run's attempts with their outcomes, including those that only the image store knows."""
        attempts = await asyncio.to_thread(self._attempts.find_attempts, run)
        if not any(attempt.outcome == "succeeded" for attempt in attempts):
            known = {attempt.attempt_id for attempt in attempts}
            if await self._receipts.restore_attempts(run, known):
                attempts = await asyncio.to_thread(self._attempts.find_attempts, run)
        return await apply_outcome_receipts(attempts, self._attempts, self._receipts)

    async def _hold_inputs_of_new_run(self, call: CallInput, held: ExitStack) -> HeldInputs | None:
        """Read the input images of a run that has sent nothing yet, so that a refused one leaves its request id free.

        Return None for a run that has sent something: it may find what it paid for, and needs no inputs for that.
        """
        if call.request.operation == "generate":
            return HeldInputs()
        sent = await self._count_attempts(call.run_id)
        return None if sent else await self._hold_inputs(call, held)

    async def _hold_inputs(self, call: CallInput, held: ExitStack) -> HeldInputs:
        inputs = await hold_inputs(
            call.request,
            self._owners.store_of(call.tenant),
            self._input_memory,
            INPUT_MEMORY_PATIENCE_SECONDS,
        )
        held.callback(inputs.release)
        return inputs

    async def _count_attempts(self, run_id: str) -> int:
        return len(await asyncio.to_thread(self._attempts.list_attempts, run_id))

    def _new_attempt(self, call: CallInput) -> NewAttempt:
        now = datetime.now(UTC)
        return NewAttempt(
            run_id=call.run_id,
            workflow_run_id=activity.info().workflow_run_id or "",
            model=call.model,
            provider=self._provider,
            sent_at=now,
            reserved_micro_usd=self._terms.find_ceiling(call, now),
            simulated=self._simulated,
        )

    def _identify(self, call: CallInput) -> RunIdentity:
        return self._terms.identify(call, activity.info().workflow_id or "")

    def _add_links(self, result: CallResult) -> CallResult:
        """Add signed links to the images. They are stored in the history, and expire."""
        if self._links is None:
            return result
        urls = self._links.make_urls(result.images, datetime.now(UTC))
        return result.model_copy(update={"links": urls})
