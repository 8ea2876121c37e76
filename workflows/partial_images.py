"""Partial images of a run: published on its workflow stream and shown in its status."""

from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.contrib.workflow_streams import WorkflowStream

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.images import PartialImage
from gpt_image_runs.contracts.request import MAX_PARTIAL_IMAGES

_PUBLISH = "__temporal_workflow_stream_publish"
# For a run, however often it was sent. Each is kept until the run's end, for late subscribers.
_MAX_IMAGES = 60
# Characters of one as JSON, twice what ours have. A response to a subscriber that the server rejects would block the run.
_MAX_JSON = 4_000


class PartialImages:
    """The stream of one run. It has references to images only, and adds no commands to the history."""

    def __init__(self) -> None:
        self._stream = WorkflowStream()
        # Only the run itself publishes: the stream would not check what others send.
        workflow.set_signal_handler(_PUBLISH, None)
        self._topic = self._stream.topic(names.TOPIC_PARTIAL_IMAGES, type=PartialImage)
        self._published: list[PartialImage] = []

    def publish(self, payload: Any) -> bool:
        """Publish a `PartialImage`, given as JSON of unknown origin. Return False if it is invalid or known."""
        try:
            partial = PartialImage.model_validate(payload)
        except ValidationError:
            return False
        is_known = any(
            (known.attempt_id, known.index) == (partial.attempt_id, partial.index)
            for known in self._published
        )
        if is_known or partial.index not in range(MAX_PARTIAL_IMAGES) or len(self._published) >= _MAX_IMAGES:
            return False
        if len(partial.model_dump_json()) > _MAX_JSON:
            return False
        self._published.append(partial)
        self._topic.publish(partial)
        return True

    @property
    def latest(self) -> tuple[PartialImage, ...]:
        """The partial images of the attempt that sent the last one."""
        attempt_id = self._published[-1].attempt_id if self._published else None
        return tuple(partial for partial in self._published if partial.attempt_id == attempt_id)

    def close(self) -> None:
        """End the stream and release its subscribers."""
        self._stream.detach_pollers()
