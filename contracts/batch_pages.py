"""The lines of a batch as they lie in the image store: documents of some hundred lines each, so that nobody ever has to hold
them all. Pure: no I/O.
"""

from typing import Any

from contracts.base import SparseContract

LINES_A_PAGE = 500
LARGEST_PAGE = 1024 * 1024
"""Bytes after which a page ends early: requests may bring pictures along."""


class BatchLine(SparseContract):
    """One line of a batch's file: a request with its id, or the `problem` because of which it is skipped.

    `line` is its number in the file, from 1.
    """

    line: int
    request: dict[str, Any] | None = None
    problem: str | None = None


def page_key(batch_id: str, digest: str, page: int) -> str:
    """The document that holds a page, counted from 0."""
    return f"batches/{batch_id}/{digest}/page-{page:05d}.jsonl"


def write_line(line: BatchLine) -> bytes:
    """A line as it stands in its page, its newline included."""
    return line.model_dump_json().encode() + b"\n"


def read_page(data: bytes) -> tuple[BatchLine, ...]:
    """The lines of a page, in order."""
    return tuple(BatchLine.model_validate_json(line) for line in data.splitlines())
