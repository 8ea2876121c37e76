"""Read request headers, build response headers, and define the API's errors."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

SCHEMA_ERROR = "invalid_request_error"
IMAGE_ERROR = "image_generation_user_error"


class StartupError(Exception):
    """The simulator cannot start."""


class ApiError(Exception):
    """An error response. `details` are further fields of the error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_type: str = SCHEMA_ERROR,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        self.body = {
            "error": {
                "message": message,
                "type": error_type,
                "param": param,
                "code": code,
                **(details or {}),
            }
        }


def refuse(param: str, code: str, message: str) -> ApiError:
    """Build a 400 `invalid_request_error` for a request that is not well-formed."""
    return ApiError(400, message, code=code, param=param)


def refuse_for_model(param: str, code: str, message: str) -> ApiError:
    """Build a 400 `image_generation_user_error` for a request that the model cannot serve."""
    return ApiError(400, message, error_type=IMAGE_ERROR, code=code, param=param)


_MAX_CLIENT_REQUEST_ID_LENGTH = 512
_RATE_LIMITS = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "100000",
    "x-ratelimit-remaining-tokens": "95000",
    "x-ratelimit-reset-tokens": "3s",
}


def check_key(request: web.Request) -> None:
    """Check that the request has an API key. Any is accepted but "invalid" and "sk-invalid...".

    Raises:
        ApiError: 401 `invalid_api_key`.
    """
    key = read_key(request)
    if not key:
        raise ApiError(
            401, "No API key provided. Send it as 'Authorization: Bearer KEY'.", code="invalid_api_key"
        )
    if key == "invalid" or key.startswith("sk-invalid"):
        raise ApiError(401, f"Incorrect API key provided: {key[:10]}***.", code="invalid_api_key")


def read_key(request: web.Request) -> str:
    """Return the API key of a request, or an empty string."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def get_key_id(request: web.Request) -> str:
    """Return the id that stands for a key in the books and in usage reports, a hash of the key."""
    return f"key_{hashlib.sha256(read_key(request).encode()).hexdigest()[:16]}"


def read_project(request: web.Request) -> str:
    """Return the project in the request's header, or the default project."""
    return request.headers.get("OpenAI-Project") or "proj_simulator"


def read_client_request_id(request: web.Request) -> str | None:
    """Return the request's `X-Client-Request-Id`, or None.

    Raises:
        ApiError: 400, it is not ASCII or is longer than 512 characters.
    """
    client_request_id = request.headers.get("X-Client-Request-Id")
    if client_request_id is None:
        return None
    if not client_request_id.isascii() or len(client_request_id) > _MAX_CLIENT_REQUEST_ID_LENGTH:
        message = (
            f"X-Client-Request-Id must be ASCII and at most {_MAX_CLIENT_REQUEST_ID_LENGTH} characters long."
        )
        raise refuse("X-Client-Request-Id", "invalid_value", message)
    return client_request_id


def build_headers(request_id: str, started: float) -> dict[str, str]:
    """Build the headers of a response. `started` is the monotonic time when the request arrived."""
    return {
        "x-request-id": request_id,
        "openai-organization": "simulator",
        "openai-processing-ms": str(round((time.monotonic() - started) * 1000)),
        "x-simulated": "true",
        **_RATE_LIMITS,
    }
