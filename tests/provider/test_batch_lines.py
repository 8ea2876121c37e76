"""Lines of batches: how a request is written, what is too large, and what a result says."""

import base64
import json
from typing import Any

import pytest

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.inputs import InputPicture, Inputs
from gpt_image_runs.provider import batch_files as batch_lines
from gpt_image_runs.provider import errors
from gpt_image_runs.provider.batch_files import check_fit, endpoint_of, read_result_line, write_request_line

NOTHING = Inputs((), None)
CUP = ImageRequest(model="gpt-image-1", prompt="A cup", size="1024x1024", n=2, tenant="acme")


def picture(data: bytes = b"\x89PNG", name: str = "images-0.png") -> InputPicture:
    return InputPicture(name, data, "image/png")


def read(**line: Any) -> Any:
    return read_result_line(json.dumps({"id": "batch_req_1", "custom_id": "run", **line}).encode())


def test_generation_line_has_the_body_of_a_single_request() -> None:
    """A line holds the id, the endpoint, and exactly the body that the request by itself would have: nothing of ours."""
    line = json.loads(write_request_line("image:acme:1", CUP, "gpt-image-2", NOTHING))

    assert line == {
        "custom_id": "image:acme:1",
        "method": "POST",
        "url": "/v1/images/generations",
        "body": {"model": "gpt-image-2", "prompt": "A cup", "size": "1024x1024", "n": 2},
    }


def test_edit_line_contains_its_images() -> None:
    """The pictures and the mask of an edit are data: URLs in the JSON body, each of the type that it is."""
    edit = CUP.model_copy(update={"images": ({"uri": "file:///a.png"},)})
    inputs = Inputs((picture(), InputPicture("images-1.jpg", b"JPEG", "image/jpeg")), picture(b"mask"))

    assert endpoint_of(edit) == "/v1/images/edits"
    body = json.loads(write_request_line("run", edit, "gpt-image-1", inputs))["body"]
    assert [each["image_url"].partition(",")[0] for each in body["images"]] == [
        "data:image/png;base64",
        "data:image/jpeg;base64",
    ]
    assert base64.b64decode(body["mask"]["image_url"].partition(",")[2]) == b"mask"


def test_request_line_has_no_newline_within() -> None:
    """Whatever a prompt holds, its line has one newline, at its end, and is the same each time."""
    prompt = "Two\nlines\r and\u2028more \U0001f600"
    request = CUP.model_copy(update={"prompt": prompt})

    line = write_request_line("run", request, "gpt-image-1", NOTHING)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.decode().splitlines() == [line.decode().rstrip("\n")]
    assert json.loads(line)["body"]["prompt"] == prompt
    assert line == write_request_line("run", request, "gpt-image-1", NOTHING)


def test_image_too_large_for_a_batch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture beyond the longest data: URL, and pictures that fill a file together, are told with what to do instead."""
    monkeypatch.setattr(batch_lines, "MAX_URL", 430)
    [problem] = check_fit(Inputs((picture(b"x" * 300), picture(b"x" * 301)), None))
    assert (problem.field, problem.value) == ("images.1", "301 bytes")
    assert "without --economy" in problem.allowed

    monkeypatch.setattr(batch_lines, "MAX_FILE", 1024 * 1024 + 799)
    [problem] = check_fit(Inputs((picture(b"x" * 300), picture(b"x" * 300)), None))
    assert (problem.field, problem.value) == ("images", "800 bytes as base64")
    assert check_fit(Inputs((picture(b"x" * 300),), None)) == ()


def test_success_line_has_its_response() -> None:
    """A line with a 2xx has the body as its response."""
    result = read(response={"status_code": 200, "request_id": "req_1", "body": {"usage": {}}}, error=None)

    assert (result.custom_id, result.provider_request_id, result.response) == ("run", "req_1", {"usage": {}})
    assert result.failure is result.untouched is None


@pytest.mark.parametrize(
    ("status", "error", "kind", "outcome"),
    [
        (400, {"code": "moderation_blocked"}, errors.ContentRefused, "rejected"),
        (400, {"code": "invalid_value", "message": "No."}, errors.InvalidRequest, "rejected"),
        (429, {"code": "rate_limit_exceeded"}, errors.RateLimited, "rejected"),
        (500, {"code": "server_error"}, errors.ServerError, "rejected"),
        (
            400,
            {"code": "moderation_blocked", "moderation_details": {"moderation_stage": "output"}},
            errors.OutputRefused,
            "unknown",
        ),
        (504, {}, errors.GatewayError, "unknown"),
    ],
)
def test_error_line_has_the_failure_of_a_single_request(
    status: int, error: dict[str, Any], kind: type[errors.ProviderFailure], outcome: str
) -> None:
    """A line with an error status is the same failure as the same answer to a request by itself."""
    result = read(response={"status_code": status, "request_id": "req_1", "body": {"error": error}})

    assert type(result.failure) is kind
    assert (result.failure.outcome, result.failure.provider_request_id) == (outcome, "req_1")


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_unprocessed_line_is_untouched(code: str) -> None:
    """Expired and cancelled lines say so with their code, and are no failures of their request."""
    result = read(response=None, error={"code": code, "message": "Too late."})

    assert (result.untouched, result.failure) == ((code, "Too late."), None)


def test_line_that_failed_at_the_provider_is_a_server_error() -> None:
    """An error of another code, without an answer, is a failure of the server."""
    result = read(response=None, error={"code": "request_failed", "message": "Something broke."})

    assert isinstance(result.failure, errors.ServerError)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"custom_id": 7}', b'{"custom_id": "run"}', b'{"custom_id": "run", "error": {}}'],
)
def test_invalid_result_line_is_none(data: bytes) -> None:
    """A line that tells nothing of a request is none, and raises nothing."""
    assert read_result_line(data) is None
