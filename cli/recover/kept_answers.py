"""Recover a run's result and bill from a stored response that could not be used when it arrived."""

import asyncio
import dataclasses
from datetime import UTC, datetime

from pydantic import TypeAdapter
from rich.text import Text

from cli.errors import CommandFailed
from cli.output import Output
from cli.runs.lookup import describe_attempts, find_in_ledger
from cli.runs.view import describe_result
from cli.session import Session
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.billing.recovery.receipts import update_outcome
from gpt_image_runs.billing.recovery.recovery import bill_recovered
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.batch_files import read_result_line
from gpt_image_runs.provider.calls import RawAnswer
from gpt_image_runs.provider.errors import ProviderFailure
from gpt_image_runs.provider.responses import (
    Answer,
    check_pictures,
    read_answer,
    read_response,
    resolve_links,
)
from gpt_image_runs.webhooks.downloads import Downloader, DownloadFailed

_IMAGES = TypeAdapter(tuple[ImageRef, ...])


async def recover_answer(run_id: str, session: Session, output: Output) -> None:
    """Parse a run's stored response again, and make its result and its bill from what can be read now.

    Raises:
        CommandFailed: nothing was stored, or it still cannot be used.
    """
    known = await asyncio.to_thread(find_in_ledger, run_id, session)
    if known is None:
        raise CommandFailed(f"The ledger does not know the run {run_id}.", run_id=run_id)
    attempt, body = await _find_body(run_id, known.attempts, session.open_store())
    raw = _raw_answer_of(attempt, body)
    try:
        answer = await _read(raw, attempt, session)
    except ProviderFailure as failure:
        if attempt.outcome != "succeeded" and failure.is_charged:
            await asyncio.to_thread(_settle_and_bill, session, attempt, _undelivered(raw, failure))
        raise CommandFailed(
            f"The stored response of attempt {attempt.attempt_id} was read again. {failure}", run_id=run_id
        ) from None
    store = session.open_store()
    images = tuple(
        [await store.put_image(picture, owner=run_id.split(":")[1]) for picture in answer.pictures]
    )
    outcome = None
    if attempt.outcome != "succeeded":
        outcome = _delivered(raw, answer, images)
        await update_outcome(store, run_id, attempt.attempt_id, outcome)
    elif len(images) > len(attempt.images or ()):
        # The attempt and its bill are final: the run finds these when it is submitted again.
        await store.put_document(f"recovered/{attempt.attempt_id}.json", _IMAGES.dump_json(images))
    await asyncio.to_thread(_settle_and_bill, session, attempt, outcome)
    await _show(run_id, images, answer, session, output)


async def _find_body(run_id: str, attempts: tuple[Attempt, ...], store: ImageStore) -> tuple[Attempt, bytes]:
    """Return the paid attempt, otherwise the first that may have been paid, and its stored response."""
    paid = [attempt for attempt in attempts if attempt.outcome == "succeeded"]
    for attempt in paid or [attempt for attempt in attempts if attempt.outcome == "unknown"]:
        body = await store.read_document(f"malformed/{attempt.attempt_id}.body")
        if body is not None:
            return attempt, body
    raise CommandFailed(
        f"No unusable response to the run {run_id} is stored. Requests sent for it:"
        f" {describe_attempts(attempts)}.",
        run_id=run_id,
    )


async def _read(raw: RawAnswer, attempt: Attempt, session: Session) -> Answer:
    # What was asked for is in the run's history; the ledger does not know it, and reading needs only a request.
    request = ImageRequest(model=attempt.model, prompt="(not known to the ledger)")
    line = await asyncio.to_thread(read_result_line, raw.body) if attempt.batch_part else None
    if line is not None and line.response is not None:
        answer = await asyncio.to_thread(read_response, raw, line.response, request)
    else:
        answer = await asyncio.to_thread(read_answer, raw, request)
    answer = dataclasses.replace(answer, requested=len(answer.items))
    settings = session.settings
    downloader = Downloader(settings.image_url_destinations(), settings.provider_urls())
    answer = await resolve_links(answer, downloader.fetch, DownloadFailed)
    return await asyncio.to_thread(check_pictures, raw, answer)


def _settle_and_bill(session: Session, attempt: Attempt, outcome: AttemptOutcome | None) -> None:
    """Record the outcome of an attempt that has none yet, and write the run's bill unless it has one."""
    cards = RateCards.load(session.settings.rate_card)
    with session.open_ledger() as database:
        log = AttemptLog(database)
        if outcome is not None:
            log.finish(attempt.attempt_id, outcome)
        paid = log.find_success(attempt.run_id) or attempt
        bill_recovered(database, paid, cards)


async def _show(
    run_id: str, images: tuple[ImageRef, ...], answer: Answer, session: Session, output: Output
) -> None:
    known = await asyncio.to_thread(find_in_ledger, run_id, session)
    if known is None or known.result is None:
        raise CommandFailed(f"The run {run_id} has no bill.", run_id=run_id)
    warnings = (answer.shortfall,) if answer.shortfall else ()
    result: RunResult = known.result.model_copy(update={"images": images, "warnings": warnings})
    view = Text("Recovered: ") + describe_result(result, session.find_store(), None)
    output.answer(result.model_dump(mode="json"), view)
    output.say("Submit the same request again to make this its run's result: nothing is sent or paid.")


def _raw_answer_of(attempt: Attempt, body: bytes) -> RawAnswer:
    return RawAnswer(
        body=body,
        headers={},
        http_status=attempt.http_status or 200,
        provider_request_id=attempt.provider_request_id,
        latency_ms=attempt.latency_ms or 0,
        simulated=attempt.simulated,
        sent_at=attempt.sent_at,
    )


def _delivered(raw: RawAnswer, answer: Answer, images: tuple[ImageRef, ...]) -> AttemptOutcome:
    return AttemptOutcome(
        outcome="succeeded",
        finished_at=datetime.now(UTC),
        http_status=raw.http_status,
        error_message=answer.shortfall or "Its response was stored, and read later by `recover`.",
        size=answer.size,
        quality=answer.quality,
        output_format=answer.output_format,
        background=answer.background,
        response=answer.response,
        images=tuple(image.model_dump(mode="json") for image in images),
    )


def _undelivered(raw: RawAnswer, failure: ProviderFailure) -> AttemptOutcome:
    return AttemptOutcome(
        outcome="succeeded",
        finished_at=datetime.now(UTC),
        http_status=raw.http_status,
        error_type=type(failure).__name__,
        error_message=str(failure),
        response=failure.response,
        images=(),
    )
