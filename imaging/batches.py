"""What is known of a batch at the provider, and of the lines of its result files: values only, nothing is sent here.

A batch is found again by its metadata, which the provider gives back as it was sent.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from openai.types import Batch

from imaging.errors import MalformedAnswer
from imaging.provider_json import make_text_storable

Endpoint = Literal["/v1/images/generations", "/v1/images/edits"]

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
MOST_LINES = 50_000
LARGEST_FILE = 200 * 1024 * 1024
"""The provider: at most 50,000 requests and 200 MB in an input file."""
LONGEST_URL = 20_971_520
"""Characters of a data: URL in the JSON body of an edit."""
LONGEST_LINE = 512 * 1024 * 1024
"""Bytes of a result line that are held at once: more than ten of the largest pictures."""
_MOST_ERRORS = 20


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch that is about to be created from an uploaded file."""

    file_id: str
    endpoint: Endpoint
    metadata: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ProviderBatch:
    """A batch as the provider describes it. `errors` are its sentences on why it failed as a whole; `begun_at` is when it
    came through the check of its file, None before.
    """

    batch_id: str
    status: str
    created_at: int
    begun_at: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether its result files are final."""
        return self.status in ENDED

    @property
    def is_untouched(self) -> bool:
        """Whether nothing at all tells of a line that was carried out."""
        files = (self.output_file_id, self.error_file_id)
        return self.begun_at is None and not (self.completed or self.failed or any(files))


class ResultLine(NamedTuple):
    """A line of a result file, and the offset in bytes at which the next one begins."""

    data: bytes
    end: int


def describe_batch(batch: Batch) -> ProviderBatch:
    """The part of the SDK's object that matters here."""
    counts = batch.request_counts
    problems = (batch.errors.data or []) if batch.errors else []
    return ProviderBatch(
        batch_id=batch.id,
        status=batch.status,
        created_at=batch.created_at,
        begun_at=batch.in_progress_at,
        metadata=dict(batch.metadata or {}),
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        total=counts.total if counts else 0,
        completed=counts.completed if counts else 0,
        failed=counts.failed if counts else 0,
        errors=tuple(
            make_text_storable(
                f"{problem.code or 'error'}{f', line {problem.line}' if problem.line else ''}: {problem.message}"
            )
            for problem in problems[:_MOST_ERRORS]
        ),
    )


async def split_lines(
    chunks: AsyncIterator[bytes], offset: int, max_line: int | None = None
) -> AsyncIterator[ResultLine]:
    """The lines of a file of which `chunks` begin at `offset`. Holds one line at a time, and passes no empty ones on.

    Raises:
        MalformedAnswer: a line is longer than `max_line`, or than `LONGEST_LINE`.
    """
    most = min(max_line or LONGEST_LINE, LONGEST_LINE)
    parts: list[bytes] = []
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            data = b"".join((*parts, piece))
            parts = []
            offset += len(data) + 1
            if data.strip():
                yield ResultLine(data, offset)
        parts.append(rest)
        if sum(map(len, parts)) > most:
            raise MalformedAnswer(detail=f"a line of the result file is longer than {most:,} bytes")
    last = b"".join(parts)
    if last.strip():
        yield ResultLine(last, offset + len(last))
