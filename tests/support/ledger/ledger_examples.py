"""Runs, attempts and bills for tests: sound ones, where a test changes only what it is about."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import Attempt, AttemptOutcome, NewAttempt
from gpt_image_runs.contracts.billing import BillingInput, Cost
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.database.engine import Database

SENT_AT = datetime(2026, 11, 23, 8, 30, 0, 123456, tzinfo=UTC)
FINISHED_AT = datetime(2026, 11, 23, 8, 30, 41, tzinfo=UTC)

IDENTITY = RunIdentity(
    run_id="image:acme:req-1",
    tenant="acme",
    request_id="req-1",
    workflow_id="image:acme:req-1",
    fingerprint="a1" * 32,
    operation="generate",
    requested_model="gpt-image-1",
)
IMAGE = ImageRef(
    uri="file:///pictures/1.png",
    sha256="0" * 64,
    media_type="image/png",
    bytes=1234,
    width=1024,
    height=1024,
)
SUCCEEDED = AttemptOutcome(
    outcome="succeeded",
    finished_at=FINISHED_AT,
    provider_request_id="req_0123",
    size="1024x1024",
    quality="high",
    response={"created": 1795422641, "usage": {"input_tokens": 50, "output_tokens": 4160}},
    images=(IMAGE.model_dump(mode="json"),),
)
CHARGE = Cost(
    amount_usd="0.166900",
    basis="token_usage",
    rate_card="charge-1",
    list_cost_usd="0.166650",
    list_rate_card="list-1",
)
ESTIMATE = Cost(amount_usd="0.042240", basis="size_quality_estimate", flags=("usage_missing",))
HOLD = Cost(basis="none", reason="The provider returned no usage.")


def identify(tenant: str, request_id: str) -> RunIdentity:
    """Build the identity of another run than the usual one."""
    run_id = f"image:{tenant}:{request_id}"
    return replace(IDENTITY, run_id=run_id, workflow_id=run_id, tenant=tenant, request_id=request_id)


def describe_attempt(run_id: str = IDENTITY.run_id) -> NewAttempt:
    """Build an attempt that is about to be sent."""
    return NewAttempt(
        run_id=run_id,
        workflow_run_id="8c6f3f1e",
        model="gpt-image-1",
        provider="openai",
        sent_at=SENT_AT,
        reserved_micro_usd=250_000,
    )


def begin_attempt(
    database: Database, identity: RunIdentity = IDENTITY, *, model: str = "gpt-image-1"
) -> Attempt:
    """Claim a run and begin an attempt."""
    log = AttemptLog(database)
    log.claim_run(identity)
    return log.begin(replace(describe_attempt(identity.run_id), model=model))


def pay_attempt(
    database: Database, identity: RunIdentity = IDENTITY, *, model: str = "gpt-image-1", **learned: Any
) -> Attempt:
    """Claim a run with a paid attempt. `learned` are fields of its outcome."""
    attempt = begin_attempt(database, identity, model=model)
    AttemptLog(database).finish(attempt.attempt_id, replace(SUCCEEDED, **learned))
    return attempt


def make_order(attempt: Attempt, cost: Cost = CHARGE) -> BillingInput:
    """Build the billing input of an attempt's run."""
    return BillingInput(
        run_id=attempt.run_id, attempt_id=attempt.attempt_id, cost=cost, metadata={"order": "4711"}
    )
