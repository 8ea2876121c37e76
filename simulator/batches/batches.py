"""Keep the batches and their states. A batch changes only when it is advanced: nothing happens in the background.

validating -> in_progress -> finalizing -> completed, or failed, expired, cancelling -> cancelled.
"""

import asyncio
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from simulator.batches.faults import BatchFault, BatchFaultKind, BatchScript
from simulator.batches.files import FileStore, StoredFile
from simulator.batches.input import ENDPOINTS, InputFile, LineProblem, Place, check_input, read_body
from simulator.batches.lines import LineWorker, Sender, format_unexecuted_line, now
from simulator.http import ApiError, refuse

_TYPES = {
    "input_file_id": str,
    "endpoint": str,
    "completion_window": str,
    "metadata": dict,
    "output_expires_after": dict,
}
_REQUIRED = ("input_file_id", "endpoint", "completion_window")
_MAX_PAIRS, _MAX_KEY_LENGTH, _MAX_VALUE_LENGTH = 16, 64, 512
_MIN_EXPIRY_SECONDS, _MAX_EXPIRY_SECONDS = 3_600, 2_592_000


class BatchOrder(NamedTuple):
    """A validated request. `url` is the endpoint as written on every line."""

    input_file_id: str
    url: str
    metadata: dict[str, str] | None


def read_batch_order(parameters: dict[str, Any]) -> BatchOrder:
    """Validate the parameters and build the order. A null parameter counts as omitted.

    Raises:
        ApiError: 400, for the first problem.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        if name not in _TYPES:
            raise refuse(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
        if type(value) is not _TYPES[name]:
            raise refuse(name, "invalid_type", f"Invalid type for '{name}'.")
    for name in _REQUIRED:
        if name not in given:
            raise refuse(name, "missing_required_parameter", f"Missing required parameter: '{name}'.")
    if given["completion_window"] != "24h":
        raise refuse("completion_window", "invalid_value", "Invalid 'completion_window': supported is '24h'.")
    if given["endpoint"] not in ENDPOINTS:
        supported = ", ".join(f"'{url}'" for url in ENDPOINTS)
        raise refuse("endpoint", "invalid_value", f"Invalid 'endpoint': the simulator supports {supported}.")
    _check_metadata(given.get("metadata", {}))
    _check_expiry(given.get("output_expires_after"))
    return BatchOrder(given["input_file_id"], given["endpoint"], given.get("metadata"))


def _check_metadata(metadata: dict[str, Any]) -> None:
    if len(metadata) > _MAX_PAIRS:
        message = (
            f"Invalid 'metadata': at most {_MAX_PAIRS} pairs are allowed, but there are {len(metadata)}."
        )
        raise refuse("metadata", "object_above_max_properties", message)
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise refuse(
                f"metadata.{name[:80]}", "invalid_type", "Invalid 'metadata': values must be strings."
            )
        if not 0 < len(name) <= _MAX_KEY_LENGTH or len(value) > _MAX_VALUE_LENGTH:
            message = f"Invalid 'metadata': keys up to {_MAX_KEY_LENGTH} characters, values up to {_MAX_VALUE_LENGTH}."
            raise refuse(f"metadata.{name[:80]}", "string_above_max_length", message)


def _check_expiry(expiry: dict[str, Any] | None) -> None:
    if expiry is None:
        return
    seconds = expiry.get("seconds")
    is_valid = type(seconds) is int and _MIN_EXPIRY_SECONDS <= seconds <= _MAX_EXPIRY_SECONDS
    if set(expiry) != {"anchor", "seconds"} or expiry["anchor"] != "created_at" or not is_valid:
        message = (
            "Invalid 'output_expires_after': expected {'anchor': 'created_at', 'seconds': N},"
            f" with N from {_MIN_EXPIRY_SECONDS} to {_MAX_EXPIRY_SECONDS}."
        )
        raise refuse("output_expires_after", "invalid_value", message)


Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: tuple[Status, ...] = ("failed", "completed", "expired", "cancelled")
WINDOW_SECONDS = 86_400
_TIMESTAMPS_OF = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_BATCH_FAULTS = (
    BatchFaultKind.VALIDATION_FAILED,
    BatchFaultKind.EXPIRED,
    BatchFaultKind.OUTPUT_GONE,
    BatchFaultKind.LINES_UNTOLD,
)


@dataclass
class Batch:
    """One batch. `pending` are the lines that were not executed yet; the last one is the next."""

    order: BatchOrder
    sender: Sender
    fault: BatchFault | None
    status: Status = "validating"
    times: dict[str, int] = field(default_factory=lambda: {"created": now()})
    model: str | None = None
    pending: list[Place] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    problems: list[LineProblem] = field(default_factory=list)
    output: StoredFile | None = None
    errors: StoredFile | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def batch_id(self) -> str:
        """The batch's id."""
        return self.sender.batch_id

    def move(self, status: Status) -> None:
        """Change to a state, now."""
        self.status = status
        self.times[status] = now()

    def describe(self) -> dict[str, Any]:
        """Return the provider's batch object."""
        ended = self.status in ENDED
        return {
            "id": self.batch_id,
            "object": "batch",
            "endpoint": self.order.url,
            "model": self.model,
            "errors": {"object": "list", "data": [problem.describe() for problem in self.problems]}
            if self.problems
            else None,
            "input_file_id": self.order.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output.file_id if ended and self.output else None,
            "error_file_id": self.errors.file_id if ended and self.errors else None,
            "created_at": self.times["created"],
            "expires_at": self.times["created"] + WINDOW_SECONDS,
            **{f"{status}_at": self.times.get(status) for status in _TIMESTAMPS_OF},
            "request_counts": {name: self.counts[name] for name in ("total", "completed", "failed")},
            "usage": {
                "input_tokens": self.usage["input_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": self.usage["output_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.usage["total_tokens"],
            },
            "metadata": self.order.metadata,
        }


class Batches:
    """All batches, and how they advance."""

    def __init__(self, file_store: FileStore, worker: LineWorker, script: BatchScript, seed: int) -> None:
        self._file_store = file_store
        self._worker = worker
        self._script = script
        self._rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._batches: dict[str, Batch] = {}

    @property
    def all(self) -> tuple[Batch, ...]:
        """All batches, oldest first."""
        return tuple(self._batches.values())

    def create(self, order: BatchOrder, project_id: str | None, api_key_id: str | None) -> Batch:
        """Create a batch of an uploaded file. Its lines are validated in its first step.

        Raises:
            ApiError: 404, the file is unknown.
        """
        self._file_store.find(order.input_file_id)
        sender = Sender(f"batch_{uuid.uuid4().hex[:24]}", project_id, api_key_id)
        batch = Batch(order, sender, self._script.take(*_BATCH_FAULTS))
        self._batches[batch.batch_id] = batch
        return batch

    def find(self, batch_id: str) -> Batch:
        """Return a batch by its id.

        Raises:
            ApiError: 404, the batch is unknown.
        """
        if batch_id not in self._batches:
            raise ApiError(404, f"No batch found with id '{batch_id[:80]}'.", param="id")
        return self._batches[batch_id]

    def cancel(self, batch: Batch) -> None:
        """Request cancellation. Lines that were executed stay.

        Raises:
            ApiError: 409, it has ended.
        """
        if batch.status in ENDED or batch.status == "finalizing":
            raise ApiError(409, f"A batch that is {batch.status} cannot be cancelled.", code="conflict")
        if batch.status != "cancelling":
            batch.move("cancelling")

    async def advance(self, batch: Batch, lines: int | None = None) -> None:
        """Run one step: validation, the lines (all or `lines` of them), or completion."""
        async with batch.lock:
            if batch.status == "validating":
                await self._validate(batch)
            elif batch.status == "in_progress":
                await self._run_lines(batch, lines)
            elif batch.status == "finalizing":
                self._end(batch, "completed", None)
            elif batch.status == "cancelling":
                self._end(batch, "cancelled", "batch_cancelled")

    async def finish(self, batch: Batch) -> None:
        """Run all remaining steps."""
        while batch.status not in ENDED:
            await self.advance(batch)

    async def _validate(self, batch: Batch) -> None:
        checked = await asyncio.to_thread(check_input, self._file_of(batch), batch.order.url)
        batch.problems = checked.problems
        if batch.fault and batch.fault.kind is BatchFaultKind.VALIDATION_FAILED:
            message = "Enqueued token limit reached for this model: wait for batches that are in progress."
            batch.problems = [LineProblem("token_limit_exceeded", message)]
        if batch.problems:
            batch.move("failed")
            return
        self._begin(batch, checked)

    def _begin(self, batch: Batch, checked: InputFile) -> None:
        batch.model = checked.model
        batch.pending = list(checked.places)
        self._rng.shuffle(batch.pending)
        batch.counts["total"] = len(batch.pending)
        batch.output = self._file_store.prepare(f"{batch.batch_id}_output.jsonl", "batch_output")
        batch.errors = self._file_store.prepare(f"{batch.batch_id}_error.jsonl", "batch_output")
        batch.move("in_progress")

    async def _run_lines(self, batch: Batch, lines: int | None) -> None:
        fault, left = batch.fault, lines if lines is not None else len(batch.pending)
        done = batch.counts["completed"] + batch.counts["failed"]
        if fault and fault.kind is BatchFaultKind.EXPIRED:
            left = min(left, fault.lines - done)
        for _ in range(min(left, len(batch.pending))):
            await self._run_next_line(batch)
        done = batch.counts["completed"] + batch.counts["failed"]
        if fault and fault.kind is BatchFaultKind.EXPIRED and done >= fault.lines:
            self._end(batch, "expired", "batch_expired")
        elif not batch.pending:
            batch.move("finalizing")

    async def _run_next_line(self, batch: Batch) -> None:
        place = batch.pending.pop()
        body = await asyncio.to_thread(read_body, self._file_of(batch), place)
        result = await self._worker.run(batch.sender, ENDPOINTS[batch.order.url], place.custom_id, body)
        batch.counts["failed" if result.failed else "completed"] += 1
        batch.usage.update(
            {name: count for name, count in (result.usage or {}).items() if isinstance(count, int)}
        )
        is_omitting = batch.fault and batch.fault.kind is BatchFaultKind.LINES_UNTOLD
        if is_omitting and batch.fault and len(batch.pending) < batch.fault.lines:
            return
        file = batch.errors if result.failed else batch.output
        if file:
            await asyncio.to_thread(_append, file, result.document)

    def _end(self, batch: Batch, status: Status, unexecuted: str | None) -> None:
        if unexecuted and batch.errors:
            for place in batch.pending:
                _append(batch.errors, format_unexecuted_line(place.custom_id, unexecuted))
                batch.counts["failed"] += 1
        batch.pending = []
        batch.output, batch.errors = (
            self._publish_if_not_empty(batch.output),
            self._publish_if_not_empty(batch.errors),
        )
        batch.move(status)
        if batch.output and batch.fault and batch.fault.kind is BatchFaultKind.OUTPUT_GONE:
            self._file_store.remove(batch.output.file_id)

    def _publish_if_not_empty(self, file: StoredFile | None) -> StoredFile | None:
        """Publish a file, or return None for an empty one, which does not exist for clients."""
        if file is None or not file.path.stat().st_size:
            return None
        self._file_store.put(file)
        return file

    def _file_of(self, batch: Batch) -> StoredFile:
        return self._file_store.find(batch.order.input_file_id)


def _append(file: StoredFile, document: bytes) -> None:
    with file.path.open("ab") as writing:
        writing.write(document)
