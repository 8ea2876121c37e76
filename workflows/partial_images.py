"""What a run tells of pictures that are not finished yet: to whoever subscribes to its workflow stream, and to its status."""

from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.contrib.workflow_streams import WorkflowStream

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.images import PartialImage
from gpt_image_runs.contracts.request import MAX_PARTIAL_IMAGES

_PUBLISH = "__temporal_workflow_stream_publish"
_MAX_IN_ALL = 60
"""Of a run, however often it was sent: each is kept until its end, for those who subscribe late."""
_LONGEST = 4_000
"""Characters of one as JSON, twice what ours has: an answer to a subscriber that the server refuses would stop the run."""


class PartialImages:
    """The stream of one run. Only references are in it, and nothing of it is a command of the workflow."""

    def __init__(self) -> None:
        self._stream = WorkflowStream()
        # Only the run itself publishes: what others would send there, the stream believes without a look at it.
        workflow.set_signal_handler(_PUBLISH, None)
        self._topic = self._stream.topic(names.TOPIC_PARTIAL_IMAGES, type=PartialImage)
        self._published: list[PartialImage] = []

    def publish(self, payload: Any) -> bool:
        """Tells a `PartialImage` on, in parsed JSON that anybody may have sent; whether it was one, and news."""
        try:
            partial = PartialImage.model_validate(payload)
        except ValidationError:
            return False
        is_known = any(
            (known.attempt_id, known.index) == (partial.attempt_id, partial.index)
            for known in self._published
        )
        if is_known or partial.index not in range(MAX_PARTIAL_IMAGES) or len(self._published) >= _MAX_IN_ALL:
            return False
        if len(partial.model_dump_json()) > _LONGEST:
            return False
        self._published.append(partial)
        self._topic.publish(partial)
        return True

    @property
    def latest(self) -> tuple[PartialImage, ...]:
        """Those of the attempt that was heard of last."""
        attempt_id = self._published[-1].attempt_id if self._published else None
        return tuple(partial for partial in self._published if partial.attempt_id == attempt_id)

    def close(self) -> None:
        """The run ends: those who wait for more are let go of."""
        self._stream.detach_pollers()
