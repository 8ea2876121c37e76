"""Execute one line of a batch as the image endpoints would: its result, and its entry in the books."""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from simulator.fault_effects import build_refusal
from simulator.faults import Fault, FaultKind, FaultScript
from simulator.http import ApiError, refuse
from simulator.images_api import produce
from simulator.orders import Endpoint
from simulator.request_log import BookEntry, Books, get_order_fields
from simulator.request_parsing import Body, read_json_edit
from simulator.responses import GATEWAY_STATUSES, STREAM_FAULTS
from simulator.uploads import Inputs
from simulator.validation import read_order

_CONNECTION_FAULTS = {
    FaultKind.RESET_BEFORE,
    FaultKind.RESET_AFTER_PAYMENT,
    FaultKind.HANG,
    FaultKind.TRUNCATED,
    FaultKind.REDIRECT,
    FaultKind.MALFORMED_JSON,
    FaultKind.PLAIN_TEXT,
    *GATEWAY_STATUSES,
    *STREAM_FAULTS,
}
NOT_EXECUTED = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed, as its batch was cancelled.",
}


class Sender(NamedTuple):
    """The batch, project and key that a line belongs to."""

    batch_id: str
    project_id: str | None
    api_key_id: str | None


class LineResult(NamedTuple):
    """A line of the output file, or of the error file if it failed."""

    document: bytes
    failed: bool
    usage: dict[str, Any] | None = None


class LineWorker:
    """Executes lines with the faults of a script, and records them in the books."""

    def __init__(self, books: Books, script: FaultScript) -> None:
        self._books = books
        self._script = script

    async def run(
        self, sender: Sender, endpoint: Endpoint, custom_id: str, body: dict[str, Any]
    ) -> LineResult:
        """Execute one line. A refused request is an error of this line only, and not paid."""
        request_id = f"req_{uuid.uuid4().hex}"
        known: dict[str, Any] = {"endpoint": endpoint, "time": datetime.now(UTC), "request_id": request_id}
        try:
            read = await asyncio.to_thread(_read, endpoint, body)
            order = read_order(endpoint, read.parameters)
            if order.partial_images is not None:
                raise refuse("stream", "unsupported_parameter", "A line of a batch cannot stream.")
            known |= get_order_fields(order)
            fault = self._take_fault(order.prompt)
            known |= {"fault": fault.kind.value if fault else None}
            refusal = build_refusal(fault, order.model_name) if fault else None
            if refusal:
                raise refusal
            answer, paid = await produce(order, read.inputs, fault, request_id, in_batch=True)
        except ApiError as error:
            self._record(sender, custom_id, known, {"status": error.status, "error_code": error.code})
            document = format_line(custom_id, _respond(error.status, request_id, error.body))
            return LineResult(document, failed=True)
        self._record(sender, custom_id, known, {"status": 200, **paid})
        response = _respond(200, request_id, json.loads(answer))
        return LineResult(format_line(custom_id, response), failed=False, usage=paid["usage"])

    def _take_fault(self, prompt: str) -> Fault | None:
        try:
            fault = self._script.take_for(prompt)
        except ValueError as error:
            raise refuse("prompt", "unknown_fault", f"The prompt cannot be simulated: {error}.") from error
        if fault and fault.kind in _CONNECTION_FAULTS:
            message = f"The prompt cannot be simulated: {fault.kind.value} needs a connection, which a line of a batch does not have."
            raise refuse("prompt", "unknown_fault", message)
        return fault

    def _record(self, sender: Sender, custom_id: str, known: dict[str, Any], outcome: dict[str, Any]) -> None:
        self._books.record(
            BookEntry(
                client_request_id=None,
                client_request_id_repeated=False,
                custom_id=custom_id,
                **sender._asdict(),
                **known,
                **outcome,
            )
        )


def format_unexecuted_line(custom_id: str, code: str) -> bytes:
    """Format the error file's line for a request that was never executed."""
    return format_line(custom_id, None, {"code": code, "message": NOT_EXECUTED[code]})


def format_line(
    custom_id: str, response: dict[str, Any] | None, error: dict[str, Any] | None = None
) -> bytes:
    """Format a line of a result file."""
    line_id = f"batch_req_{uuid.uuid4().hex[:24]}"
    document = {"id": line_id, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(document).encode() + b"\n"


def _read(endpoint: Endpoint, body: dict[str, Any]) -> Body:
    return read_json_edit(body) if endpoint == "edits" else Body(body, Inputs())


def _respond(status: int, request_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": request_id, "body": body}


def now() -> int:
    """Return the current time in Unix seconds."""
    return int(time.time())
