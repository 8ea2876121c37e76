"""The activity `check_request`: decide whether a run may start, before anything is sent.

It runs as a local activity. Its result is in the history, so that a later catalog or another day does not change it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from temporalio import activity

from gpt_image_runs.billing.pricing.quotes import price_ceiling
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import PriceMode
from gpt_image_runs.contracts.calls import Admission, CheckInput
from gpt_image_runs.contracts.fingerprints import fingerprint, mark_content
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.contracts.problems import Problem, describe_value
from gpt_image_runs.contracts.request import (
    ImageRequest,
    MissingUsage,
    Notify,
    UnknownOutcome,
    find_request_id,
    find_tenant,
)
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.request_rules import check_payload
from gpt_image_runs.webhooks.allowlist import NO_DESTINATIONS, Destinations, describe_destination


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """The rules of a deployment: see the settings of the same names. `images_per_minute` None means no limit.

    `destinations` are the hosts that notifications may be sent to.
    """

    missing_usage: MissingUsage
    unknown_outcome: UnknownOutcome
    retired_models: Literal["refuse", "replace"]
    unpriced_models: Literal["hold", "refuse"]
    images_per_minute: int | None = None
    destinations: Destinations = NO_DESTINATIONS


class RequestChecker:
    """Checks requests against the catalog and the rate cards of one provider."""

    def __init__(self, catalog: Catalog, cards: RateCards, policy: CheckPolicy) -> None:
        self._catalog = catalog
        self._cards = cards
        self._policy = policy

    @activity.defn(name=names.CHECK_REQUEST)
    async def check_request(self, check_input: CheckInput) -> Admission:
        """Return all problems of a payload, or what the run needs to go on."""
        return self.check(check_input.payload, check_input.workflow_id, "standard")

    def check(self, payload: Any, workflow_id: str, mode: PriceMode) -> Admission:
        """Check a payload as `check_request` does, with the price ceiling at the prices of `mode`."""
        now = datetime.now(UTC)
        checked = check_payload(
            payload,
            self._catalog,
            now.date(),
            replace_retired=self._policy.retired_models == "replace",
        )
        notify, misdirected = self._check_notify(checked.sound, mode)
        if checked.request is None or checked.resolved is None:
            problems = (*checked.problems, *misdirected)
            return _refuse(problems, notify, checked.warnings, find_tenant(payload, workflow_id))
        request, model = checked.request, checked.resolved.model
        request_id = find_request_id(request, workflow_id)
        ceiling = price_ceiling(self._catalog.provider, model, request, now, self._cards, mode=mode)
        problems = (
            *misdirected,
            *_check_id(request_id, workflow_id),
            *self._check_price(ceiling, model, now),
            # The provider's batches have their own limits and no streaming.
            *(self._check_limit(request) if mode == "standard" else _check_streaming(request)),
        )
        if problems or request_id is None:
            return _refuse(problems, notify, checked.warnings, request.tenant)
        return Admission(
            run_id=names.run_id_for(request.tenant, request_id),
            tenant=request.tenant,
            request_id=request_id,
            model=model,
            provider=self._catalog.provider,
            missing_usage=request.missing_usage or self._policy.missing_usage,
            unknown_outcome=request.unknown_outcome or self._policy.unknown_outcome,
            price_ceiling_usd=None if ceiling is None else format_usd(ceiling),
            fingerprint=mark_content(fingerprint(request), request),
            image_slots=self._count_slots(request),
            notify=notify,
            warnings=(*checked.warnings, *self._warn_unpriced(ceiling, model, request)),
        )

    def _check_price(self, ceiling: int | None, model: str, now: datetime) -> tuple[Problem, ...]:
        if ceiling is not None or self._policy.unpriced_models == "hold":
            return ()
        allowed = (
            f"a model with a price: none is known for {model} at {self._catalog.provider} on {now.date()};"
            " add it to a rate card of your own (RATE_CARD), or set UNPRICED_MODELS=hold to run it unpriced"
        )
        return (Problem(field="model", value=describe_value("model", model), allowed=allowed),)

    def _check_limit(self, request: ImageRequest) -> tuple[Problem, ...]:
        limit = self._policy.images_per_minute
        if limit is None or request.image_count <= limit:
            return ()
        allowed = f"at most {limit}: the provider takes no more images in a minute (IMAGES_PER_MINUTE)"
        return (Problem(field="n", value=str(request.image_count), allowed=allowed),)

    def _check_notify(
        self, sound: ImageRequest | None, mode: PriceMode
    ) -> tuple[Notify | None, tuple[Problem, ...]]:
        """Return where to notify, or the problem with it. `sound` is the valid part of the request."""
        notify = sound.notify if sound else None
        if notify is None:
            return None, ()
        fault = (
            "nothing in an economy batch: its lines have no run whose end could be notified"
            if mode == "batch"
            else self._policy.destinations.validate(notify.url)
        )
        if fault is None:
            return notify, ()
        return None, (
            Problem(field="notify.url", value=ascii(describe_destination(notify.url)), allowed=fault),
        )

    def _count_slots(self, request: ImageRequest) -> int | None:
        """Return how many dispatches a call needs beyond its own.

        The provider limits images made and images sent separately, so the larger number counts.
        """
        if self._policy.images_per_minute is None:
            return None
        return max(request.image_count, len(request.images or ())) - 1 or None

    def _warn_unpriced(self, ceiling: int | None, model: str, request: ImageRequest) -> tuple[str, ...]:
        if ceiling is not None:
            return ()
        warning = (
            f"No price is known for {model} at {self._catalog.provider}: {request.image_count} image(s) are requested"
            " at an unknown cost, and the bill stays pending until a rate card has a price."
        )
        return (warning,)


def _refuse(
    problems: tuple[Problem, ...], notify: Notify | None, warnings: tuple[str, ...], tenant: str | None
) -> Admission:
    return Admission(problems=problems, notify=notify, warnings=warnings, refused_tenant=tenant)


def _check_streaming(request: ImageRequest) -> tuple[Problem, ...]:
    if request.partial_images is None:
        return ()
    allowed = "nothing in an economy batch, which has no partial images; send it without --economy"
    return (Problem(field="partial_images", value=str(request.partial_images), allowed=allowed),)


def _check_id(request_id: str | None, workflow_id: str) -> tuple[Problem, ...]:
    if request_id is not None:
        return ()
    allowed = (
        "a request_id in the request, or a workflow id of the form image:TENANT:REQUEST_ID"
        f" (the workflow's id is {describe_value('request_id', workflow_id)})"
    )
    return (Problem(field="request_id", value="absent", allowed=allowed),)
