"""Read the argument of a workflow, an Update or a signal, which anybody may have sent in any language.

An argument that the SDK cannot decode, or one argument too many, would fail the workflow task again and again without
end. So workflows take a raw argument. If it is not valid JSON it becomes a text, which the check refuses like any other
invalid request. Surplus arguments are refused before the workflow begins, by an Update's validator, and in a signal,
which has no response, by dropping the signal.
"""

import json
from collections import Counter
from typing import Any

from pydantic import TypeAdapter
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.problems import Problem, describe_problems
from gpt_image_runs.contracts.request import find_tenant

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
_JSON = (b"json/plain", b"json/protobuf")
_NULL = b"binary/null"
# The argument of a workflow that was started without one.
NOTHING = RawValue(Payload(metadata={"encoding": _NULL}))
# The failure types of rejected Updates, if not `RequestRefused`.
_REFUSED = {names.UPDATE_DECIDE: names.DECISION_REFUSED}

# Bytes of a signal or a decision. Ours have at most some 12,000: 2,000 characters, each of which may be escaped as six.
MAX_MESSAGE = 16 * 1024
# Bytes of a request that are always parsed. JSON of this size takes well under the two seconds of a workflow task, even if it
# has many small values.
_QUICK_TO_READ = 256 * 1024
# Braces, brackets and commas of a larger request. The texts of a valid one, without its images, have at most 75,000 characters.
_MAX_SEPARATORS = 150_000


def read_bounded(argument: RawValue, most: int) -> Any:
    """Parse an argument of at most `most` bytes. Return a text with its size if it is larger.

    Parsing megabytes takes a second, and a workflow task has two. Signals stay in the history: after several of that size
    no task would end in time, and a run that has paid would be blocked forever.
    """
    size = len(argument.payload.data)
    return read_argument(argument) if size <= most else f"{size:,} bytes, of which {most:,} are read"


def read_request_argument(argument: RawValue) -> Any:
    """Parse a request of any size that Temporal accepts. Return a text if it has too many values.

    An image is one long string, which is parsed in milliseconds. The check limits the size of all images of a request
    (`gpt_image_runs.contracts.images.MAX_DATA_URIS`).
    """
    data = argument.payload.data
    is_quick = len(data) <= _QUICK_TO_READ or sum(map(data.count, (b"{", b"[", b","))) <= _MAX_SEPARATORS
    return read_argument(argument) if is_quick else read_bounded(argument, _QUICK_TO_READ)


def read_argument(argument: RawValue) -> Any:
    """Parse an argument as JSON. Return a text that says what it is if it is not valid JSON."""
    encoding = argument.payload.metadata.get("encoding", b"")
    if encoding == _NULL:
        return None
    if encoding not in _JSON:
        return f"a value of encoding {encoding.decode('ascii', 'replace')}, not JSON"
    try:
        value = _ANYTHING.validate_json(argument.payload.data)
        json.loads(argument.payload.data, object_pairs_hook=_refuse_duplicates)
    except ValueError as error:
        return f"invalid JSON ({error})"
    # NaN is not valid JSON, and 1e999 is parsed as infinity, which JSON cannot represent.
    same = _ANYTHING.validate_json(_ANYTHING.dump_json(value)) == value
    return value if same else "JSON with a number that is not valid or out of range"


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    """Raise ValueError for duplicate names, of which some parsers take the first value and others the last."""
    if len({name for name, _ in pairs}) < len(pairs):
        most_common, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"several values for the name {most_common!a}")


class RefuseSurplusArguments(Interceptor):
    """Refuses workflows and Updates with several arguments, and drops signals with several. For workers."""

    def workflow_interceptor_class(
        self, _input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Return the class of which Temporal makes an instance for each run."""
        return _Refuse


class _Refuse(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
        if len(input.args) > 1:
            count = f"{len(input.args)} arguments"
            tenant = find_tenant(None, workflow.info().workflow_id)
            if tenant is not None:
                workflow.upsert_search_attributes([names.TENANT.value_set(tenant)])
            problems = (Problem(field="request", value=count, allowed="one argument: the request"),)
            raise ApplicationError(
                describe_problems(problems), *problems, type=names.REQUEST_REFUSED, non_retryable=True
            )
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002 - the SDK's name
        if len(input.args) > 1:
            return
        await super().handle_signal(input)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:  # noqa: A002 - the SDK's name
        if len(input.args) > 1:
            raise ApplicationError(
                f"The Update {input.update} takes one argument, and {len(input.args)} were given.",
                type=_REFUSED.get(input.update, names.REQUEST_REFUSED),
                non_retryable=True,
            )
        super().handle_update_validator(input)
