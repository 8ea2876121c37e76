"""Input and output of `check_request` and `call_gpt_image`."""

from datetime import datetime
from typing import Any

from pydantic import JsonValue

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.billing import PriceMode
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.problems import Problem
from gpt_image_runs.contracts.request import ImageRequest, MissingUsage, Notify, Operation, UnknownOutcome


class CheckInput(Contract):
    """A payload as somebody sent it, and the id of the workflow that was started with it."""

    payload: Any
    workflow_id: str


class Admission(SparseContract):
    """Whether a request may run, and what was settled before anything is sent.

    `problems` empty means admitted; only then do the other fields hold. `model` is the one that will be called (the
    replacement, where a setting says so), `price_ceiling_usd` the worst case, None where no price is known.
    `image_slots` is how many dispatches the run takes beyond its call's own, so that n pictures count as n against the
    provider's limit; None where there is nothing to take. `notify` is who is told of the run's end, where that is allowed,
    also of a run that is refused. `warnings` are sentences for the operator.
    `refused_tenant` is whose run is refused, as far as that can be told: operators find it by this name.
    """

    problems: tuple[Problem, ...] = ()
    run_id: str = ""
    tenant: str = "default"
    request_id: str = ""
    model: str = ""
    provider: str = ""
    missing_usage: MissingUsage = "estimate"
    unknown_outcome: UnknownOutcome = "resend"
    price_ceiling_usd: Usd | None = None
    fingerprint: str = ""
    image_slots: int | None = None
    notify: Notify | None = None
    warnings: tuple[str, ...] = ()
    refused_tenant: str | None = None


class CallInput(SparseContract):
    """One run's request to the provider. `model` is the one to call, which `request.model` may have been replaced by.

    With `unknown_outcome` "hold", nothing is sent after an attempt of unknown outcome, apart from those in
    `decided_attempts`: of these somebody has decided that they are no reason to wait.
    `image_slots` is what the run has taken of the provider's limit beyond its call: see `Admission`.
    The call believes none of it that money hangs on: ids, fingerprint and worst case are made again from `request`.
    """

    run_id: str
    tenant: str
    request_id: str
    request: ImageRequest
    model: str
    fingerprint: str
    price_ceiling_usd: Usd | None = None
    unknown_outcome: UnknownOutcome = "resend"
    decided_attempts: tuple[str, ...] = ()
    image_slots: int | None = None


class CallFailure(Contract):
    """Why a call that was paid for has no picture: the type and the message that its run fails with."""

    error_type: str
    message: str


class CallResult(SparseContract):
    """What was paid for: pictures in the store and the provider's usage, verbatim.

    `failure` is set where no picture came, but usage: the run bills it, and then fails.

    `size`, `quality`, `output_format` are the effective ones, None where neither request nor response names them.
    `usage_problem` is set where usage cannot be billed as it stands: it could not be carried (too large; then it is kept with the
    attempt and its ledger entry only), or the answer holds further usage that has no price (`svg_usage`).
    `sent_at` is when the paying attempt was sent, and decides which dated prices apply. `warnings` are for the operator.
    `links` lead to the pictures, in their order, for some days and by a browser, where the deployment has such links.
    `mode` None means "standard": a run that was paid as a line of an economy batch is billed by the batch prices.
    """

    attempt_id: str
    attempts: int
    model: str
    provider: str
    provider_request_id: str | None = None
    simulated: bool = False
    operation: Operation
    images: tuple[ImageRef, ...]
    usage: JsonValue = None
    usage_problem: str | None = None
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    sent_at: datetime
    mode: PriceMode | None = None
    links: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    failure: CallFailure | None = None
