"""The names by which clients, workflows and workers in any language find each other. Never rename: histories hold them."""

from temporalio.common import SearchAttributeKey

WORKFLOW = "ImageGeneration"
QUERY_STATUS = "status"

RUNS_QUEUE = "image-runs"
"""Workflows, the check before and the money after."""
PROVIDER_QUEUE = "image-provider"
"""`call_gpt_image` alone: its own slots, rate limit and fleet."""

CHECK_REQUEST = "check_request"
CALL_GPT_IMAGE = "call_gpt_image"
COMPUTE_COST = "compute_cost"
RECORD_BILLING = "record_billing"

REQUEST_REFUSED = "RequestRefused"
"""The failure type of a run that was refused before anything was sent; its details are a list of problems."""

TENANT = SearchAttributeKey.for_keyword("Tenant")
MODEL = SearchAttributeKey.for_keyword("Model")
OPERATION = SearchAttributeKey.for_keyword("Operation")
BILLING_STATE = SearchAttributeKey.for_keyword("BillingState")
COST_USD = SearchAttributeKey.for_float("CostUsd")
"""For filters such as `CostUsd > 0.10` only: what is billed is the decimal string in the ledger."""
IMAGE_COUNT = SearchAttributeKey.for_int("ImageCount")
SEARCH_ATTRIBUTES = (TENANT, MODEL, OPERATION, BILLING_STATE, COST_USD, IMAGE_COUNT)


def run_id_for(tenant: str, request_id: str) -> str:
    """The id of a run, which is the id of its workflow: "image:acme:req-1"."""
    return f"image:{tenant}:{request_id}"
