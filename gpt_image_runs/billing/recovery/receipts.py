"""Receipts of attempts in the image store: each has enough to write its rows again into a ledger that has lost them.

A receipt is found by its run, whichever ledger it was written for, and all receipts can be read in bounded memory.
Its name contains the ledger and the attempt, so most receipts are never opened.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.contracts.request import ImageRequest, MissingUsage

_FOLDER = "attempts"
_LISTED_AT_ONCE = 16
_READ_AT_ONCE = 16
_MARK_LENGTH = 12


class Documents(Protocol):
    """Small documents by name, as the image store holds them."""

    async def put_document(self, key: str, data: bytes) -> None:
        """Write a document in place of the one that was there."""

    async def read_document(self, key: str) -> bytes | None:
        """Return a document's bytes, None where there is none."""

    async def list_documents(self, prefix: str = "") -> list[str]:
        """Return the names of all documents below a folder, sorted."""


class SentAttempt(BaseModel):
    """What was known of an attempt before it was sent: see `Attempt`."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    attempt_id: str
    number: int
    client_request_id: str
    workflow_run_id: str
    model: str
    provider: str
    sent_at: datetime
    reserved_micro_usd: int | None
    simulated: bool
    batch_part: str | None = None


class AttemptReceipt(BaseModel):
    """One attempt as the image store holds it. `outcome` is None while it is in progress, and where its worker died.

    `metadata`, `missing_usage` and `partial_images` are those of the request: its bill depends on them.
    """

    model_config = ConfigDict(frozen=True)

    ledger_id: str
    run: RunIdentity
    attempt: SentAttempt
    outcome: AttemptOutcome | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    missing_usage: MissingUsage | None = None
    partial_images: int | None = None

    @property
    def last_known_at(self) -> datetime:
        """When the attempt ended, or was sent where no end is known."""
        return self.outcome.finished_at if self.outcome else self.attempt.sent_at

    @property
    def is_paid(self) -> bool:
        """Whether the provider returned images."""
        return self.outcome is not None and self.outcome.outcome == "succeeded"


class ReceiptName(NamedTuple):
    """The key of a receipt, and what its name contains."""

    key: str
    run_mark: str
    ledger_mark: str
    attempt_id: str


def build_receipt(
    ledger_id: str,
    run: RunIdentity,
    attempt: Attempt,
    outcome: AttemptOutcome | None,
    request: ImageRequest | None,
) -> AttemptReceipt:
    """Build the receipt of an attempt. The prompt is not part of it."""
    return AttemptReceipt(
        ledger_id=ledger_id,
        run=run,
        attempt=SentAttempt.model_validate(attempt),
        outcome=outcome,
        metadata=(request.metadata if request else None) or {},
        missing_usage=request.missing_usage if request else None,
        partial_images=request.partial_images if request else None,
    )


def mark_ledger(ledger_id: str) -> str:
    """Return the part of the ledger's id that is in the names of its receipts."""
    return ledger_id.removeprefix("ldg_")[:_MARK_LENGTH]


async def write_attempt_receipt(documents: Documents, receipt: AttemptReceipt) -> None:
    """Write a receipt in place of an earlier one of the same attempt."""
    run_mark = _mark_run(receipt.run.run_id)
    name = f"{run_mark}.{mark_ledger(receipt.ledger_id)}.{receipt.attempt.attempt_id}.json"
    # ASCII: a provider's answer may hold half a surrogate pair, which is no UTF-8.
    data = json.dumps(receipt.model_dump(mode="json"), separators=(",", ":"))
    await documents.put_document(f"{_folder_of(run_mark)}/{name}", data.encode("ascii"))


async def update_outcome(documents: Documents, run_id: str, attempt_id: str, outcome: AttemptOutcome) -> None:
    """Write an outcome that was learned later into the receipts of an attempt."""
    names = [name for name in await list_receipts_of_run(documents, run_id) if name.attempt_id == attempt_id]
    async for receipt in read_attempt_receipts(documents, names):
        if receipt is not None:
            await write_attempt_receipt(documents, receipt.model_copy(update={"outcome": outcome}))


async def list_receipts_of_run(documents: Documents, run_id: str) -> list[ReceiptName]:
    """Return the names of a run's receipts, for whichever ledger they were written."""
    run_mark = _mark_run(run_id)
    names = _parse_names(await documents.list_documents(_folder_of(run_mark)))
    return [name for name in names if name.run_mark == run_mark]


async def list_all_receipts(documents: Documents) -> AsyncIterator[list[ReceiptName]]:
    """Yield the names of all receipts in 256 pages, in no order."""
    shards = [f"{_FOLDER}/{shard:02x}" for shard in range(256)]
    for start in range(0, len(shards), _LISTED_AT_ONCE):
        listed = await asyncio.gather(
            *(documents.list_documents(shard) for shard in shards[start : start + _LISTED_AT_ONCE])
        )
        for keys in listed:
            yield _parse_names(keys)


async def read_attempt_receipts(
    documents: Documents, names: list[ReceiptName]
) -> AsyncIterator[AttemptReceipt | None]:
    """Yield receipts by name, at most 16 in memory; None for one that cannot be read."""
    for start in range(0, len(names), _READ_AT_ONCE):
        some = names[start : start + _READ_AT_ONCE]
        for data in await asyncio.gather(*(documents.read_document(name.key) for name in some)):
            yield _parse_receipt(data)


def _parse_receipt(data: bytes | None) -> AttemptReceipt | None:
    try:
        return None if data is None else AttemptReceipt.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError):
        return None


def _parse_names(keys: list[str]) -> list[ReceiptName]:
    parsed = []
    for key in keys:
        match key.rpartition("/")[2].split("."):
            case [run_mark, ledger_mark, attempt_id, "json"]:
                parsed.append(ReceiptName(key, run_mark, ledger_mark, attempt_id))
    return parsed


def _mark_run(run_id: str) -> str:
    """Return the hash of a run's id for file names.

    The id itself has colons and is case-sensitive, which file names are not everywhere.
    """
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def _folder_of(run_mark: str) -> str:
    return f"{_FOLDER}/{run_mark[:2]}/{run_mark[2:4]}"
