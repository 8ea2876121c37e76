"""Parse server-sent events and find the partial and the final images in them. Pure.

OpenAI names its events in `type`. Gateways use other names, only the `event:` line, or send the response of a request without
streaming in one event. Images and usage are accepted under any name.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gpt_image_runs.provider.json_decoding import read_json

_PARTIAL = {"image_generation.partial_image", "image_edit.partial_image"}
_COMPLETED = {"image_generation.completed", "image_edit.completed"}
_NAMED_PARTIAL = re.compile(r"partial|chunk|preview|progress", re.IGNORECASE)
_NAMED_COMPLETED = re.compile(r"complete|final|finish|done|result", re.IGNORECASE)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_END_MARK = b"[DONE]"
_MAX_NAMES = 20
_MAX_NAME = 64
_INTERIM = "No final image arrived, and the usage is that of a partial one: more may have been charged."


@dataclass(frozen=True)
class StreamEvent:
    """One event: the name on its `event:` line, and its data as received."""

    name: str
    data: bytes = field(repr=False)


class ErrorEvent(Exception):
    """The provider reported an error within the stream; `body` is the event as received."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__("error event")
        self.body = body


class EventSplitter:
    """Splits bytes into events, however the bytes are divided.

    `stray` collects lines outside of any event: some providers answer with JSON under a stream's content type.
    """

    def __init__(self) -> None:
        self.stray = bytearray()
        self._line = bytearray()
        self._after_cr = False
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """Yield the events that this piece ends."""
        if self._after_cr and piece.startswith(b"\n"):
            piece, self._after_cr = piece[1:], False
        if not piece:
            return
        self._after_cr = piece.endswith(b"\r")
        start = 0
        for end in _LINE_END.finditer(piece):
            self._line += piece[start : end.start()]
            start = end.end()
            yield from self._end_line()
        self._line += piece[start:]

    def close(self) -> Iterator[StreamEvent]:
        """Yield an event at the end that no empty line follows: it may be the image."""
        yield from self._end_line()
        yield from self._end_event()

    def _end_line(self) -> Iterator[StreamEvent]:
        line = bytes(self._line)
        self._line.clear()
        if not line:
            yield from self._end_event()
            return
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name not in {b"", b"id", b"retry"}:
            self.stray += line + b"\n"

    def _end_event(self) -> Iterator[StreamEvent]:
        if self._data:
            yield StreamEvent(self._name, b"\n".join(self._data))
        self._name, self._data = "", []


class StreamReading:
    """Accumulates the events of one stream; `wanted` is how many final images were asked for."""

    def __init__(self, wanted: int = 1) -> None:
        self.names: list[str] = []
        self.ended = False
        self._wanted = wanted
        self._finished: list[dict[str, Any]] = []
        self._candidate: dict[str, Any] | None = None
        self._whole: dict[str, Any] | None = None
        self._usage: Any = None
        self._interim_usage: Any = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is worth waiting for."""
        if self.ended:
            return True
        if self._whole is not None:
            return self._whole.get("usage") is not None
        enough = len(self._finished) >= self._wanted
        return enough and any(event.get("usage") is not None for event in self._finished)

    @property
    def has_finished(self) -> bool:
        """Whether a final image arrived, or an event that says so."""
        return self._whole is not None or bool(self._finished)

    @property
    def is_usable(self) -> bool:
        """Whether what arrived so far is a response: a final image, or one followed by usage."""
        return self.has_finished or (self._candidate is not None and self._usage is not None)

    @property
    def reported(self) -> dict[str, Any] | None:
        """The usage that a stream without an image reports, in the form of a response; None if there is none.

        Usage of a partial image may be only a part of what is charged. It is marked so, and its bill is held.
        """
        if self._usage is not None:
            return _make_storable({"usage": self._usage})
        if self._interim_usage is not None:
            return _make_storable({"usage": self._interim_usage, "usage_problem": _INTERIM})
        return None

    def take(self, event: StreamEvent) -> dict[str, Any] | None:
        """Read one event. Return it if it is a partial image.

        Raises:
            ErrorEvent: it is an error.
        """
        if event.data.strip() == _END_MARK:
            self.ended = True
            return None
        payload = self._parse(event)
        if payload is None:
            return None
        kind = payload["type"] if isinstance(payload.get("type"), str) else event.name
        self._note(kind)
        whole = _find_whole(payload)
        self._note_usage(kind, payload)
        if whole is None and (kind == "error" or payload.get("error")):
            raise ErrorEvent(payload)
        if kind in _PARTIAL:
            return payload
        if whole is not None and not _is_preview(kind, payload):
            self._whole = whole
            return None
        return self._take_picture(kind, payload)

    def write_answer(self) -> dict[str, Any] | None:
        """Return the response that the same request would have had without streaming; None without a final image."""
        if self._whole is not None:
            told = self._whole.get("usage")
            return {**self._whole, "usage": self._usage if told is None else told}
        events = self._finished or ([self._candidate] if self._candidate else [])
        if not events:
            return None
        pictures = [{name: event[name] for name in ("b64_json", "url") if name in event} for event in events]
        rest = {name: value for name, value in events[-1].items() if name not in {"b64_json", "url"}}
        return {**rest, "data": pictures, **self._join_usage(events)}

    def _note_usage(self, kind: str, payload: dict[str, Any]) -> None:
        places = (payload, *payload.values())
        told = [place["usage"] for place in places if isinstance(place, dict) and place.get("usage")]
        if told and (kind in _PARTIAL or _is_preview(kind, payload)):
            self._interim_usage = told[0]
        elif told:
            self._usage = told[0]

    def _parse(self, event: StreamEvent) -> dict[str, Any] | None:
        try:
            payload = json.loads(event.data)
        except (ValueError, RecursionError):
            self._note(f"{event.name or 'event'} that is not JSON")
            return None
        return payload if isinstance(payload, dict) else None

    def _note(self, name: str) -> None:
        if len(self.names) < _MAX_NAMES:
            self.names.append(name[:_MAX_NAME] or "event without a name")

    def _take_picture(self, kind: str, payload: dict[str, Any]) -> dict[str, Any] | None:
        picture = _find_picture(payload)
        if kind in _COMPLETED:
            self._finished.append(picture or payload)
            return None
        if picture is None:
            return None
        if not _is_preview(kind, payload) and (
            picture.get("usage") is not None or _NAMED_COMPLETED.search(kind)
        ):
            self._finished.append(picture)
            return None
        if not _is_preview(kind, payload):
            self._candidate = picture
        return picture

    def _join_usage(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        told = [event["usage"] for event in events if event.get("usage") is not None]
        if len(told) > 1:
            # Whether each is a part or the total is not known: the bill is held, with all of them on it.
            return {"usage": told}
        usage = told[0] if told else self._usage
        return {} if usage is None else {"usage": usage}


def read_stream_body(body: bytes) -> StreamReading | None:
    """Parse a complete body as a stream; None if it is not one.

    Raises:
        ErrorEvent: it has an error and no final image.
    """
    splitter, reading = EventSplitter(), StreamReading()
    count = 0
    try:
        for event in (*splitter.feed(body), *splitter.close()):
            count += 1
            reading.take(event)
    except ErrorEvent as event:
        if not reading.is_usable:
            event.body = {**event.body, **(reading.reported or {})}
            raise
    return reading if count else None


def _make_storable(reported: dict[str, Any]) -> dict[str, Any] | None:
    try:
        found = read_json(json.dumps(reported).encode())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_stream_answer(reading: StreamReading) -> dict[str, Any] | None:
    """Return the response of a stream as `read_json` does.

    Raises:
        ValueError: its JSON cannot be stored.
    """
    answer = reading.write_answer()
    found = None if answer is None else read_json(json.dumps(answer).encode())
    return found if isinstance(found, dict) else None


def _is_preview(kind: str, payload: dict[str, Any]) -> bool:
    return kind not in _COMPLETED and ("partial_image_index" in payload or bool(_NAMED_PARTIAL.search(kind)))


def _find_whole(payload: dict[str, Any]) -> dict[str, Any] | None:
    """Find a response without streaming: the event itself, or one of its fields."""
    for place in (payload, *payload.values()):
        data = place.get("data") if isinstance(place, dict) else None
        if isinstance(data, list) and any(_has_picture(item) for item in data):
            return dict(place)
    return None


def _find_picture(payload: dict[str, Any]) -> dict[str, Any] | None:
    """Return the event's fields with the image among them, even if the image is in a field of its own."""
    if _has_picture(payload):
        return payload
    for name, value in payload.items():
        if _has_picture(value):
            return {**{other: rest for other, rest in payload.items() if other != name}, **value}
    return None


def _has_picture(value: Any) -> bool:
    return isinstance(value, dict) and any(
        isinstance(value.get(name), str) and value[name] for name in ("b64_json", "url")
    )
