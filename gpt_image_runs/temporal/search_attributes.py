"""Check that a namespace has the search attributes that runs need, with their types, and add missing ones.

A run that sets an attribute of another type fails every workflow task from then on, after it was paid. So the check
comes first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.client.errors import TemporalUnavailable

log = structlog.get_logger("worker")


Keys = Sequence[SearchAttributeKey[Any]]

# Temporal Cloud and servers with an authorizer may deny the operator API.
_DENIED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)
_OTHER_TYPE = re.compile(r"search attribute \S+ of type (\w+)")
# A value of each type, as filters write it.
_LITERALS = {"Keyword": "'x'", "Text": "'x'", "Int": "1", "Double": "0.5", "Bool": "true"}


@dataclass(frozen=True, slots=True)
class AttributeReport:
    """The wanted attributes that a namespace lacks, with their types, and for `mistyped` the actual type."""

    missing: Mapping[str, str]
    mistyped: Mapping[str, tuple[str, str]]
    # Why the server denied the list, if it did. Then only the results of filters are known.
    not_listed: str | None = None

    def describe_mistyped(self, namespace: str) -> str | None:
        """Return the sentence about attributes of another type, or None if there are none."""
        if not self.mistyped:
            return None
        differences = ", ".join(
            f"{name} of type {actual} where runs need {wanted}"
            for name, (wanted, actual) in self.mistyped.items()
        )
        return (
            f"The namespace {namespace} has the search attribute {differences}. A run would be paid and could never end."
            " Set TEMPORAL_NAMESPACE to a namespace that nobody else uses; or, where nobody needs that attribute, ask its"
            " operator to run `temporal operator search-attribute remove` for it."
        )


def name_indexed_type(kind: int) -> str:
    """Return the name of a type as Temporal's command line writes it: Keyword, KeywordList, Double."""
    words = IndexedValueType.Name(IndexedValueType.ValueType(kind)).removeprefix("INDEXED_VALUE_TYPE_")
    return "".join(word.capitalize() for word in words.split("_"))


async def inspect_search_attributes(client: Client, wanted: Keys) -> AttributeReport:
    """Compare the attributes of the client's namespace with the wanted ones. Nothing is changed.

    If the server denies the list, each attribute is used in a filter instead, which shows what is missing and most
    other types.

    Raises:
        RPCError: the server denies both, does not know the namespace, or does not respond.
    """
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        listed = (await client.operator_service.list_search_attributes(request)).custom_attributes
    except RPCError as error:
        if error.status not in _DENIED:
            raise
        return await _inspect_by_filters(client, wanted, error.message)
    missing, mistyped = {}, {}
    for key in wanted:
        expected = name_indexed_type(key.indexed_value_type.value)
        if key.name not in listed:
            missing[key.name] = expected
        elif (actual := name_indexed_type(listed[key.name])) != expected:
            mistyped[key.name] = (expected, actual)
    return AttributeReport(missing, mistyped)


async def _inspect_by_filters(client: Client, wanted: Keys, reason: str) -> AttributeReport:
    missing, mistyped = {}, {}
    for key in wanted:
        expected = name_indexed_type(key.indexed_value_type.value)
        try:
            await client.count_workflows(f"{key.name} = {_LITERALS[expected]}")
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            if other := _OTHER_TYPE.search(error.message):
                mistyped[key.name] = (expected, other[1])
            else:
                missing[key.name] = expected
    return AttributeReport(missing, mistyped, not_listed=reason)


async def register_search_attributes(client: Client, wanted: Keys) -> list[str]:
    """Add the search attributes that the namespace lacks; return the names of those that were added.

    Raises:
        TemporalUnavailable: one is there with another type; or one is missing and cannot be added, with the reason and
            what its operator can do.
    """
    try:
        report = await inspect_search_attributes(client, wanted)
    except RPCError as error:
        raise TemporalUnavailable(
            f"Temporal does not let this worker into the namespace {client.namespace} ({error.message.rstrip('.')})."
            " Check TEMPORAL_NAMESPACE and TEMPORAL_API_KEY."
        ) from error
    if sentence := report.describe_mistyped(client.namespace):
        raise TemporalUnavailable(f"{sentence} The worker did not start.")
    if report.not_listed:
        log.warning("search_attributes_not_listed", reason=report.not_listed, missing=sorted(report.missing))
    if report.missing:
        await _add(client, report.missing, wanted)
    return sorted(report.missing)


async def _add(client: Client, missing: Mapping[str, str], wanted: Keys) -> None:
    kinds = {
        key.name: IndexedValueType.ValueType(key.indexed_value_type.value)
        for key in wanted
        if key.name in missing
    }
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return
        if error.status in (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.RESOURCE_EXHAUSTED):
            lacking = ", ".join(f"{name} ({kind})" for name, kind in missing.items())
            raise TemporalUnavailable(
                f"The namespace {client.namespace} lacks the search attributes {lacking} and takes no more"
                f" ({error.message.rstrip('.')}). Set TEMPORAL_NAMESPACE to a namespace of this application's own, or ask"
                " its operator to remove attributes that nobody uses (`temporal operator search-attribute remove`)."
            ) from error
        commands = "\n".join(
            f"temporal operator search-attribute create --namespace {client.namespace} --name {name} --type {kind}"
            for name, kind in missing.items()
        )
        raise TemporalUnavailable(
            f"The namespace {client.namespace} lacks search attributes that this worker may not add"
            f" ({error.message}). Ask its operator to run (in Temporal Cloud: to add them to the namespace):\n{commands}"
        ) from error
