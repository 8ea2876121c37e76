"""The span of a request to the provider, by OpenTelemetry's conventions for HTTP and for generative AI.

It has no attributes with the prompt or images, and no trace header is sent to the provider.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.contracts.calls import CallInput
from gpt_image_runs.observability.tracing import calling
from gpt_image_runs.provider.calls import RawAnswer
from gpt_image_runs.provider.errors import ProviderFailure

_PATHS = {"generate": "/images/generations", "edit": "/images/edits"}
_PORTS = {"http": 80, "https": 443}


@contextmanager
def provider_span(
    call: CallInput, attempt: Attempt, *, provider: str, address: str
) -> Iterator[Callable[[RawAnswer], None]]:
    """Open a span for an attempt that is sent to the base URL `address`.

    The block calls what is yielded with the answer.
    """
    server = urlsplit(address)
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "server.address": server.hostname or "",
        "server.port": server.port or _PORTS.get(server.scheme, 0),
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": call.model,
        "gen_ai.request.choice.count": call.request.image_count,
        "gpt_image.attempt_id": attempt.attempt_id,
        "gpt_image.attempt_number": attempt.number,
    }
    with calling(f"POST {_PATHS[call.request.operation]}", attributes) as note:

        def note_answer(raw: RawAnswer) -> None:
            note(_response_attributes(raw.http_status, raw.provider_request_id))

        try:
            yield note_answer
        except ProviderFailure as failure:
            note(_response_attributes(failure.http_status, failure.provider_request_id))
            note({"error.type": type(failure).__name__, "gpt_image.outcome": failure.outcome})
            raise


def _response_attributes(http_status: int | None, provider_request_id: str | None) -> dict[str, str | int]:
    attributes = {
        "http.response.status_code": http_status,
        "gpt_image.provider_request_id": provider_request_id,
    }
    return {name: value for name, value in attributes.items() if value is not None}
