"""Client for the provider's Batch API: upload and read files; create, find, read and cancel batches.

Uploading and reading can be repeated safely. Creating cannot: if the response is lost, the batch may exist, and `find`
looks for it by its metadata. Nothing is repeated here, and nothing is recorded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import httpx2
import openai
from openai.types import Batch

from gpt_image_runs.provider.body_limits import bounding, max_picture_answer
from gpt_image_runs.provider.error_mapping import classify_answer, classify_transport, read_error_body
from gpt_image_runs.provider.errors import (
    AnswerLost,
    GatewayError,
    MalformedAnswer,
    ObjectGone,
    ProviderFailure,
    ProviderNotConfigured,
    RequestTimeout,
    TransferBroken,
)
from gpt_image_runs.provider.json_decoding import make_text_storable
from gpt_image_runs.provider.sdk import ProviderSettings, check_settings, hide_key, open_sdk

Endpoint = Literal["/v1/images/generations", "/v1/images/edits"]

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
MAX_LINES = 50_000
# The provider allows at most 50,000 requests and 200 MB in an input file.
MAX_FILE = 200 * 1024 * 1024
# Characters of a data: URL in the JSON body of an edit.
MAX_URL = 20_971_520
# Bytes of a result line that are held at once: more than ten of the largest pictures.
MAX_LINE = 512 * 1024 * 1024
_MAX_ERRORS = 20


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch that is about to be created from an uploaded file."""

    file_id: str
    endpoint: Endpoint
    metadata: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ProviderBatch:
    """A batch as the provider describes it.

    `errors` are the provider's messages on why the whole batch failed. `begun_at` is when its file passed validation, None before.
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
    def not_started(self) -> bool:
        """Whether nothing at all tells of a line that was carried out."""
        files = (self.output_file_id, self.error_file_id)
        return self.begun_at is None and not (self.completed or self.failed or any(files))


class ResultLine(NamedTuple):
    """A line of a result file, and the offset in bytes at which the next one begins."""

    data: bytes
    end: int


def describe_batch(batch: Batch) -> ProviderBatch:
    """Convert the SDK's batch to a `ProviderBatch`."""
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
            for problem in problems[:_MAX_ERRORS]
        ),
    )


async def split_lines(
    chunks: AsyncIterator[bytes], offset: int, max_line: int | None = None
) -> AsyncIterator[ResultLine]:
    """Yield the non-empty lines of a file whose `chunks` begin at `offset`, one in memory at a time.

    Raises:
        MalformedAnswer: a line is longer than `max_line`, or than `MAX_LINE`.
    """
    most = min(max_line or MAX_LINE, MAX_LINE)
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


# Creating takes little work at the provider. After this time a worker knows that it must not create again.
CREATE_SECONDS = 60.0
_PAGE = 100
_CHUNK = 256 * 1024
_HARMLESS = (AnswerLost, GatewayError, RequestTimeout)


def open_batch_client(settings: ProviderSettings) -> "BatchClient":
    """Create a client. It connects when it is first used.

    Raises:
        ProviderNotConfigured: a setting is missing or cannot work.
    """
    check_settings(settings)
    return BatchClient(open_sdk(settings, bounding(_is_file)))


class BatchClient:
    """Files and batches through the SDK, whose own retries are off. Made by `open_batch_client`; close it after use."""

    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self._sdk = sdk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Requests in progress fail."""
        await self._sdk.close()

    async def upload(self, path: Path, name: str) -> str:
        """Upload an input file from disk and return the provider's file id.

        Raises:
            ProviderFailure: it was not accepted. Uploading a file is free.
        """
        if isinstance(self._sdk, openai.AsyncAzureOpenAI):
            raise ProviderNotConfigured(
                detail="economy batches are not supported on Azure, whose Batch API differs"
            )
        with path.open("rb") as file, self._failures(harmless=True):
            kept = await self._sdk.files.create(file=(name, file, "application/jsonl"), purpose="batch")
            return kept.id

    async def create(self, new: NewBatch) -> ProviderBatch:
        """Create a batch from an uploaded file.

        Raises:
            ProviderFailure: if its outcome is unknown, the batch may exist: look for it with `find`.
        """
        with self._failures(harmless=False):
            async with asyncio.timeout(CREATE_SECONDS):
                return self._describe(
                    await self._sdk.batches.create(
                        input_file_id=new.file_id,
                        endpoint=new.endpoint,
                        completion_window="24h",
                        metadata=dict(new.metadata),
                    )
                )

    async def find(self, metadata: Mapping[str, str], not_before: datetime) -> ProviderBatch | None:
        """Find the batch that was created with this metadata, not earlier than `not_before`; None if there is none.

        Raises:
            ProviderFailure: the list could not be read to its end, so it is not known whether the batch exists.
        """
        with self._failures(harmless=True):
            async for batch in self._sdk.batches.list(limit=_PAGE):
                if batch.created_at < not_before.timestamp():
                    return None  # the newest come first
                if batch.metadata and metadata.items() <= batch.metadata.items():
                    return self._describe(batch)
            return None

    async def find_newest(self) -> int | None:
        """Return when the newest batch was created, in epoch seconds by the provider's clock; None if there is none.

        Raises:
            ProviderFailure: the list could not be read.
        """
        with self._failures(harmless=True):
            page = await self._sdk.batches.list(limit=1)
            return page.data[0].created_at if page.data else None

    async def look(self, batch_id: str) -> ProviderBatch:
        """Fetch the current state of a batch.

        Raises:
            ObjectGone: the batch does not exist.
            ProviderFailure: it could not be fetched.
        """
        with self._failures(harmless=True):
            return self._describe(await self._sdk.batches.retrieve(batch_id))

    async def cancel(self, batch_id: str) -> ProviderBatch:
        """Cancel a batch. One that has ended stays as it is. Errors as for `look`."""
        try:
            with self._failures(harmless=True):
                return self._describe(await self._sdk.batches.cancel(batch_id))
        except ProviderFailure as failure:
            if failure.http_status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}:
                raise
        return await self.look(batch_id)

    async def read_lines(
        self, file_id: str, offset: int = 0, *, pictures: int = 10
    ) -> AsyncIterator[ResultLine]:
        """Yield the lines of a result file as they arrive, one in memory at a time.

        `offset` must be the beginning of a line. `pictures` is the most images that a line may contain.

        Raises:
            ObjectGone: the file does not exist.
            ProviderFailure: reading was interrupted; continue at the end of the last line.
        """
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        with self._failures(harmless=True):
            async with self._sdk.files.with_streaming_response.content(
                file_id, extra_headers=asked
            ) as response:
                chunks = response.iter_bytes(_CHUNK)
                if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                    chunks = _skip(chunks, offset)  # not everybody gives a part of a file
                async for line in split_lines(chunks, offset, max_picture_answer(pictures)):
                    yield line._replace(data=await asyncio.to_thread(hide_key, line.data, self._sdk.api_key))

    def _describe(self, batch: Batch) -> ProviderBatch:
        described = describe_batch(batch)
        errors = (hide_key(text.encode(), self._sdk.api_key).decode() for text in described.errors)
        return replace(described, errors=tuple(errors))

    @contextmanager
    def _failures(self, *, harmless: bool) -> Iterator[None]:
        """Turn every error into a `ProviderFailure`. A `harmless` call can never be charged, so its outcome is not unknown."""
        failure: ProviderFailure
        try:
            yield
        except ProviderFailure:
            raise
        except openai.APIStatusError as error:
            failure = self._classify(error)
        except Exception as error:  # noqa: BLE001 - as in `gpt_image_runs.provider.client`
            failure = classify_transport(error)
        else:
            return
        # Outside of the except clauses, so that the SDK's error is not its context.
        raise _without_doubt(failure) if harmless and isinstance(failure, _HARMLESS) else failure

    def _classify(self, error: openai.APIStatusError) -> ProviderFailure:
        response = error.response
        content = response.content if response.is_closed or response.is_stream_consumed else b""
        body = hide_key(content, self._sdk.api_key)
        failure = classify_answer(response.status_code, response.headers, body, datetime.now(UTC))
        is_gone = response.status_code == HTTPStatus.NOT_FOUND and read_error_body(body).is_from_api
        return ObjectGone(http_status=404, provider_message=failure.provider_message) if is_gone else failure


def _without_doubt(failure: ProviderFailure) -> TransferBroken:
    return TransferBroken(
        detail=failure.detail,
        http_status=failure.http_status,
        provider_message=failure.provider_message,
        provider_request_id=failure.provider_request_id,
        retry_after_seconds=failure.retry_after_seconds,
    )


def _is_file(response: httpx2.Response) -> bool:
    """Return whether the response is a file's content, which is read line by line and has no size limit."""
    return response.request.url.path.endswith("/content")


async def _skip(chunks: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        skipped = min(count, len(chunk))
        count -= skipped
        if skipped < len(chunk):
            yield chunk[skipped:]
