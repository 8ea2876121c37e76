"""The faults that can be asked for: their kinds, their options, and how they are written down.

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
    """Every kind: its name, what it does, and its options, the main one first."""

    description: str
    options: tuple[str, ...]

    def __new__(cls, name: str, description: str, *options: str) -> Self:
        kind = object.__new__(cls)
        kind._value_ = name
        kind.description = description
        kind.options = options
        return kind

    RATE_LIMITED = "rate_limited", "429, with the time to wait in a header of choice", "seconds", "header"
    SLOW_DOWN = "slow_down", "429: this project grows too fast", "seconds", "header"
    INSUFFICIENT_QUOTA = "insufficient_quota", "429: no money left, in the words of a code of choice", "code"
    BILLING_HARD_LIMIT = "billing_hard_limit", "400: the account's hard limit has been reached"
    MODERATION_BLOCKED = "moderation_blocked", "400: refused by the safety system"
    INVALID_API_KEY = "invalid_api_key", "401: the key is not known"
    NOT_VERIFIED = "not_verified", "403: the organisation is not verified, recognisable by its message only"
    MODEL_NOT_FOUND = "model_not_found", "404: the model has been retired"
    NO_ACCESS_MODEL = "no_access_model", "403: the project may not use the model"
    SERVER_ERROR = "server_error", "500, nothing paid"
    OVERLOADED = "overloaded", "503, nothing paid"
    BAD_GATEWAY = "bad_gateway", "502 with an HTML page, paid or not", "paid"
    GATEWAY_TIMEOUT = "gateway_timeout", "504 with an HTML page, paid or not", "paid"
    CONFLICT = "conflict", "409, nothing paid"
    UNPROCESSABLE = "unprocessable", "422, nothing paid"
    REQUEST_TIMEOUT = "request_timeout", "408, nothing paid"
    ERROR_IN_SUCCESS = "error_in_success", "200 with an error object, nothing paid", "error"
    RESET_BEFORE = "reset_before", "the connection is reset before anything is paid"
    RESET_AFTER_PAYMENT = "reset_after_payment", "paid, then the connection is reset without an answer"
    HANG = "hang", "paid, and no answer until the client goes away"
    TRUNCATED = "truncated", "paid; half of the body, then the connection ends"
    REDIRECT = "redirect", "paid; 307 to the same address: a client that follows pays twice"
    MALFORMED_JSON = "malformed_json", "paid; 200 with a body that is no JSON but says it is"
    PLAIN_TEXT = "plain_text", "paid; 200 with plain text"
    NO_DATA = "no_data", "paid; JSON without the pictures"
    BAD_BASE64 = "bad_base64", "paid; pictures that cannot be decoded from base64"
    NOT_AN_IMAGE = "not_an_image", "paid; base64 of something that is no picture"
    WRONG_FORMAT = "wrong_format", "paid; pictures in another format than asked"
    WRONG_COUNT = "wrong_count", "paid; one picture fewer than asked"
    ODD_BASE64 = "odd_base64", "paid; pictures in base64 as gateways write it", "spelling"
    URL_ONLY = "url_only", "paid; a url that leads nowhere in place of each picture"
    LOST_PICTURE = "lost_picture", "paid; something else in place of the last picture", "instead"
    MISSING_USAGE = "missing_usage", "paid; no usage in the answer"
    NULL_USAGE = "null_usage", "paid; usage is null"
    ZERO_USAGE = "zero_usage", "paid; usage says that nothing was used"
    PARTIAL_USAGE = "partial_usage", "paid; one field of usage is missing", "field"
    SPARSE_USAGE = (
        "sparse_usage",
        "paid; usage has one count, and neither the named one nor anything else",
        "field",
    )
    MIXED_USAGE = "mixed_usage", "paid; usage has its counts under chat names, beside zeros under its own"
    MALFORMED_USAGE = "malformed_usage", "paid; output_tokens (or all of usage) is of a wrong form", "form"
    OVERSIZE_USAGE = "oversize_usage", "paid; usage holds 3 MB in a field that nobody knows"
    DELAY = "delay", "the answer takes longer", "delay_seconds"
    STREAM_BROKEN = "stream_broken", "paid; a stream's connection ends after so many events", "events"
    STREAM_ENDED = "stream_ended", "paid; a stream ends in good order after so many events", "events"
    STREAM_STALLED = "stream_stalled", "paid; a stream is silent after so many events", "events"
    STREAM_ERROR = (
        "stream_error",
        "a stream's error after so many events, paid or not",
        "events",
        "error",
        "paid",
    )
    STREAM_MALFORMED = (
        "stream_malformed",
        "paid; after so many events of a stream comes one that is no JSON",
        "events",
    )
    STREAM_IGNORED = "stream_ignored", "paid; an answer as a whole, although a stream was asked for"
    STREAM_DIALECT = "stream_dialect", "paid; a stream as gateways write it", "dialect"
    FEWER_PARTIALS = "fewer_partials", "paid; a stream with one partial picture fewer than asked, and billed"
    BAD_PARTIAL = "bad_partial", "paid; a stream whose first partial picture is none"


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
    """One fault with its options. Every kind takes `delay_seconds`; the others only where the kind names them."""

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
        strange = self.model_fields_set - {"kind", "delay_seconds", *self.kind.options}
        if strange:
            raise ValueError(f"{self.kind.value} has no option {', '.join(sorted(strange))}")
        return self


def parse_fault(text: str) -> Fault:
    """A fault as written in a prompt, without the brackets: "delay=5" or "rate_limited,seconds=2,header=none".

    Raises:
        ValueError: no such kind or option, or a value that the option does not take.
    """
    head, *rest = (part.strip() for part in text.split(","))
    name, has_value, value = head.partition("=")
    known = {kind.value: kind for kind in FaultKind}
    if name not in known:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(known)}")
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
    """The fault that a prompt asks for, with all of its delays; None if it asks for none.

    Raises:
        ValueError: as `parse_fault`, or the prompt asks for two faults that are more than a delay.
    """
    faults = [parse_fault(token) for token in _TOKEN.findall(prompt)]
    if not faults:
        return None
    more_than_delays = [fault for fault in faults if fault.kind is not FaultKind.DELAY]
    if len(more_than_delays) > 1:
        raise ValueError(f"a request has one fault besides its delay, not {len(more_than_delays)}")
    delay_seconds = sum(fault.delay_seconds for fault in faults)
    return (more_than_delays or faults)[0].model_copy(update={"delay_seconds": delay_seconds})


def strip_fault(prompt: str) -> str:
    """The prompt without what it asks of the simulator: this is what is drawn."""
    return _TOKEN.sub("", prompt).strip()


def describe_problems(error: ValidationError) -> str:
    """What pydantic found, as one sentence."""
    parts = (
        f"{'.'.join(str(part) for part in problem['loc']) or 'fault'}: {problem['msg']}"
        for problem in error.errors()
    )
    return "; ".join(parts)


class Scripted(NamedTuple):
    """A fault that waits for the next request whose prompt contains `match` (None: any request)."""

    fault: Fault
    match: str | None


class FaultScript:
    """A queue of faults, each for one request, first in first out, and a die for random ones."""

    def __init__(self, rates: Mapping[str, float], seed: int) -> None:
        """`rates` are probabilities by a fault as it is written in a prompt, such as {"server_error": 0.1}.

        Raises:
            StartupError: a rate is no probability, or names no fault.
        """
        self._queue: list[Scripted] = []
        self._dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._rates = _read_rates(rates)

    @property
    def queued(self) -> tuple[Scripted, ...]:
        """What is still waiting."""
        return tuple(self._queue)

    def add(self, faults: Iterable[Fault], match: str | None) -> None:
        """Scripts faults for the next matching requests, one each."""
        self._queue.extend(Scripted(fault, match) for fault in faults)

    def clear(self) -> None:
        """Forgets what is still waiting."""
        self._queue.clear()

    def take_for(self, prompt: str) -> Fault | None:
        """The fault of one request, None if all goes well; a scripted one is used up.

        Raises:
            ValueError: the prompt asks for a fault that does not exist.
        """
        asked_for = find_fault(prompt)
        if asked_for:
            return asked_for
        for index, scripted in enumerate(self._queue):
            if scripted.match is None or scripted.match in prompt:
                del self._queue[index]
                return scripted.fault
        return self._roll()

    def _roll(self) -> Fault | None:
        chance = self._dice.random()
        for fault, rate in self._rates:
            if chance < rate:
                return fault
            chance -= rate
        return None


def read_fault(fault: Fault | FaultKind | str) -> Fault:
    """A fault from any spelling: itself, its kind, or its text as in a prompt."""
    if isinstance(fault, Fault):
        return fault
    return Fault(kind=fault) if isinstance(fault, FaultKind) else parse_fault(fault)


def _read_rates(rates: Mapping[str, float]) -> list[tuple[Fault, float]]:
    if any(not 0 <= rate <= 1 for rate in rates.values()) or sum(rates.values()) > 1:
        raise StartupError(
            f"The fault rates {dict(rates)} are no probabilities: each 0 to 1, together at most 1."
        )
    try:
        return [(parse_fault(text), rate) for text, rate in rates.items()]
    except ValueError as error:
        raise StartupError(f"The fault rates name no fault: {error}.") from error
