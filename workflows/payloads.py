"""The argument of a workflow or of an Update, by whoever and in whatever language, as JSON.

An argument that the SDK cannot decode, and one argument too many, would fail the workflow's task again and again, for
ever. So the workflow takes its argument raw, what is no JSON becomes a text that the check refuses like any other wrong
request, and surplus arguments are refused before the workflow begins. An Update refuses both by its validator. A signal has nobody to
tell: with surplus arguments it is dropped.
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
NOTHING = RawValue(Payload(metadata={"encoding": _NULL}))
"""The argument of a workflow that was started without one."""
_REFUSED = {names.UPDATE_DECIDE: names.DECISION_REFUSED}
"""The failure types of Updates that are turned down, where they are not `RequestRefused`."""

MAX_MESSAGE = 16 * 1024
"""Bytes of a signal or a decision. Ours have at most some 12,000: 2,000 characters of text, each of which may be written as six."""
# Bytes of a request that are read whatever they hold: the most that JSON of tiny values may have, as a workflow task has two seconds.
_QUICK_TO_READ = 256 * 1024
# Braces, brackets and commas of a larger request. The texts of a sound one, beside its pictures, have 75,000 characters at most.
_MAX_SEPARATORS = 150_000


def read_bounded(argument: RawValue, most: int) -> Any:
    """The same as `read_argument` for what may come to a run that is under way; of more than `most` bytes only how many they are.

    To read megabytes takes a second, and a workflow task has two. Signals stay in the history: with some of that size no task would ever
    end in time, and a run that has paid would stand still for good.
    """
    size = len(argument.payload.data)
    return read_argument(argument) if size <= most else f"{size:,} bytes, of which {most:,} are read"


def read_request_argument(argument: RawValue) -> Any:
    """The same for a request, wherever it comes from: of the size that Temporal carries, unless it holds too many values.

    A picture is one long text, which is read in milliseconds. How large all pictures of a request may be is for
    `gpt_image_runs.contracts.images.MAX_DATA_URIS` to say, and for the check to refuse with the picture's name.
    """
    data = argument.payload.data
    is_quick = len(data) <= _QUICK_TO_READ or sum(map(data.count, (b"{", b"[", b","))) <= _MAX_SEPARATORS
    return read_argument(argument) if is_quick else read_bounded(argument, _QUICK_TO_READ)


def read_argument(argument: RawValue) -> Any:
    """The JSON value given, or a text that says what was given instead."""
    encoding = argument.payload.metadata.get("encoding", b"")
    if encoding == _NULL:
        return None
    if encoding not in _JSON:
        return f"a value of encoding {encoding.decode('ascii', 'replace')}, not JSON"
    try:
        value = _ANYTHING.validate_json(argument.payload.data)
        json.loads(argument.payload.data, object_pairs_hook=_refuse_duplicates)
    except ValueError as error:
        return f"no readable JSON ({error})"
    # NaN is no JSON, and 1e999 reads as infinity, which JSON cannot write: the next reader would see something else.
    same = _ANYTHING.validate_json(_ANYTHING.dump_json(value)) == value
    return value if same else "JSON with a number that is none, or out of range"


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    """Of two values for one name each reader takes another: which one is billed must not be a guess."""
    if len({name for name, _ in pairs}) < len(pairs):
        most_common, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"several values for the name {most_common!a}")


class RefuseSurplusArguments(Interceptor):
    """Ends a run that was started with several arguments, turns an Update with several down, drops a signal. For workers."""

    def workflow_interceptor_class(
        self, _input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Temporal asks for a class, as it makes one instance for each run."""
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
