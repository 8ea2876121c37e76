"""Generate JSON Schemas (draft 2020-12) from the contracts, each self-contained.

The schema of a request is strict: it refuses every shape that the contract refuses. The schema of an answer is tolerant: fields
may be added, and required ones stay. Rules that need a model, a price or a picture are not in a schema.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic.json_schema import GenerateJsonSchema

from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress
from gpt_image_runs.contracts.budgets import BudgetDecision, TenantBudget
from gpt_image_runs.contracts.corrections import Correction, Settlement
from gpt_image_runs.contracts.decisions import Decision, DecisionTaken
from gpt_image_runs.contracts.economy import EconomyOrder, EconomyProgress, EconomySummary
from gpt_image_runs.contracts.notifications import RunFailure
from gpt_image_runs.contracts.problems import Problem
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult, RunStatus
from gpt_image_runs.contracts.submissions import SubmitReceipt

Schema = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_A_MASK_BELONGS_TO_AN_EDIT: Schema = {
    "if": {"required": ["mask"], "properties": {"mask": {"not": {"type": "null"}}}},
    "then": {"required": ["images"], "properties": {"images": {"type": "array"}}},
}
_SHOWN: Schema = {"type": "integer", "minimum": 1}
_A_STREAM_SHOWS_ONE_PICTURE: list[Schema] = [
    {
        "if": {"required": ["partial_images"], "properties": {"partial_images": _SHOWN}},
        "then": {"properties": {"n": {"enum": [1, None]}, "stream": {"enum": [True, None]}}},
    },
    {
        "if": {"required": ["stream"], "properties": {"stream": {"const": True}}},
        "then": {"required": ["partial_images"], "properties": {"partial_images": _SHOWN}},
    },
]
_USAGE_BELONGS_TO_RECONCILE: Schema = {
    "if": {"required": ["action"], "properties": {"action": {"const": "reconcile"}}},
    "then": {"required": ["usage"], "properties": {"usage": {"not": {"type": "null"}}}},
    "else": {"properties": {"usage": {"type": "null"}}},
}


class _Published(NamedTuple):
    contract: type[Contract]
    mode: Literal["validation", "serialization"]
    rule: Schema


# By stable name: what others send (validation mode) and what they receive (serialization mode).
PUBLISHED = {
    "image-request": _Published(
        ImageRequest, "validation", {**_A_MASK_BELONGS_TO_AN_EDIT, "allOf": _A_STREAM_SHOWS_ONE_PICTURE}
    ),
    "run-result": _Published(RunResult, "serialization", {}),
    "run-failure": _Published(RunFailure, "serialization", {}),
    "run-status": _Published(RunStatus, "serialization", {}),
    "problem": _Published(Problem, "serialization", {}),
    "quote": _Published(Quote, "serialization", {}),
    "correction": _Published(Correction, "validation", _USAGE_BELONGS_TO_RECONCILE),
    "settlement": _Published(Settlement, "serialization", {}),
    "submit-receipt": _Published(SubmitReceipt, "serialization", {}),
    "decision": _Published(Decision, "validation", {}),
    "decision-taken": _Published(DecisionTaken, "serialization", {}),
    "budget-decision": _Published(BudgetDecision, "validation", {}),
    "tenant-budget": _Published(TenantBudget, "serialization", {}),
    "batch-order": _Published(BatchOrder, "validation", {}),
    "batch-progress": _Published(BatchProgress, "serialization", {}),
    "economy-order": _Published(EconomyOrder, "validation", {}),
    "economy-progress": _Published(EconomyProgress, "serialization", {}),
    "economy-summary": _Published(EconomySummary, "serialization", {}),
}


def make_schemas() -> dict[str, Schema]:
    """Build every published schema, by its name.

    Raises:
        KeyError: a field has no description.
    """
    return {name: _make_schema(name, published) for name, published in PUBLISHED.items()}


class _WithoutTitles(GenerateJsonSchema):
    """A generator without field titles, which would repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def _make_schema(name: str, published: _Published) -> Schema:
    made = published.contract.model_json_schema(mode=published.mode, schema_generator=_WithoutTitles)
    for part in (made, *made.get("$defs", {}).values()):
        _check_descriptions(part)
    for part in _walk(made):
        # Names that do not have the pattern of a name are refused, not let through unseen.
        if "patternProperties" in part:
            part["additionalProperties"] = False
        # Temporal's HTTP API and its command line write an empty list of ours as null.
        if published.mode == "serialization" and part.get("type") == "array":
            part["type"] = ["array", "null"]
    # No address: nothing of ours answers under a host. The name is what stays.
    return {"$schema": _DRAFT, "$id": f"urn:gpt-image-runs:{name}", **made, **published.rule}


def _check_descriptions(model: Schema) -> None:
    # What has no fields of ours (JSON of others, a picture) has no title.
    for schema in model.get("properties", {}).values() if "title" in model else ():
        # The description comes last, as in the schemas published before.
        schema["description"] = schema.pop("description")


def _walk(part: Any) -> Iterator[Schema]:
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _walk(inner)
