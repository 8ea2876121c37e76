"""Define the faults: their kinds, their options, and how they are written.

As JSON `{"kind": "rate_limited", "seconds": 2, "header": "http-date"}`, in a prompt
`[simulate:rate_limited,seconds=2,header=http-date]` or, for a kind's main option, `[simulate:delay=5]`.
"""

import random
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulator.http import StartupError

_TOKEN = re.compile(r"\[simulate:([^\[\]]*)\]")


class FaultKind(Enum):
    """A kind of fault: its name, what it does, and its options, the main one first."""

    description: str
    options: tuple[str, ...]

    def __new__(cls, name: str, description: str, *options: str) -> Self:
        kind = object.__new__(cls)
        kind._value_ = name
        kind.description = description
        kind.options = options
        return kind

    RATE_LIMITED = "rate_limited", "429, with the time to wait in the chosen header", "seconds", "header"
    SLOW_DOWN = "slow_down", "429: the project's traffic grows too fast", "seconds", "header"
    INSUFFICIENT_QUOTA = "insufficient_quota", "429: no money left, with the chosen error code", "code"
    BILLING_HARD_LIMIT = "billing_hard_limit", "400: the account's hard limit has been reached"
    MODERATION_BLOCKED = "moderation_blocked", "400: refused by the safety system"
    INVALID_API_KEY = "invalid_api_key", "401: unknown API key"
    NOT_VERIFIED = "not_verified", "403: the organization is not verified; only the message says so"
    MODEL_NOT_FOUND = "model_not_found", "404: the model has been retired"
    NO_ACCESS_MODEL = "no_access_model", "403: the project has no access to the model"
    SERVER_ERROR = "server_error", "500, not paid"
    OVERLOADED = "overloaded", "503, not paid"
    BAD_GATEWAY = "bad_gateway", "502 with an HTML page, paid or not", "paid"
    GATEWAY_TIMEOUT = "gateway_timeout", "504 with an HTML page, paid or not", "paid"
    CONFLICT = "conflict", "409, not paid"
    UNPROCESSABLE = "unprocessable", "422, not paid"
    REQUEST_TIMEOUT = "request_timeout", "408, not paid"
    ERROR_IN_SUCCESS = "error_in_success", "200 with an error object, not paid", "error"
    RESET_BEFORE = "reset_before", "the connection is reset before anything is paid"
    RESET_AFTER_PAYMENT = "reset_after_payment", "paid, then the connection is reset without a response"
    HANG = "hang", "paid, then no response until the client disconnects"
    TRUNCATED = "truncated", "paid; half of the body, then the connection closes"
    REDIRECT = "redirect", "paid; 307 to the same URL: a client that follows it pays twice"
    MALFORMED_JSON = "malformed_json", "paid; 200 with a JSON content type and a body that is not JSON"
    PLAIN_TEXT = "plain_text", "paid; 200 with plain text"
    NO_DATA = "no_data", "paid; JSON without the images"
    BAD_BASE64 = "bad_base64", "paid; images that are not valid base64"
    NOT_AN_IMAGE = "not_an_image", "paid; base64 of something that is not an image"
    WRONG_FORMAT = "wrong_format", "paid; images in another format than requested"
    WRONG_COUNT = "wrong_count", "paid; one image fewer than requested"
    ODD_BASE64 = "odd_base64", "paid; images in base64 as gateways write it", "spelling"
    URL_ONLY = "url_only", "paid; an unreachable URL instead of each image"
    LOST_PICTURE = "lost_picture", "paid; something else instead of the last image", "instead"
    MISSING_USAGE = "missing_usage", "paid; no usage in the response"
    NULL_USAGE = "null_usage", "paid; usage is null"
    ZERO_USAGE = "zero_usage", "paid; usage is all zeros"
    PARTIAL_USAGE = "partial_usage", "paid; one field of usage is missing", "field"
    SPARSE_USAGE = (
        "sparse_usage",
        "paid; usage has a single count, and it is not the named one",
        "field",
    )
    MIXED_USAGE = (
        "mixed_usage",
        "paid; usage has its counts under the chat API's names, and zeros under its own",
    )
    MALFORMED_USAGE = (
        "malformed_usage",
        "paid; output_tokens (or all of usage) has a wrong type or value",
        "form",
    )
    OVERSIZE_USAGE = "oversize_usage", "paid; usage has 3 MB in an unknown field"
    DELAY = "delay", "the response takes longer", "delay_seconds"
    STREAM_BROKEN = "stream_broken", "paid; the stream's connection breaks after `events` events", "events"
    STREAM_ENDED = "stream_ended", "paid; the stream ends normally after `events` events", "events"
    STREAM_STALLED = "stream_stalled", "paid; the stream stalls after `events` events", "events"
    STREAM_ERROR = (
        "stream_error",
        "the stream reports an error after `events` events, paid or not",
        "events",
        "error",
        "paid",
    )
    STREAM_MALFORMED = (
        "stream_malformed",
        "paid; the event after `events` events of the stream is not JSON",
        "events",
    )
    STREAM_IGNORED = "stream_ignored", "paid; a single response although a stream was requested"
    STREAM_DIALECT = "stream_dialect", "paid; a stream as gateways write it", "dialect"
    FEWER_PARTIALS = (
        "fewer_partials",
        "paid; a stream with one partial image fewer than requested, and billed so",
    )
    BAD_PARTIAL = "bad_partial", "paid; a stream whose first partial image is not valid"


QuotaCode = Literal[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
]
UsageField = Literal[
    "input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"
]
StreamErrorCode = Literal["image_generation_failed", "moderation_blocked", "rate_limit_exceeded"]
Base64Spelling = Literal["wrapped", "crlf", "newline", "url_safe", "unpadded", "data_uri", "data_uri_in_url"]
InsteadOfPicture = Literal["null", "filter", "damaged", "empty"]
StreamDialect = Literal["gateway", "wrapped", "event_line"]
UsageForm = Literal["negative", "string", "float", "bool", "absurd", "list"]


class Fault(BaseModel):
    """One fault with its options. Every kind takes `delay_seconds`; other options only if the kind lists them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    delay_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 1.0
    header: Literal["retry-after", "retry-after-ms", "http-date", "none"] = "retry-after"
    code: QuotaCode = "insufficient_quota"
    paid: bool = False
    field: UsageField = "output_tokens"
    form: UsageForm = "negative"
    dialect: StreamDialect = "gateway"
    spelling: Base64Spelling = "wrapped"
    instead: InsteadOfPicture = "null"
    events: Annotated[int, Field(ge=0, le=3)] = 0
    error: StreamErrorCode = "image_generation_failed"

    @model_validator(mode="after")
    def _check_options(self) -> "Fault":
        unknown = self.model_fields_set - {"kind", "delay_seconds", *self.kind.options}
        if unknown:
            raise ValueError(f"{self.kind.value} has no option {', '.join(sorted(unknown))}")
        return self


def parse_fault(text: str) -> Fault:
    """Parse a fault as written in a prompt: "delay=5" or "rate_limited,seconds=2,header=none".

    Raises:
        ValueError: the kind or an option is unknown, or a value is not valid.
    """
    head, *rest = (part.strip() for part in text.split(","))
    name, has_value, value = head.partition("=")
    known = {kind.value: kind for kind in FaultKind}
    if name not in known:
        raise ValueError(f"unknown fault {name!r}; known faults: {', '.join(known)}")
    options: dict[str, Any] = {"kind": name}
    if has_value:
        options[known[name].options[0] if known[name].options else "delay_seconds"] = value
    for part in rest:
        option, _, given = part.partition("=")
        options[option] = given
    try:
        return Fault.model_validate(options)
    except ValidationError as error:
        raise ValueError(describe_problems(error)) from error


def find_fault(prompt: str) -> Fault | None:
    """Return the fault that a prompt contains, with the sum of its delays, or None.

    Raises:
        ValueError: as `parse_fault`, or the prompt has two faults besides delays.
    """
    faults = [parse_fault(token) for token in _TOKEN.findall(prompt)]
    if not faults:
        return None
    other_faults = [fault for fault in faults if fault.kind is not FaultKind.DELAY]
    if len(other_faults) > 1:
        raise ValueError(f"a request takes at most one fault besides delays, not {len(other_faults)}")
    delay_seconds = sum(fault.delay_seconds for fault in faults)
    return (other_faults or faults)[0].model_copy(update={"delay_seconds": delay_seconds})


def strip_fault(prompt: str) -> str:
    """Return the prompt without its fault tokens: the text that is drawn."""
    return _TOKEN.sub("", prompt).strip()


def describe_problems(error: ValidationError) -> str:
    """Format pydantic's errors as one line."""
    parts = (
        f"{'.'.join(str(part) for part in problem['loc']) or 'fault'}: {problem['msg']}"
        for problem in error.errors()
    )
    return "; ".join(parts)


class Scripted(NamedTuple):
    """A fault for the next request whose prompt contains `match` (None: any request)."""

    fault: Fault
    match: str | None


class FaultScript:
    """A queue of faults, each for one request, first in first out, and random faults by their rates."""

    def __init__(self, rates: Mapping[str, float], seed: int) -> None:
        """Take probabilities by a fault as written in a prompt, such as {"server_error": 0.1}.

        Raises:
            StartupError: a rate is not a probability, or its fault is unknown.
        """
        self._queue: list[Scripted] = []
        self._rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._rates = _read_rates(rates)

    @property
    def queued(self) -> tuple[Scripted, ...]:
        """The faults that are still queued."""
        return tuple(self._queue)

    def add(self, faults: Iterable[Fault], match: str | None) -> None:
        """Queue faults for the next matching requests, one each."""
        self._queue.extend(Scripted(fault, match) for fault in faults)

    def clear(self) -> None:
        """Clear the queue."""
        self._queue.clear()

    def take_for(self, prompt: str) -> Fault | None:
        """Return the fault for one request, or None. A scripted fault is removed from the queue.

        Raises:
            ValueError: the prompt contains an unknown fault.
        """
        requested = find_fault(prompt)
        if requested:
            return requested
        for index, scripted in enumerate(self._queue):
            if scripted.match is None or scripted.match in prompt:
                del self._queue[index]
                return scripted.fault
        return self._roll()

    def _roll(self) -> Fault | None:
        chance = self._rng.random()
        for fault, rate in self._rates:
            if chance < rate:
                return fault
            chance -= rate
        return None


def read_fault(fault: Fault | FaultKind | str) -> Fault:
    """Return a fault from a `Fault`, its kind, or its text as in a prompt."""
    if isinstance(fault, Fault):
        return fault
    return Fault(kind=fault) if isinstance(fault, FaultKind) else parse_fault(fault)


def _read_rates(rates: Mapping[str, float]) -> list[tuple[Fault, float]]:
    if any(not 0 <= rate <= 1 for rate in rates.values()) or sum(rates.values()) > 1:
        raise StartupError(
            f"The fault rates {dict(rates)} are not valid: each must be 0 to 1, and their sum at most 1."
        )
    try:
        return [(parse_fault(text), rate) for text, rate in rates.items()]
    except ValueError as error:
        raise StartupError(f"The fault rates are not valid: {error}.") from error
