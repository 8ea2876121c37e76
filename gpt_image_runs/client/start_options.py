"""The options a run is started with: id, search attributes, priority. Pure."""

from dataclasses import dataclass
from typing import Any

from temporalio.common import Priority, SearchAttributePair, TypedSearchAttributes

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts import names as priorities
from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.names import FINGERPRINT, SUBMISSION
from gpt_image_runs.contracts.request import ImageRequest, describe_call


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """The options of `Client.start_workflow` that follow from a request."""

    memo: dict[str, Any]
    search_attributes: TypedSearchAttributes
    static_summary: str
    priority: Priority


def describe_start(
    request: ImageRequest,
    *,
    submission: str,
    model: str | None = None,
    batch_id: str | None = None,
    priority_key: int = priorities.PRIORITY_INTERACTIVE,
) -> RunStart:
    """Build the start options of a request's run.

    `model` is the model that will be called, if known: the requested one may be retired and replaced. The run corrects it.
    """
    model = model or request.model
    attributes: list[SearchAttributePair[Any]] = [
        SearchAttributePair(names.TENANT, request.tenant),
        SearchAttributePair(names.MODEL, model),
        SearchAttributePair(names.OPERATION, request.operation),
    ]
    if batch_id is not None:
        attributes.append(SearchAttributePair(names.BATCH_ID, batch_id))
    return RunStart(
        memo={FINGERPRINT: fingerprint(request), SUBMISSION: submission},
        search_attributes=TypedSearchAttributes(attributes),
        static_summary=describe_call(
            model, request.operation, request.size, request.quality, request.image_count
        ),
        # Tenants share a backlog fairly: the server takes turns between these keys.
        priority=Priority(priority_key=priority_key, fairness_key=request.tenant),
    )
