"""What the simulator refuses, as the provider's error body, and what keeps the simulator itself from starting.

Exception
+-- ApiError        a request is answered with an error: status, headers and body
+-- StartupError    the simulator cannot start; the message says what to do
"""

from collections.abc import Mapping
from typing import Any

SCHEMA_ERROR = "invalid_request_error"
IMAGE_ERROR = "image_generation_user_error"


class StartupError(Exception):
    """The simulator cannot start."""


class ApiError(Exception):
    """An answer with an error status. `details` are further fields of the error object."""

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
    """A request that is not well-formed: 400 `invalid_request_error`."""
    return ApiError(400, message, code=code, param=param)


def refuse_for_model(param: str, code: str, message: str) -> ApiError:
    """A request that the model cannot carry out: 400 `image_generation_user_error`."""
    return ApiError(400, message, error_type=IMAGE_ERROR, code=code, param=param)
