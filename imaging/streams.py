"""A streamed answer, read event by event: partial pictures are shown at once, the finished one is the answer.

Only `image_generation.completed` and `image_edit.completed` tell the usage, so a stream without its last event is an
answer that was lost, however much of it came. Source: openai-python 3.54.0, types/image_gen_stream_event.py.
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import openai
from openai import AsyncStream

from imaging.calls import PartialPicture
from imaging.classify import classify_error_event
from imaging.error_bodies import read_provider_request_id
from imaging.errors import AnswerLost, MalformedAnswer, ProviderFailure
from imaging.sdk import hide_key

Show = Callable[[PartialPicture], None]
"""What is done with a partial picture. It must not wait for anything: the finished picture is behind it."""

_PARTIAL = {"image_generation.partial_image", "image_edit.partial_image"}
_COMPLETED = {"image_generation.completed", "image_edit.completed"}


class ErrorEvent(Exception):
    """The provider reported an error within the stream; `body` is the error object as it came."""

    def __init__(self, body: Any) -> None:
        super().__init__("error event")
        self.body = body


class EndedEarly(Exception):
    """The stream ended in good order, but without its last event."""


class StreamedAnswer:
    """One stream. `shown` counts its partial pictures."""

    def __init__(self, response: httpx2.Response, show: Show) -> None:
        self.shown = 0
        self._response = response
        self._show = show

    async def read(self, stream: AsyncStream[object]) -> bytes:
        """The body that the same request would have had without streaming: JSON with the picture in `data`.

        Raises:
            Exception: whatever the SDK raises, `ErrorEvent` or `EndedEarly`; see `describe_break`.
        """
        async with stream:
            async for event in stream:
                kind = event.get("type") if isinstance(event, dict) else None
                if not isinstance(event, dict) or not isinstance(kind, str):
                    continue
                if kind in _COMPLETED:
                    return await asyncio.to_thread(_write_body, event)
                if kind in _PARTIAL:
                    self._show_partial(event)
                elif kind == "error":
                    raise ErrorEvent(event)
        raise EndedEarly

    def describe_break(self, error: Exception, key: str) -> ProviderFailure:
        """The failure that the end of this stream is. Its answer had begun, so whatever broke may have been paid."""
        request_id = read_provider_request_id(self._response.headers)
        known: dict[str, Any] = {
            "http_status": self._response.status_code,
            "provider_request_id": request_id,
        }
        if isinstance(error, ErrorEvent) or type(error) is openai.APIError:
            body = hide_key(json.dumps({"error": _find_error(error.body)}).encode(), key)
            return classify_error_event(body, self._response.headers, shown=self.shown, now=datetime.now(UTC))
        if isinstance(error, EndedEarly):
            return AnswerLost(detail=f"the stream ended {self._when()}, without the finished one", **known)
        if isinstance(error, ValueError | RecursionError):
            return MalformedAnswer(detail=f"its stream has an event that is no JSON, {self._when()}", **known)
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
        return AnswerLost(detail=f"{type(cause).__name__} {self._when()}", **known)

    def _show_partial(self, event: dict[str, Any]) -> None:
        encoded = event.get("b64_json")
        # Counted here: the index that it carries is somebody else's word.
        self._show(PartialPicture(index=self.shown, encoded=encoded if isinstance(encoded, str) else ""))
        self.shown += 1

    def _when(self) -> str:
        if not self.shown:
            return "before the first picture"
        return f"after {self.shown} partial picture{'s' if self.shown > 1 else ''}"


def is_stream(response: httpx2.Response) -> bool:
    """Whether an answer is a stream: some gateways answer as a whole, whatever was asked."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def _find_error(body: Any) -> Any:
    """The error object, which some put into an event of its own and some into its field `error`."""
    return body["error"] if isinstance(body, dict) and isinstance(body.get("error"), dict) else body


def _write_body(completed: dict[str, Any]) -> bytes:
    rest = {name: value for name, value in completed.items() if name != "b64_json"}
    picture = {"b64_json": completed["b64_json"]} if "b64_json" in completed else {}
    return json.dumps({**rest, "data": [picture]}).encode()
