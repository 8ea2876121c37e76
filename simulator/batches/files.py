"""Store the files that clients upload and batches write. On disk, because they can be large."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from aiohttp import BodyPartReader, web

from simulator.batches.faults import BatchFaultKind, BatchScript
from simulator.http import ApiError, build_headers, check_key, refuse

Purpose = Literal["batch", "batch_output"]
_RETENTION_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class StoredFile:
    """A file and its metadata. It is complete before it is published with `put`."""

    file_id: str
    filename: str
    purpose: Purpose
    created_at: int
    path: Path

    def describe(self) -> dict[str, Any]:
        """Return the provider's file object."""
        return {
            "id": self.file_id,
            "object": "file",
            "bytes": self.path.stat().st_size,
            "created_at": self.created_at,
            "expires_at": self.created_at + _RETENTION_SECONDS,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """Files by id, in a temporary folder that is removed with the simulator."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._files: dict[str, StoredFile] = {}

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All published files, oldest first."""
        return tuple(self._files.values())

    def prepare(self, filename: str, purpose: Purpose) -> StoredFile:
        """Create an empty file: write to its path, then `put` it."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="simulator-files-", ignore_cleanup_errors=True)
        file_id = f"file-{uuid.uuid4().hex[:24]}"
        path = Path(self._folder.name) / file_id
        path.touch()
        return StoredFile(file_id, filename, purpose, int(time.time()), path)

    def put(self, file: StoredFile) -> None:
        """Publish a complete file."""
        self._files[file.file_id] = file

    def find(self, file_id: str) -> StoredFile:
        """Return a file by its id.

        Raises:
            ApiError: 404, the file is unknown.
        """
        if file_id not in self._files:
            raise ApiError(404, f"No such File object: {file_id[:80]}", param="id")
        return self._files[file_id]

    def remove(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            ApiError: 404, the file is unknown.
        """
        self.find(file_id).path.unlink(missing_ok=True)
        del self._files[file_id]

    def close(self) -> None:
        """Delete all files."""
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


MAX_FILE_BYTES = 200 * 1024 * 1024
_CHUNK = 64 * 1024
_MAX_FIELD_BYTES = 1024
_KNOWN = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}


class FileHandlers:
    """Handlers of file requests."""

    def __init__(self, file_store: FileStore, script: BatchScript) -> None:
        self._file_store = file_store
        self._script = script

    async def upload(self, request: web.Request) -> web.Response:
        """Handle POST /v1/files."""
        started = time.monotonic()
        check_key(request)
        if request.content_type != "multipart/form-data":
            message = f"Unsupported content type: '{request.content_type}'. This method takes 'multipart/form-data'."
            raise ApiError(400, message, code="unsupported_content_type")
        try:
            file = await self._read(request)
        except ValueError as error:
            raise ApiError(
                400, "The request body is not a valid multipart form.", code="invalid_multipart"
            ) from error
        self._file_store.put(file)
        return _answer(file.describe(), started)

    async def show(self, request: web.Request) -> web.Response:
        """Handle GET /v1/files/{file_id}."""
        started = time.monotonic()
        check_key(request)
        return _answer(self._file_store.find(request.match_info["file_id"]).describe(), started)

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Handle GET /v1/files/{file_id}/content, also from an offset (Range)."""
        started = time.monotonic()
        check_key(request)
        file = self._file_store.find(request.match_info["file_id"])
        headers = {
            **build_headers(f"req_{uuid.uuid4().hex}", started),
            "Content-Type": "application/octet-stream",
        }
        if self._script.take(BatchFaultKind.DOWNLOAD_CUT_OFF):
            return await _send_half(request, file, headers)
        return web.FileResponse(file.path, headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        """Handle DELETE /v1/files/{file_id}."""
        started = time.monotonic()
        check_key(request)
        file_id = request.match_info["file_id"]
        self._file_store.remove(file_id)
        return _answer({"id": file_id, "object": "file", "deleted": True}, started)

    async def _read(self, request: web.Request) -> StoredFile:
        fields: dict[str, str] = {}
        file: StoredFile | None = None
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise ApiError(400, "Every part of the body must have a name.", code="invalid_multipart")
            if part.name in fields or (part.name == "file" and file):
                raise refuse(part.name, "duplicate_parameter", f"Duplicate parameter: '{part.name}'.")
            if part.name == "file":
                file = await self._store(part)
            elif part.name in _KNOWN:
                fields[part.name] = (await part.read_chunk(_MAX_FIELD_BYTES)).decode()
            else:
                raise refuse(part.name, "unknown_parameter", f"Unknown parameter: '{part.name}'.")
        _check_purpose(fields)
        if file is None:
            raise refuse("file", "missing_required_parameter", "Missing required parameter: 'file'.")
        return file

    async def _store(self, part: BodyPartReader) -> StoredFile:
        if part.filename is None:
            raise refuse(
                "file", "invalid_type", "Invalid type for 'file': expected a file, but got a string instead."
            )
        file, size = self._file_store.prepare(part.filename, "batch"), 0
        with file.path.open("wb") as writing:
            while chunk := await part.read_chunk(_CHUNK):
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise refuse(
                        "file",
                        "file_too_large",
                        f"The file is too large: at most {MAX_FILE_BYTES // 1024**2} MB.",
                    )
                writing.write(chunk)
        if not size:
            raise refuse("file", "empty_file", "The file is empty.")
        return file


def _check_purpose(fields: dict[str, str]) -> None:
    purpose = fields.get("purpose")
    if purpose is None:
        raise refuse("purpose", "missing_required_parameter", "Missing required parameter: 'purpose'.")
    if purpose != "batch":
        raise refuse(
            "purpose", "invalid_value", f"The simulator accepts files only for 'batch', not '{purpose[:80]}'."
        )


def _answer(document: object, started: float) -> web.Response:
    return web.json_response(document, headers=build_headers(f"req_{uuid.uuid4().hex}", started))


async def _send_half(request: web.Request, file: StoredFile, headers: dict[str, str]) -> web.StreamResponse:
    """Announce the whole file, send its first half, and close the connection."""
    content = file.path.read_bytes()
    response = web.StreamResponse(headers=headers)
    response.content_length = len(content)
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
