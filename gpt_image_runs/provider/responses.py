"""Parse the provider's response into images and everything that explains their bill. Pure, but takes a core's time:
decoding megabytes belongs in a thread.
"""

import asyncio
import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx2
import openai

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.formats import NotAPicture, verify_picture
from gpt_image_runs.provider.body_limits import find_usage
from gpt_image_runs.provider.calls import PartialPicture, RawAnswer
from gpt_image_runs.provider.error_mapping import (
    classify_error_event,
    classify_error_in_success,
    is_refusal_of_content,
    read_error,
    read_provider_request_id,
)
from gpt_image_runs.provider.errors import (
    MAX_RAW_BODY,
    AnswerLost,
    MalformedAnswer,
    OutputRefused,
    ProviderFailure,
)
from gpt_image_runs.provider.json_decoding import read_json
from gpt_image_runs.provider.sdk import hide_key
from gpt_image_runs.provider.stream_events import (
    ErrorEvent,
    EventSplitter,
    StreamEvent,
    StreamReading,
    read_stream_answer,
    read_stream_body,
)

_MAX_OPTION = 64
# No request asks for more pictures than this: of an answer that lists thousands, no more are fetched or explained.
_MAX_EXPLAINED = 10
# The characters of the URL-safe alphabet, as the standard one has them.
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


@dataclass(frozen=True, kw_only=True)
class AnsweredPicture:
    """One image of a response: its bytes, or `problem`, which says why there are none.

    `url` is where the bytes can be fetched, if the response has nothing else. `withheld` means that a content filter removed it.
    """

    data: bytes | None = field(default=None, repr=False)
    problem: str | None = None
    url: str | None = None
    withheld: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A parsed response.

    `items` are the images that the response lists, at least one of them usable or to be fetched. `requested` is how many
    were asked for. `response` is the complete JSON without the images' data, unknown fields included; `usage` is that field
    of it, unchanged. `size`, `quality`, `background` and `output_format` are the effective ones, None if neither the response nor
    the request names them.
    """

    items: tuple[AnsweredPicture, ...]
    requested: int
    response: dict[str, Any] = field(repr=False)
    usage: Any
    size: str | None
    quality: str | None
    background: str | None
    output_format: str | None

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """The usable images, in the order of the response."""
        return tuple(item.data for item in self.items if item.data is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why each of the other images is not usable, at most ten."""
        found = [item.problem for item in self.items if item.problem is not None]
        more = len(found) - _MAX_EXPLAINED
        return (*found[:_MAX_EXPLAINED], *([f"and {more} more"] if more > 0 else []))

    @property
    def shortfall(self) -> str | None:
        """A sentence for the operator if the images differ from those asked for, otherwise None."""
        delivered = len(self.pictures)
        if delivered == self.requested and not self.problems:
            return None
        asked = "1 picture was" if self.requested == 1 else f"{self.requested} pictures were"
        reasons = f": {'; '.join(self.problems)}" if self.problems else ""
        return f"{asked} asked for and {delivered} delivered{reasons}. The bill follows the provider's usage."


def read_answer(raw: RawAnswer, request: ImageRequest) -> Answer:
    """Read a 2xx answer to a request. Nothing is fetched here.

    Raises:
        ProviderFailure: it holds no picture that can be decoded: `MalformedAnswer`, or what the error in it says.
    """
    if not raw.body.strip():
        raise _malformed(raw, "it is empty")
    try:
        response = read_json(raw.body)
    except ValueError as error:
        response = _read_stream(raw, f"it is not JSON ({error})")
    return read_response(raw, response, request)


def read_response(raw: RawAnswer, response: Any, request: ImageRequest) -> Answer:
    """Read the JSON of an answer and take the pictures out of it; `raw` is for the message where it cannot be used.

    Raises:
        ProviderFailure: as `read_answer`.
    """
    if not isinstance(response, dict):
        raise _malformed(raw, "it is not a JSON object")
    items = tuple(_read_item(index, item) for index, item in enumerate(_take_items(response)))
    answer = Answer(
        items=items,
        requested=request.image_count,
        response=response,
        usage=response.get("usage"),
        size=_effective(response, "size", request.size),
        quality=_effective(response, "quality", request.quality),
        background=_effective(response, "background", request.background),
        output_format=_effective(response, "output_format", request.output_format),
    )
    return answer if any(item.url for item in items) else require_pictures(raw, answer)


def require_pictures(raw: RawAnswer, answer: Answer) -> Answer:
    """Return the answer if it has at least one picture that can be used.

    Raises:
        ProviderFailure: it has none; `MalformedAnswer` unless the answer says why.
    """
    if answer.pictures:
        return answer
    error = read_error(answer.response)
    if answer.response.get("error") and not answer.items and answer.usage is None:
        raise classify_error_in_success(error, raw.headers, raw.body)
    detail = "; ".join(answer.problems) or "its field data is not a list of images"
    is_withheld = answer.items and all(item.withheld for item in answer.items)
    kind = OutputRefused if is_withheld or is_refusal_of_content(error) else MalformedAnswer
    raise _describe_failure(kind, raw, detail, answer.response)


async def resolve_links(
    answer: Answer, fetch: Callable[[str], Awaitable[bytes]], failure: type[Exception]
) -> Answer:
    """Return the answer with the pictures that it only links to; `failure` is what `fetch` raises where it cannot."""
    linked = [index for index, item in enumerate(answer.items) if item.url][:_MAX_EXPLAINED]

    async def resolve(index: int, item: AnsweredPicture) -> AnsweredPicture:
        if item.url is None or index not in linked:
            return item
        try:
            return AnsweredPicture(data=await fetch(item.url))
        except failure as error:
            return AnsweredPicture(problem=f"data[{index}] has only a url, and {error}")

    items = await asyncio.gather(*(resolve(index, item) for index, item in enumerate(answer.items)))
    return dataclasses.replace(answer, items=tuple(items))


def check_pictures(raw: RawAnswer, answer: Answer) -> Answer:
    """Return the answer without the bytes that cannot be decoded as a picture. They do not affect the others.

    Raises:
        ProviderFailure: no picture is left.
    """
    items = tuple(_verify(index, item) for index, item in enumerate(answer.items))
    return require_pictures(raw, dataclasses.replace(answer, items=items))


def _verify(index: int, item: AnsweredPicture) -> AnsweredPicture:
    if item.data is None:
        return item
    try:
        verify_picture(item.data)
    except NotAPicture as error:
        return AnsweredPicture(problem=f"data[{index}] is not an image: {error}")
    return item


def decode_base64(text: str) -> bytes:
    """Decode base64 as gateways write it.

    Accepts line ends and blanks anywhere, missing padding, the URL-safe alphabet, and a `data:` URI around it, in any
    case and with any parameters.

    Raises:
        ValueError: it cannot be base64 in any of these spellings, or there is nothing in it.
    """
    text = text.strip()
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
        if "%" in text:
            text = unquote(text)
    text = "".join(text.split())
    # Some escape a line end twice, so that it arrives as a backslash and a letter.
    text = text.replace("\\r", "").replace("\\n", "").translate(_STANDARD_ALPHABET).rstrip("=")
    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not data:
        raise ValueError("nothing is encoded")
    return data


def _read_stream(raw: RawAnswer, problem: str) -> Any:
    """Read a body that is a stream of events: one that ended without a finished picture, or is not labelled as one."""
    try:
        reading = read_stream_body(raw.body)
        answer = reading and read_stream_answer(reading)
    except ErrorEvent as event:
        return event.body
    except ValueError:
        reading = answer = None
    if reading is None:
        raise _malformed(raw, problem)
    if answer is None:
        events = f", only {', '.join(reading.names)}" if reading.names else ""
        raise _malformed(raw, f"its stream is complete, but has no final image{events}", reading.reported)
    return answer


def _take_items(response: dict[str, Any]) -> list[Any]:
    """Return what stands for each picture, and remove the pictures' data from the response.

    The response keeps the other fields of each item.
    """
    data = response.get("data")
    if isinstance(data, dict):
        data = response["data"] = [data]  # a gateway that has unwrapped the list of one
    if not isinstance(data, list):
        # A stream's last event has its picture beside the usage, and some answer with that alone.
        encoded = response.pop("b64_json", None)
        return [{"b64_json": encoded}] if isinstance(encoded, str) else []
    taken: list[Any] = []
    for index, item in enumerate(data):
        if isinstance(item, str):
            taken.append({"b64_json": item})
            data[index] = {}
        elif isinstance(item, dict):
            taken.append(dict(item))
            item.pop("b64_json", None)
            if _is_data_uri(item.get("url")):
                del item["url"]
        else:
            taken.append(None)
    return taken


def _read_item(index: int, item: Any) -> AnsweredPicture:
    name = f"data[{index}]"
    if not isinstance(item, dict):
        return AnsweredPicture(problem=f"{name} has no b64_json")
    encoded: Any = item.get("b64_json")
    url = item.get("url")
    problem = f"{name} has no b64_json"
    if isinstance(encoded, str) and encoded.strip():
        problem = f"{name}.b64_json is not base64"
    elif _is_data_uri(url):
        encoded, problem = url, f"{name}.url is a data: URI that cannot be decoded"
    elif isinstance(url, str) and url.strip():
        return AnsweredPicture(problem=f"{name} has only a url, which was not fetched", url=url.strip())
    else:
        withheld = _describe_withheld(name, item)
        return AnsweredPicture(problem=withheld or problem, withheld=withheld is not None)
    try:
        return AnsweredPicture(data=decode_base64(encoded))
    except ValueError:
        link = url.strip() if isinstance(url, str) and not _is_data_uri(url) else None
        return AnsweredPicture(problem=problem, url=link or None)


def _describe_withheld(name: str, item: dict[str, Any]) -> str | None:
    """Describe an image that a content filter withheld, as Azure reports it; None if it was not withheld."""
    results = item.get("content_filter_results")
    if not isinstance(results, dict):
        return None
    filtered = [
        str(category)[:_MAX_OPTION]
        for category, result in results.items()
        if isinstance(result, dict) and result.get("filtered") is True
    ]
    shown = ", ".join(filtered[:_MAX_EXPLAINED])
    return f"{name} was withheld by the content filter ({shown})" if filtered else None


def _is_data_uri(url: Any) -> bool:
    return isinstance(url, str) and url.lstrip()[:5].lower() == "data:"


def _effective(response: dict[str, Any], name: str, requested: str | None) -> str | None:
    told = response.get(name)
    if isinstance(told, str) and 0 < len(told) <= _MAX_OPTION and told != "auto":
        return told
    return None if requested == "auto" else requested


def unreadable_answer(raw: RawAnswer, error: Exception) -> ProviderFailure:
    """Build the failure for a response that could not be read because of an internal error or lack of memory."""
    usage = find_usage(raw.body)
    response = None if usage is None else {"usage": usage}
    return _malformed(raw, f"reading it failed ({type(error).__name__})", response)


def _malformed(raw: RawAnswer, detail: str, response: dict[str, Any] | None = None) -> ProviderFailure:
    return _describe_failure(MalformedAnswer, raw, detail, response)


def _describe_failure(
    kind: type[ProviderFailure], raw: RawAnswer, detail: str, response: dict[str, Any] | None
) -> ProviderFailure:
    # Some gateways answer 200 with an error object.
    error = read_error(response)
    return kind(
        detail=detail,
        http_status=raw.http_status,
        provider_message=error.message,
        code=error.code,
        provider_type=error.type,
        provider_request_id=raw.provider_request_id,
        raw_body=raw.body[:MAX_RAW_BODY],
        response=response,
    )


# Called with each partial image. It must not block: the final image comes after it.
Show = Callable[[PartialPicture], None]


class StreamedAnswer:
    """One streamed response. `shown` counts its partial images, `wanted` the final images that were asked for."""

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
        """Return the body of a stream that broke after a final image had arrived; None if there is no such image."""
        return await asyncio.to_thread(self._write_body) if self._reading.is_usable else None

    def describe_break(self, error: Exception, key: str) -> ProviderFailure:
        """Build the failure for a stream that broke. Its response had begun, so it may have been charged.

        The failure's `response` has the usage that was reported before.
        """
        request_id = read_provider_request_id(self.response.headers)
        known: dict[str, Any] = {
            "http_status": self.response.status_code,
            "provider_request_id": request_id,
        }
        if isinstance(error, ErrorEvent):
            body = hide_key(json.dumps({"error": _find_error(error.body)}).encode(), key)
            failure = classify_error_event(
                body, self.response.headers, shown=self.shown, now=datetime.now(UTC)
            )
            failure.response = self.find_reported(key)
            return failure
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
        detail = f"{type(cause).__name__} {self._when()}"
        return AnswerLost(detail=detail, response=self.find_reported(key), **known)

    def find_reported(self, key: str) -> dict[str, Any] | None:
        """Return the usage that the events have reported so far, in the form of a response; None if there is none."""
        reported = self._reading.reported
        found = reported and read_json(hide_key(json.dumps(reported).encode(), key))
        return found if isinstance(found, dict) else None

    def _take(self, event: StreamEvent) -> None:
        partial = self._reading.take(event)
        if partial is not None:
            self._show_partial(partial)
            rest = {
                name: partial[name] for name in ("type", "partial_image_index", "usage") if name in partial
            }
            self._others.append(_write_event(event.name, json.dumps(rest).encode()))
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
    """Return whether a response is a stream. Some gateways never stream, even if asked to."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def _write_event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode("utf-8", "replace"), data.replace(b"\n", b"\ndata: "))


def _find_error(body: Any) -> Any:
    """Return the error: some providers send it as the event itself, some in its field `error`."""
    return body["error"] if isinstance(body, dict) and body.get("error") else body
