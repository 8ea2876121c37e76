"""A streamed answer, read event by event: partial pictures are shown at once, the finished one is the answer.

Source of OpenAI's own events: openai-python 3.54.0, types/image_gen_stream_event.py. Those of others, and which event
is the finished picture: `imaging.stream_events`.
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import openai

from imaging.calls import PartialPicture
from imaging.classify import classify_error_event
from imaging.error_bodies import read_provider_request_id
from imaging.errors import AnswerLost, ProviderFailure
from imaging.sdk import hide_key
from imaging.stream_events import ErrorEvent, EventSplitter, StreamEvent, StreamReading

Show = Callable[[PartialPicture], None]
"""What is done with a partial picture. It must not wait for anything: the finished picture is behind it."""


class StreamedAnswer:
    """One stream. `shown` counts its partial pictures, `wanted` the finished ones that were asked for."""

    def __init__(self, response: httpx2.Response, show: Show, wanted: int = 1) -> None:
        self.response = response
        self.shown = 0
        self._show = show
        self._reading = StreamReading(wanted)
        self._splitter = EventSplitter()
        self._others: list[bytes] = []

    async def read(self) -> bytes:
        """Read to the finished picture, else to the end.

        Returns the body that the same request would have had without streaming. A stream that came whole without a
        finished picture is returned as the text that it is, without its partial pictures: it is not sent again, and what
        it says is kept.

        Raises:
            Exception: whatever the SDK raises, or `ErrorEvent`; see `describe_break`.
        """
        splitter = self._splitter
        async for piece in self.response.aiter_bytes():
            for event in splitter.feed(piece):
                self._take(event)
                if self._reading.is_complete:
                    return await asyncio.to_thread(self._write_body)
        for event in splitter.close():
            self._take(event)
        return await asyncio.to_thread(self._write_body)

    async def rescue(self) -> bytes | None:
        """The body of a stream that broke after a finished picture had come, None where none had."""
        return await asyncio.to_thread(self._write_body) if self._reading.has_finished else None

    def describe_break(self, error: Exception, key: str) -> ProviderFailure:
        """The failure that the end of this stream is. Its answer had begun, so whatever broke may have been paid."""
        request_id = read_provider_request_id(self.response.headers)
        known: dict[str, Any] = {
            "http_status": self.response.status_code,
            "provider_request_id": request_id,
        }
        if isinstance(error, ErrorEvent):
            body = hide_key(json.dumps({"error": _find_error(error.body)}).encode(), key)
            return classify_error_event(body, self.response.headers, shown=self.shown, now=datetime.now(UTC))
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
        return AnswerLost(detail=f"{type(cause).__name__} {self._when()}", **known)

    def _take(self, event: StreamEvent) -> None:
        partial = self._reading.take(event)
        if partial is not None:
            self._show_partial(partial)
            self._others.append(_write_event(str(partial.get("type") or event.name), b"{}"))
        elif not self._reading.has_finished:
            self._others.append(_write_event(event.name, event.data))

    def _show_partial(self, event: dict[str, Any]) -> None:
        encoded = event.get("b64_json")
        # Counted here: the index that it carries is somebody else's word.
        self._show(PartialPicture(index=self.shown, encoded=encoded if isinstance(encoded, str) else ""))
        self.shown += 1

    def _write_body(self) -> bytes:
        answer = self._reading.write_answer()
        if answer is not None:
            return json.dumps(answer).encode()
        return b"".join(self._others) or bytes(self._splitter.stray)

    def _when(self) -> str:
        if not self.shown:
            return "before the first picture"
        return f"after {self.shown} partial picture{'s' if self.shown > 1 else ''}"


def is_stream(response: httpx2.Response) -> bool:
    """Whether an answer is a stream: some gateways answer as a whole, whatever was asked."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def _write_event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode("utf-8", "replace"), data.replace(b"\n", b"\ndata: "))


def _find_error(body: Any) -> Any:
    """The error, which some put into an event of its own and some into its field `error`."""
    return body["error"] if isinstance(body, dict) and body.get("error") else body
