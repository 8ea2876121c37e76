"""The simulator's own books: every image request, what came of it, and what was paid for it. Entries are never changed.

This is the independent party that a ledger is balanced against: it holds true usage even where an answer withheld it.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from simulator.http import StartupError
from simulator.orders import Endpoint, ImageOrder


class BookEntry(BaseModel):
    """One HTTP request to an image endpoint.

    `time` is when the request arrived. `status` is None where the connection ended without an answer. `paid` says whether `usage` was paid for, at a
    list price in micro-USD. What a refused request did not get to say is None. A line of a batch counts as one request,
    carried out at that `time`, and has the batch's id and its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: datetime
    request_id: str
    client_request_id: str | None
    client_request_id_repeated: bool
    project_id: str | None = None
    api_key_id: str | None = None
    endpoint: Endpoint
    model: str | None = None
    size: str | None = None
    quality: str | None = None
    n: int | None = None
    partial_images: int | None = None
    prompt_sha256: str | None = None
    fault: str | None = None
    paid: bool = False
    status: int | None = None
    error_code: str | None = None
    usage: dict[str, Any] | None = None
    list_price_micro_usd: int = 0
    batch_id: str | None = None
    custom_id: str | None = None


def describe_order(order: ImageOrder) -> dict[str, Any]:
    """What an entry says of the order."""
    return {
        "model": order.model_name,
        "size": order.size_name,
        "quality": order.quality,
        "n": order.n,
        "partial_images": order.partial_images,
        "prompt_sha256": hashlib.sha256(order.prompt.encode()).hexdigest(),
    }


class Books:
    """An append-only list of entries, in memory and, where a path is given, in a file of JSON lines."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads back what an earlier simulator wrote to the same file.

        Raises:
            StartupError: the file cannot be used, or a line of it is no entry.
        """
        self._path = path
        self._entries: list[BookEntry] = []
        self._client_request_ids: set[str] = set()
        if path is not None:
            for entry in _read_entries(path):
                self._remember(entry)

    @property
    def entries(self) -> tuple[BookEntry, ...]:
        """All entries, the oldest first."""
        return tuple(self._entries)

    @property
    def paid(self) -> tuple[BookEntry, ...]:
        """The entries that were paid for."""
        return tuple(entry for entry in self._entries if entry.paid)

    def knows_client_request_id(self, client_request_id: str | None) -> bool:
        """Whether an earlier request had this id: a client is to send a new one each time."""
        return client_request_id in self._client_request_ids

    def record(self, entry: BookEntry) -> None:
        """Appends one entry, as one line."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(entry.model_dump_json() + "\n")
        self._remember(entry)

    def sum_up(self) -> dict[str, int]:
        """The totals over all entries."""
        paid = self.paid
        usages = [entry.usage or {} for entry in paid]
        return {
            "requests": len(self._entries),
            "paid": len(paid),
            "images": sum(entry.n or 0 for entry in paid),
            "input_tokens": sum(usage["input_tokens"] for usage in usages),
            "output_tokens": sum(usage["output_tokens"] for usage in usages),
            "list_price_micro_usd": sum(entry.list_price_micro_usd for entry in paid),
        }

    def _remember(self, entry: BookEntry) -> None:
        self._entries.append(entry)
        if entry.client_request_id is not None:
            self._client_request_ids.add(entry.client_request_id)


def _read_entries(path: Path) -> Iterable[BookEntry]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(
            f"The books cannot be kept in {path}: {error}. Name a file that can be written."
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            yield BookEntry.model_validate_json(line)
        except ValidationError as error:
            raise StartupError(
                f"Line {number} of {path} is no entry of the books: move the file away, or name another one."
            ) from error
