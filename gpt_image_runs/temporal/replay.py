"""Replay histories on the current workflows, and find the first difference.

Temporal's own message names a state machine of the SDK. So the steps of a run are read from its history and compared
with those that the current code requests.
"""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.worker import (
    Interceptor,
    Replayer,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
    WorkflowRunner,
)

from gpt_image_runs.temporal.connection import DATA_CONVERTER

_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Replayed:
    """The replay of one history. `words` is Temporal's message about a failure, or None.

    `asked` are the steps in the history, `asks` those that the current code requested until it ended or failed.
    """

    name: str
    workflow_type: str
    events: int
    words: str | None
    asked: tuple[str, ...]
    asks: tuple[str, ...]

    @property
    def first_difference(self) -> int | None:
        """The first differing step, from 0. None: only timers, patches or the end can differ."""
        for index, step in enumerate(self.asked):
            if self.asks[index : index + 1] != (step,):
                return index
        return len(self.asked) if len(self.asks) > len(self.asked) else None


class NotAHistory(Exception):
    """A text that is not a workflow's history. The message is the end of a sentence."""


def read_history(name: str, text: str) -> WorkflowHistory:
    """Parse a history as written by `temporal workflow show --output json`.

    Raises:
        NotAHistory: it is not a history.
    """
    try:
        history = WorkflowHistory.from_json(name, text)
    except Exception as error:
        raise NotAHistory(f"is not the history of a workflow ({str(error).splitlines()[0][:200]})") from error
    if not history.events or not history.events[0].HasField("workflow_execution_started_event_attributes"):
        raise NotAHistory("has no beginning: it holds no event that a workflow was started with")
    # Ids of children are derived from the workflow's id, which is not the file's name.
    workflow_id = history.events[0].workflow_execution_started_event_attributes.workflow_id
    return WorkflowHistory(workflow_id or name, history.events)


class HistoryReplay:
    """Replays histories of the given workflows, with the interceptors of their worker."""

    def __init__(
        self, workflows: Sequence[type], interceptors: Sequence[Interceptor], runner: WorkflowRunner
    ) -> None:
        self._workflows = workflows
        self._interceptors = interceptors
        self._runner = runner
        # The SDK would create one for each history, and shut none down.
        self._threads = ThreadPoolExecutor(max_workers=1)

    async def replay(self, history: WorkflowHistory, name: str) -> Replayed:
        """Replay one history. Nothing is executed, and no server is used."""
        steps = _Steps()
        failure = await self._find_failure(history, steps)
        started = history.events[0].workflow_execution_started_event_attributes
        return Replayed(
            name=name,
            workflow_type=started.workflow_type.name,
            events=len(history.events),
            words=_read_words(failure) if failure else None,
            asked=tuple(_list_steps(history.events)),
            asks=tuple(steps.taken),
        )

    async def _find_failure(self, history: WorkflowHistory, steps: "_Steps") -> Exception | None:
        if not any(event.HasField("workflow_task_scheduled_event_attributes") for event in history.events):
            return (
                None  # a run that starts later: nothing to hold the code to, and the SDK would wait for ever
            )
        replayer = Replayer(
            workflows=self._workflows,
            data_converter=DATA_CONVERTER,
            interceptors=[*self._interceptors, steps],
            workflow_runner=self._runner,
            workflow_task_executor=self._threads,
        )
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        return result.replay_failure


def _read_words(failure: Exception) -> str:
    """Return the message in the SDK's dump of a failure, or else its first line."""
    found = _MESSAGE.search(str(failure))
    if found:
        return str(json.loads(f'"{found[1]}"', strict=False))
    return (str(failure).splitlines() or [type(failure).__name__])[0]


def _list_steps(events: Sequence[HistoryEvent]) -> Iterator[str]:
    for event in events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            yield event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.HasField("start_child_workflow_execution_initiated_event_attributes"):
            yield event.start_child_workflow_execution_initiated_event_attributes.workflow_type.name
        elif event.marker_recorded_event_attributes.marker_name == "core_local_activity":
            yield f"{_read_local_activity(event)} (local)"


def _read_local_activity(event: HistoryEvent) -> str:
    """Return the local activity's name from the SDK's marker, or "?" if it cannot be read."""
    payloads = event.marker_recorded_event_attributes.details["data"].payloads
    try:
        return str(json.loads(payloads[0].data)["activity_type"])
    except (IndexError, KeyError, TypeError, ValueError):
        return "?"


class _Steps(Interceptor):
    """Records the steps that a workflow requests."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def workflow_interceptor_class(
        self, _input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        taken = self.taken

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(_Outbound(outbound, taken))

        return Inbound


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, taken: list[str]) -> None:  # noqa: A002 - the SDK's name
        super().__init__(next)
        self._taken = taken

    def start_activity(self, input: StartActivityInput) -> Any:  # noqa: A002 - the SDK's name
        self._taken.append(input.activity)
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> Any:  # noqa: A002 - the SDK's name
        self._taken.append(f"{input.activity} (local)")
        return super().start_local_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
        self._taken.append(input.workflow)
        return await super().start_child_workflow(input)
