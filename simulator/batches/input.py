"""Check the input file of a batch: one endpoint and one model, and a unique id on every line.

A request's own parameters are validated when it is executed. A problem there is an error of that line only.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from simulator.batches.files import StoredFile
from simulator.orders import Endpoint

ENDPOINTS: dict[str, Endpoint] = {"/v1/images/generations": "generations", "/v1/images/edits": "edits"}
MAX_LINES = 50_000
_MAX_PROBLEMS = 20
_KEYS = {"custom_id", "method", "url", "body"}


class Place(NamedTuple):
    """Where a line is in its file: `length` bytes from `offset`."""

    custom_id: str
    offset: int
    length: int


class LineProblem(NamedTuple):
    """A problem of a file, and its line (from 1; None: the whole file)."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return the provider's batch error object."""
        return self._asdict()


class InputFile(NamedTuple):
    """A checked file: its lines and their model, or its problems."""

    places: list[Place]
    model: str | None
    problems: list[LineProblem]


def check_input(file: StoredFile, url: str) -> InputFile:
    """Check a whole input file, reading a line at a time."""
    places: dict[str, Place] = {}
    models: list[str] = []
    problems: list[LineProblem] = []
    for number, (offset, raw) in enumerate(_read_lines(file), start=1):
        if number > MAX_LINES:
            problems.append(LineProblem("too_many_tasks", f"A batch has at most {MAX_LINES:,} requests."))
            break
        checked = _check_line(raw, url, number)
        if isinstance(checked, LineProblem):
            problems.append(checked)
        else:
            custom_id, model = checked
            models = models or [model]
            problems += _check_together(custom_id, model, number, places, models[0])
            places[custom_id] = Place(custom_id, offset, len(raw))
    if not places and not problems:
        problems.append(LineProblem("empty_file", "The input file contains no requests."))
    return InputFile(list(places.values()), models[0] if models else None, problems[:_MAX_PROBLEMS])


def read_body(file: StoredFile, place: Place) -> dict[str, Any]:
    """Read the request body of a line that was checked."""
    with file.path.open("rb") as reading:
        reading.seek(place.offset)
        body: dict[str, Any] = json.loads(reading.read(place.length))["body"]
        return body


def _read_lines(file: StoredFile) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with file.path.open("rb") as reading:
        for raw in reading:
            if raw.strip():
                yield offset, raw
            offset += len(raw)


def _check_line(raw: bytes, url: str, number: int) -> tuple[str, str] | LineProblem:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return LineProblem("invalid_json_line", "This line is not valid JSON.", number)
    if not isinstance(line, dict):
        return LineProblem("invalid_json_line", "This line is not a JSON object.", number)
    problem = next(_find_problems(line, url), None)
    return (
        LineProblem(problem[0], problem[2], number, problem[1])
        if problem
        else (line["custom_id"], line["body"]["model"])
    )


def _find_problems(line: dict[str, Any], url: str) -> Iterator[tuple[str, str, str]]:
    """Yield code, parameter and message of each problem."""
    for name in sorted(line.keys() ^ _KEYS):
        code = "missing_required_parameter" if name in _KEYS else "unknown_parameter"
        yield code, name, f"{'Missing' if name in _KEYS else 'Unknown'} parameter: '{name}'."
    if not isinstance(line["custom_id"], str) or not line["custom_id"]:
        yield "invalid_value", "custom_id", "'custom_id' must be a non-empty string."
    if line["method"] != "POST":
        yield "invalid_method", "method", "'method' must be POST."
    if line["url"] != url:
        yield "invalid_url", "url", f"'url' must be the batch's endpoint, {url}."
    if not isinstance(line["body"], dict) or not isinstance(line["body"].get("model"), str):
        yield "missing_required_parameter", "body.model", "Missing required parameter: 'body.model'."


def _check_together(
    custom_id: str, model: str, number: int, places: dict[str, Place], first_model: str
) -> list[LineProblem]:
    problems = []
    if custom_id in places:
        message = f"The custom_id '{custom_id[:80]}' is also used on another line."
        problems.append(LineProblem("duplicate_custom_id", message, number, "custom_id"))
    if model != first_model:
        message = f"The model is '{model[:80]}', but '{first_model[:80]}' on the first line: a file must use one model."
        problems.append(LineProblem("mismatched_model", message, number, "body.model"))
    return problems
