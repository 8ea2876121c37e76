"""Registered names that clients, workflows and workers of any language share. Never rename one: histories hold them."""

from datetime import date
from typing import Final

from temporalio.common import SearchAttributeKey

WORKFLOW = "ImageGeneration"
QUERY_STATUS = "status"
# Decides about a held run: one argument, a `gpt_image_runs.contracts.decisions.Decision`.
UPDATE_DECIDE = "decide"
# Submits a request to a run, which it may start: one argument, answered by a
# `gpt_image_runs.contracts.submissions.SubmitReceipt`.
UPDATE_SUBMIT = "submit"

# From the activity to its run: a `gpt_image_runs.contracts.images.PartialImage`, while the provider still draws.
SIGNAL_PARTIAL_IMAGE = "partial_image"
# From the activity to its run: a `gpt_image_runs.contracts.result.FailedAttempt`, when it is retried.
SIGNAL_ATTEMPT_FAILED = "attempt_failed"
# The topic of a run's workflow stream on which they are published to subscribers.
TOPIC_PARTIAL_IMAGES = "partial_images"

# The workflow that compares a day with the provider's own books.
PROVIDER_RECONCILIATION = "ProviderReconciliation"

# Workflows, the check before a call and the billing after it.
RUNS_QUEUE = "image-runs"
# Calls to the provider, and dispatches that stand for further pictures: with slots, a rate limit and workers of their
# own.
PROVIDER_QUEUE = "image-provider"
# Requests to webhook receivers: with slots of their own, so that a slow receiver does not delay bills.
NOTIFY_QUEUE = "image-notifications"

CHECK_REQUEST = "check_request"
FIND_EARLIER_RUN = "find_earlier_run"
CALL_GPT_IMAGE = "call_gpt_image"
# Only dispatches on the provider's queue, which count against its rate limit.
TAKE_IMAGE_SLOTS = "take_image_slots"
COMPUTE_COST = "compute_cost"
RECORD_BILLING = "record_billing"
RECONCILE_PROVIDER = "reconcile_provider"

# The workflow of one correction of a run's bill, on the runs queue.
RECONCILIATION = "Reconciliation"
SETTLE_RUN = "settle_run"

# The workflow of one decision about a tenant's budget, on the runs queue.
BUDGET_CHANGE = "BudgetChange"
CHANGE_BUDGET = "change_budget"
# The workflow of a batch, on the runs queue; its runs carry its id as a search attribute.
BATCH = "ImageBatch"
OPEN_BATCH = "open_batch"
ADVANCE_BATCH = "advance_batch"
SIGNAL_PAUSE = "pause"
SIGNAL_RESUME = "resume"
SIGNAL_CANCEL = "cancel"
QUERY_PROGRESS = "progress"

# The workflow that notifies one destination of a run's end, on the runs queue. The run does not wait for it.
NOTIFICATION = "Notification"
NOTIFY = "notify"

# The workflow that quotes the price of a request, on the runs queue. It starts nothing, and may have any id.
PRICE_QUOTE = "PriceQuote"
QUOTE_PRICE = "quote_price"

# The Nexus service on the runs queue, with the operations `generate` and `quote`.
NEXUS_SERVICE = "ImageRuns"
# The Nexus endpoint of the embedded server; the operator of a cluster may choose another name.
NEXUS_ENDPOINT = "image-runs"

# The workflow of a batch that runs at half price in the provider's own batches, on the runs queue.
ECONOMY_BATCH = "EconomyBatch"
PLAN_ECONOMY_BATCH = "plan_economy_batch"
CLAIM_ECONOMY_PART = "claim_economy_part"
SEND_ECONOMY_PART = "send_economy_part"
LOOK_AT_ECONOMY_PARTS = "look_at_economy_parts"
CANCEL_ECONOMY_PARTS = "cancel_economy_parts"
SETTLE_ECONOMY_LINES = "settle_economy_lines"
CLOSE_ECONOMY_PART = "close_economy_part"
CLOSE_ECONOMY_ROUND = "close_economy_round"
# Tells an economy batch to poll the provider now, for example from a webhook of the provider.
SIGNAL_LOOK = "look"
QUERY_ECONOMY = "economy"

# The failure type of a run that was refused before anything was sent; its details are a list of problems.
REQUEST_REFUSED = "RequestRefused"
# The failure type of a run whose request id stands for other content in the ledger; nothing was sent.
RUN_CONFLICT = "RunConflict"
# The failure type of a correction that would not be true; nothing was written.
CORRECTION_REFUSED = "CorrectionRefused"
# The failure type of a call that waits for a decision, with an `OpenDecision` as its detail; the run goes on.
UNKNOWN_OUTCOME_HELD = "UnknownOutcomeHeld"
# The failure type of an Update `decide` that cannot be read, or comes to a run that is not held.
DECISION_REFUSED = "DecisionRefused"
# The failure type of an Update `submit` to a run that ended before it was known what its request id stands for.
NO_RECEIPT = "NoReceipt"
# The failure type of a held run that somebody gave up; its details are its `OpenDecision` and the `Decision`.
GIVEN_UP = "GivenUp"
# The failure type of a bill for an attempt that the ledger does not have; it is tried again, and a cancelled run ends.
ATTEMPT_MISSING = "AttemptMissing"
# The failure type of a run whose tenant may not spend what its next request could cost; that request was not sent.
BUDGET_EXCEEDED = "BudgetExceeded"
# The failure type of a notification that its receiver did not take for three days.
NOTIFICATION_GIVEN_UP = "NotificationGivenUp"
# The failure type of a batch whose id stands for other lines already; nothing was started.
BATCH_CONFLICT = "BatchConflict"

TENANT = SearchAttributeKey.for_keyword("Tenant")
MODEL = SearchAttributeKey.for_keyword("Model")
OPERATION = SearchAttributeKey.for_keyword("Operation")
BILLING_STATE = SearchAttributeKey.for_keyword("BillingState")
# Only for filters such as `CostUsd > 0.10`: the billed amount is the decimal string in the ledger.
COST_USD = SearchAttributeKey.for_float("CostUsd")
IMAGE_COUNT = SearchAttributeKey.for_int("ImageCount")
# What a run needs from a person before it goes on: `DECISION` while it is held, else not set.
WAITS_FOR = SearchAttributeKey.for_keyword("WaitsFor")
DECISION = "decision"
# The batch that started a run, and the batch's own workflow.
BATCH_ID = SearchAttributeKey.for_keyword("Batch")
SEARCH_ATTRIBUTES = (TENANT, MODEL, OPERATION, BILLING_STATE, COST_USD, IMAGE_COUNT, WAITS_FOR, BATCH_ID)


_ECONOMY_PREFIX = "economy-batch:"


def run_id_for(tenant: str, request_id: str) -> str:
    """Return the id of a run and of its workflow: "image:acme:req-1"."""
    return f"image:{tenant}:{request_id}"


# The workflow of a Nexus operation whose request id is in use by an execution of other content: `nexus:OPERATION`.
NEXUS_PREFIX = "nexus:"


def batch_workflow_id(batch_id: str) -> str:
    """Return the id of a batch's workflow: "batch:autumn-catalog"."""
    return f"batch:{batch_id}"


def economy_workflow_id(batch_id: str) -> str:
    """Return the id of an economy batch's workflow: "economy-batch:autumn-catalog"."""
    return f"{_ECONOMY_PREFIX}{batch_id}"


def is_economy_batch(workflow_id: str) -> bool:
    """Return whether a workflow's id is that of an economy batch."""
    return workflow_id.startswith(_ECONOMY_PREFIX)


def provider_reconciliation_id(day: date) -> str:
    """Return the id of the workflow that compares a day: "provider-reconciliation:2026-11-22"."""
    return f"provider-reconciliation:{day.isoformat()}"


# For runs that already hold part of the provider's limit: they finish before others begin. Never start a run with it.
PRIORITY_FIRST: Final = 1
# A person waits for the picture.
PRIORITY_INTERACTIVE: Final = 2
# The server's default.
PRIORITY_UNSAID: Final = 3
# Many runs, none of which a person waits for.
PRIORITY_BATCH: Final = 4


FINGERPRINT = "fingerprint"


# Keys of a run's memo: the request's fingerprint, and the id of the Update `submit` that started it.
SUBMISSION = "submission"
