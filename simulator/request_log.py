"""Keep the books: every image request, its outcome, and what was paid for it. Entries are never changed.

A ledger is reconciled against these entries: they hold the true usage even where a response left it out.
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
    """One HTTP request to an image endpoint, or one line of a batch.

    `time` is when the request arrived, or when the line was executed. `status` is None if the connection ended without
    a response. `paid` says whether `usage` was charged, at a list price in micro-USD. Fields that a refused request did
    not reach are None. A line of a batch has the batch's id and its own.
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


def get_order_fields(order: ImageOrder) -> dict[str, Any]:
    """Return the fields of an entry that describe the order."""
    return {
        "model": order.model_name,
        "size": order.size_name,
        "quality": order.quality,
        "n": order.n,
        "partial_images": order.partial_images,
        "prompt_sha256": hashlib.sha256(order.prompt.encode()).hexdigest(),
    }


class Books:
    """An append-only list of entries, in memory and, given a path, in a file of JSON lines."""

    def __init__(self, path: Path | None = None) -> None:
        """Load what an earlier simulator wrote to the same file.

        Raises:
            StartupError: the file cannot be used, or a line is not a valid entry.
        """
        self._path = path
        self._entries: list[BookEntry] = []
        self._client_request_ids: set[str] = set()
        if path is not None:
            for entry in _read_entries(path):
                self._remember(entry)

    @property
    def entries(self) -> tuple[BookEntry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    @property
    def paid(self) -> tuple[BookEntry, ...]:
        """The entries that were paid for."""
        return tuple(entry for entry in self._entries if entry.paid)

    def has_client_request_id(self, client_request_id: str | None) -> bool:
        """Return whether an earlier request had this id. A client must send a new one each time."""
        return client_request_id in self._client_request_ids

    def record(self, entry: BookEntry) -> None:
        """Append one entry, in the file as one line."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(entry.model_dump_json() + "\n")
        self._remember(entry)

    def get_totals(self) -> dict[str, int]:
        """Return the totals over all entries."""
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
            f"The books cannot be written to {path}: {error}. Choose a writable file."
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            yield BookEntry.model_validate_json(line)
        except ValidationError as error:
            raise StartupError(
                f"Line {number} of {path} is not a valid entry of the books. Move the file away, or choose another one."
            ) from error
