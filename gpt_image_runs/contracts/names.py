"""The names by which clients, workflows and workers in any language find each other. Never rename: histories hold them."""

from datetime import date
from typing import Final

from temporalio.common import SearchAttributeKey

WORKFLOW = "ImageGeneration"
QUERY_STATUS = "status"
UPDATE_DECIDE = "decide"
"""What becomes of a run that is held: one argument, a `gpt_image_runs.contracts.decisions.Decision`."""
UPDATE_SUBMIT = "submit"
"""A request for a run that is under way, or is started with it: one argument, answered by a `gpt_image_runs.contracts.submissions.SubmitReceipt`."""

SIGNAL_PARTIAL_IMAGE = "partial_image"
"""From the activity to its run: one `gpt_image_runs.contracts.images.PartialImage`, while the provider still draws."""
SIGNAL_ATTEMPT_FAILED = "attempt_failed"
"""From the activity to its run: one `gpt_image_runs.contracts.result.FailedAttempt`, when it is tried again."""
TOPIC_PARTIAL_IMAGES = "partial_images"
"""Where a run's workflow stream tells them on to whoever subscribes."""

PROVIDER_RECONCILIATION = "ProviderReconciliation"
"""The workflow that compares a day with the provider's own books."""

RUNS_QUEUE = "image-runs"
"""Workflows, the check before and the money after."""
PROVIDER_QUEUE = "image-provider"
"""The calls to the provider, and the dispatches that stand for further pictures: their own slots, rate limit and fleet."""
NOTIFY_QUEUE = "image-notifications"
"""The requests to receivers of notifications: slots of their own, as a receiver that hangs must not keep bills waiting."""

CHECK_REQUEST = "check_request"
FIND_EARLIER_RUN = "find_earlier_run"
CALL_GPT_IMAGE = "call_gpt_image"
TAKE_IMAGE_SLOTS = "take_image_slots"
"""Nothing but dispatches on the provider's queue, which count against its rate."""
COMPUTE_COST = "compute_cost"
RECORD_BILLING = "record_billing"
RECONCILE_PROVIDER = "reconcile_provider"

RECONCILIATION = "Reconciliation"
"""The workflow of one correction of a run's bill, on the runs queue."""
SETTLE_RUN = "settle_run"

BUDGET_CHANGE = "BudgetChange"
"""The workflow of one decision about a tenant's budget, on the runs queue."""
CHANGE_BUDGET = "change_budget"
BATCH = "ImageBatch"
"""The workflow of a batch, on the runs queue; its runs carry its id as a search attribute."""
OPEN_BATCH = "open_batch"
ADVANCE_BATCH = "advance_batch"
SIGNAL_PAUSE = "pause"
SIGNAL_RESUME = "resume"
SIGNAL_CANCEL = "cancel"
QUERY_PROGRESS = "progress"

NOTIFICATION = "Notification"
"""The workflow that tells one destination of a run's end, on the runs queue. The run does not wait for it."""
NOTIFY = "notify"

PRICE_QUOTE = "PriceQuote"
"""The workflow that says what a request would cost, on the runs queue. It starts nothing, and any id will do."""
QUOTE_PRICE = "quote_price"

NEXUS_SERVICE = "ImageRuns"
"""The Nexus service on the runs queue, with the operations `generate` and `quote`."""
NEXUS_ENDPOINT = "image-runs"
"""The endpoint that the embedded server has for it; a cluster's operator may choose another name."""

ECONOMY_BATCH = "EconomyBatch"
"""The workflow of a batch that runs at half price in the provider's own batches, on the runs queue."""
PLAN_ECONOMY_BATCH = "plan_economy_batch"
CLAIM_ECONOMY_PART = "claim_economy_part"
SEND_ECONOMY_PART = "send_economy_part"
LOOK_AT_ECONOMY_PARTS = "look_at_economy_parts"
CANCEL_ECONOMY_PARTS = "cancel_economy_parts"
SETTLE_ECONOMY_LINES = "settle_economy_lines"
CLOSE_ECONOMY_PART = "close_economy_part"
CLOSE_ECONOMY_ROUND = "close_economy_round"
SIGNAL_LOOK = "look"
"""To an economy batch: look at the provider's batches now, as a webhook of theirs may ask."""
QUERY_ECONOMY = "economy"

REQUEST_REFUSED = "RequestRefused"
"""The failure type of a run that was refused before anything was sent; its details are a list of problems."""
RUN_CONFLICT = "RunConflict"
"""The failure type of a run whose request id stands for other content in the ledger; nothing was sent."""
CORRECTION_REFUSED = "CorrectionRefused"
"""The failure type of a correction that would not be true; nothing was written."""
UNKNOWN_OUTCOME_HELD = "UnknownOutcomeHeld"
"""The failure type of a call that waits for a decision, with an `OpenDecision` as its detail; the run goes on."""
DECISION_REFUSED = "DecisionRefused"
"""The failure type of an Update `decide` that cannot be read, or comes to a run that is not held."""
NO_RECEIPT = "NoReceipt"
"""The failure type of an Update `submit` to a run that ended before it was known what its request id stands for."""
GIVEN_UP = "GivenUp"
"""The failure type of a held run that somebody gave up; its details are its `OpenDecision` and the `Decision`."""
ATTEMPT_MISSING = "AttemptMissing"
"""The failure type of a bill for an attempt that the ledger does not have; it is tried again, and a cancelled run ends."""
BUDGET_EXCEEDED = "BudgetExceeded"
"""The failure type of a run whose tenant may not spend what its next request could cost; that request was not sent."""
NOTIFICATION_GIVEN_UP = "NotificationGivenUp"
"""The failure type of a notification that its receiver did not take for three days."""
BATCH_CONFLICT = "BatchConflict"
"""The failure type of a batch whose id stands for other lines already; nothing was started."""

TENANT = SearchAttributeKey.for_keyword("Tenant")
MODEL = SearchAttributeKey.for_keyword("Model")
OPERATION = SearchAttributeKey.for_keyword("Operation")
BILLING_STATE = SearchAttributeKey.for_keyword("BillingState")
COST_USD = SearchAttributeKey.for_float("CostUsd")
"""For filters such as `CostUsd > 0.10` only: what is billed is the decimal string in the ledger."""
IMAGE_COUNT = SearchAttributeKey.for_int("ImageCount")
WAITS_FOR = SearchAttributeKey.for_keyword("WaitsFor")
"""What a run needs from a person before it goes on: `DECISION` while it is held, else not set."""
DECISION = "decision"
BATCH_ID = SearchAttributeKey.for_keyword("Batch")
"""The batch that started a run, and the batch's own workflow."""
SEARCH_ATTRIBUTES = (TENANT, MODEL, OPERATION, BILLING_STATE, COST_USD, IMAGE_COUNT, WAITS_FOR, BATCH_ID)


_ECONOMY_PREFIX = "economy-batch:"


def run_id_for(tenant: str, request_id: str) -> str:
    """The id of a run, which is the id of its workflow: "image:acme:req-1"."""
    return f"image:{tenant}:{request_id}"


# The workflow of a Nexus operation whose request id is in use by an execution of other content: `nexus:OPERATION`.
NEXUS_PREFIX = "nexus:"


def batch_workflow_id(batch_id: str) -> str:
    """The id of the workflow of a batch: "batch:autumn-catalogue"."""
    return f"batch:{batch_id}"


def economy_workflow_id(batch_id: str) -> str:
    """The id of the workflow of an economy batch: "economy-batch:autumn-catalogue"."""
    return f"{_ECONOMY_PREFIX}{batch_id}"


def is_economy_batch(workflow_id: str) -> bool:
    """Whether a workflow's id is that of an economy batch."""
    return workflow_id.startswith(_ECONOMY_PREFIX)


def provider_reconciliation_id(day: date) -> str:
    """The id of the workflow that compares a day: "provider-reconciliation:2026-11-22"."""
    return f"provider-reconciliation:{day.isoformat()}"


PRIORITY_FIRST: Final = 1
"""For runs that have begun to take their share of the provider's limit: to finish is before to begin. Start none with it."""
PRIORITY_INTERACTIVE: Final = 2
"""Somebody waits for the picture."""
PRIORITY_UNSAID: Final = 3
"""What the server takes where a starter says nothing."""
PRIORITY_BATCH: Final = 4
"""Many runs that nobody waits for one by one."""


FINGERPRINT = "fingerprint"


SUBMISSION = "submission"
"""What is kept in a run's memo: what was asked, and which call has started it: the id of the Update `submit` that came along."""
